"""Which hosts are at one job, by what a user, TF_CONFIG or SLURM says."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rsml.utils.errors import UserError


@dataclass(frozen=True)
class Cluster:
    """The hosts of a job.

    Attributes:
        hosts: `host:port` of each, the chief's first.
        rank: This one's place among them.
    """

    hosts: tuple[str, ...]
    rank: int

    def __post_init__(self) -> None:
        for host in self.hosts:
            if not re.fullmatch(r"[^\s:]+:\d{1,5}", host) or not 0 < int(host.rpartition(":")[2]) < 65535:
                raise UserError(f"--hosts: '{host}' is no host:port; give them as node1:4000,node2:4000")
        if len(set(self.hosts)) < len(self.hosts):
            raise UserError(f"--hosts {','.join(self.hosts)}: names a host twice; each process needs a port of its own")
        if not 0 <= self.rank < len(self.hosts):
            raise UserError(
                f"--rank {self.rank}: expected 0 to {len(self.hosts) - 1}, for there are {len(self.hosts)} hosts"
            )

    def named(self, rank: int) -> str:
        """A host for people."""
        return f"host {self.hosts[rank]} (rank {rank})"


def find_cluster(hosts: str | None, rank: int | None, environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """The hosts of this job: as they are given, else of TF_CONFIG, else of SLURM; None is this one alone.

    Args:
        hosts: `a:port,b:port`.
        rank: This one's place among them.
        environment: Variables of the process.

    Example:
        >>> find_cluster("node1:4000,node2:4000", 1)
        Cluster(hosts=('node1:4000', 'node2:4000'), rank=1)
        >>> step = {"SLURM_STEP_NUM_TASKS": "3", "SLURM_STEP_NODELIST": "gpu[08-09,12]", "SLURM_PROCID": "2"}
        >>> find_cluster(None, None, {**step, "SLURM_JOB_ID": "7"}).hosts
        ('gpu08:20014', 'gpu09:20014', 'gpu12:20014')
    """
    if (hosts is None) != (rank is None):
        raise UserError("--hosts and --rank: one is there without the other; give every process both")
    if hosts is not None and rank is not None:
        found = Cluster(tuple(host.strip() for host in hosts.split(",") if host.strip()), rank)
    elif environment.get("TF_CONFIG"):
        found = _of_tensorflow(environment["TF_CONFIG"])
    elif int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        found = _of_slurm(environment)
    else:
        return None
    return found if len(found.hosts) > 1 else None


def _of_tensorflow(text: str) -> Cluster:
    try:
        kept = json.loads(text)
        jobs, task = kept["cluster"], kept["task"]
        kinds = [kind for kind in ("chief", "worker") if kind in jobs]
        places = [(kind, number) for kind in kinds for number in range(len(jobs[kind]))]
        return Cluster(
            tuple(jobs[kind][number] for kind, number in places), places.index((task["type"], task["index"]))
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"TF_CONFIG: expected {{'cluster': {{'worker': [...]}}, 'task': {{'type': 'worker', 'index': 0}}}}, found "
            f"{text[:80]!r} ({type(error).__name__}); mend it, or unset it to train on this host alone"
        ) from None


def _of_slurm(environment: Mapping[str, str]) -> Cluster:
    names = _expanded(environment.get("SLURM_STEP_NODELIST", ""))
    tasks = int(environment["SLURM_STEP_NUM_TASKS"])
    if len(names) != tasks:
        raise UserError(
            f"srun: {tasks} tasks on {len(names)} hosts; start one a host, which uses all its GPUs "
            "(--ntasks-per-node=1), or set SLURM_STEP_NUM_TASKS=1 for trainings of their own"
        )
    # Two ports a job, so that jobs that share a host do not meet.
    port = 20000 + 2 * int(environment.get("SLURM_JOB_ID", "0")) % 20000
    return Cluster(tuple(f"{name}:{port}" for name in names), int(environment.get("SLURM_PROCID", "0")))


def _expanded(names: str) -> list[str]:
    """SLURM's short form in full: "gpu[08-09,12],login" is gpu08, gpu09, gpu12, login."""
    found = []
    for part in re.findall(r"(?:[^,\[\]]|\[[^\]]*\])+", names):
        head, bracket, rest = part.partition("[")
        inside, _, tail = rest.partition("]")
        for piece in inside.split(",") if bracket else ["-"]:
            first, _, last = piece.partition("-")
            numbers = [f"{n:0{len(first)}d}" for n in range(int(first), int(last or first) + 1)] if bracket else [""]
            found += [head + number + more for number in numbers for more in (_expanded(tail) if tail else [""])]
    return found


def fingerprint(text: str) -> str:
    """16 hex digits that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_fingerprint() -> str:
    """Changes with any line of this package and with the versions of what computes."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(str(file.relative_to(root)).encode() + file.read_bytes())
    for package in ("tensorflow", "keras", "numpy"):
        digest.update(importlib.metadata.version(package).encode())
    return digest.hexdigest()[:16]
