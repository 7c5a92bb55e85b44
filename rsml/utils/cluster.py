"""Several hosts at one job: which they are, and a line between them that notices within seconds when one is gone.

The first host is the chief. Every other one keeps a TCP connection to it, on the port after the chief's own. Over it go
comparisons, small arrays and a sign of life every second; arithmetic has its own ways (see `rsml.training.hosts`).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import queue
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rsml.utils.errors import UserError

WAIT = 60.0
"""Seconds within which every host must be there."""
SILENCE = 20.0
"""Seconds without a sign of life after which a host counts as gone."""
_ALIVE, _DATA, _LOST, _END = b"a", b"d", b"l", b"e"


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


class Link:
    """The line between the hosts of a job; opened on every one of them, it is there once all are.

    When a host goes without having closed it, every other process ends with one line and exit code 2: TensorFlow
    itself would wait for the missing numbers.

    Args:
        cluster: The hosts.
        wait: Seconds within which all must be there.
    """

    def __init__(self, cluster: Cluster, wait: float = WAIT) -> None:
        self.cluster, self.wait = cluster, wait
        self._closing = False
        self._ended: set[int] = set()
        self._sending = threading.Lock()
        self._peers = self._gathered() if cluster.rank == 0 else {0: self._called()}
        self._inbox: dict[int, queue.Queue[bytes]] = {rank: queue.Queue() for rank in self._peers}
        for rank, peer in self._peers.items():
            peer.settimeout(SILENCE)
            threading.Thread(target=self._listen, args=(rank,), daemon=True).start()
        threading.Thread(target=self._breathe, daemon=True).start()

    @property
    def chief(self) -> bool:
        """Whether this is the host that writes."""
        return self.cluster.rank == 0

    def exchange(self, value: bytes = b"") -> list[bytes]:
        """What every host has given, in their order; returns when all have (so it is a barrier too)."""
        if not self.chief:
            self._send(0, _DATA, value)
            return _unpacked(self._inbox[0].get())
        values = [value, *(self._inbox[rank].get() for rank in sorted(self._peers))]
        for rank in self._peers:
            self._send(rank, _DATA, _packed(values))
        return values

    def agree(self, subject: str, fingerprint: str, advice: str) -> None:
        """Refuses on every host what is not the same on all of them.

        Args:
            subject: What is compared, for people.
            fingerprint: Of this host's.
            advice: What to do about it.
        """
        found = [text.decode() for text in self.exchange(fingerprint.encode())]
        other = next((rank for rank, text in enumerate(found) if text != found[0]), None)
        if other is not None:
            self.close()
            raise UserError(
                f"{self.cluster.named(other)}: has {subject} {found[other]}, and {self.cluster.named(0)} has {found[0]}; "
                f"{advice}"
            )

    @contextlib.contextmanager
    def chief_first(self) -> Iterator[None]:
        """The chief goes through it before all others do: what it writes there, they find."""
        if not self.chief:
            self.exchange()
        yield
        if self.chief:
            self.exchange()

    def close(self) -> None:
        """Ends the line; that the others go is as it should be from here on, and they learn the same of this one."""
        self._closing = True
        for peer in self._peers.values():
            with contextlib.suppress(OSError), self._sending:
                _write(peer, _END, b"")

    def _gathered(self) -> dict[int, socket.socket]:
        host, _, port = self.cluster.hosts[0].rpartition(":")
        missing, peers, end = set(range(1, len(self.cluster.hosts))), {}, time.monotonic() + self.wait
        try:
            server = socket.create_server(("", int(port) + 1), reuse_port=False)
        except OSError as error:
            raise UserError(
                f"--hosts: port {int(port) + 1} of {host} cannot be opened ({error.strerror}); choose another"
            )
        with server:
            while missing:
                server.settimeout(max(end - time.monotonic(), 0.01))
                try:
                    peer, _ = server.accept()
                    peer.settimeout(max(end - time.monotonic(), 0.01))
                    rank = int(_receive(peer)[1])
                except (TimeoutError, OSError, ValueError):
                    if time.monotonic() < end:
                        continue  # a port scanner, or one that died at once
                    names = ", ".join(self.cluster.named(rank) for rank in sorted(missing))
                    raise UserError(
                        f"{names}: not there within {self.wait:.0f} s; start the same command there, with its own --rank, "
                        f"and see that it reaches port {int(port) + 1} of {host}"
                    ) from None
                missing.discard(rank)
                peers[rank] = peer
        return peers

    def _called(self) -> socket.socket:
        host, _, port = self.cluster.hosts[0].rpartition(":")
        end = time.monotonic() + self.wait
        while True:
            try:
                peer = socket.create_connection((host, int(port) + 1), timeout=max(end - time.monotonic(), 0.01))
                _write(peer, _DATA, str(self.cluster.rank).encode())
                return peer
            except OSError as error:
                if time.monotonic() > end:
                    raise UserError(
                        f"{self.cluster.named(0)}: port {int(port) + 1} not reached within {self.wait:.0f} s ({error}); "
                        "start the same command there with --rank 0, and see that no firewall is between"
                    ) from None
                time.sleep(0.2)

    def _send(self, rank: int, kind: bytes, value: bytes) -> None:
        try:
            with self._sending:
                _write(self._peers[rank], kind, value)
        except OSError:
            self._lost(rank)

    def _breathe(self) -> None:
        while not self._closing:
            for rank in self._peers:
                self._send(rank, _ALIVE, b"")
            time.sleep(1)

    def _listen(self, rank: int) -> None:
        try:
            while True:
                kind, value = _receive(self._peers[rank])
                if kind == _DATA:
                    self._inbox[rank].put(value)
                elif kind == _END:
                    self._ended.add(rank)
                    return
                elif kind == _LOST:
                    self._lost(int(value))
        except (OSError, EOFError):
            self._lost(rank)

    def _lost(self, rank: int) -> None:
        """Ends this process, from whichever thread: the others may wait within TensorFlow, where nothing reaches them."""
        if self._closing or rank in self._ended:
            return
        self._closing = True
        for other in self._peers:
            with contextlib.suppress(OSError):
                _write(self._peers[other], _LOST, str(rank).encode())
        sys.stdout.flush()
        sys.stderr.write(
            f"error: {self.cluster.named(rank)} has ended, and the others with it; finished epochs are kept; "
            "see what it said, and start the same command on every host to go on\n"
        )
        sys.stderr.flush()
        os._exit(2)


def _write(peer: socket.socket, kind: bytes, value: bytes) -> None:
    peer.sendall(kind + struct.pack("!Q", len(value)) + value)


def _receive(peer: socket.socket) -> tuple[bytes, bytes]:
    head = _exactly(peer, 9)
    return head[:1], _exactly(peer, struct.unpack("!Q", head[1:])[0])


def _exactly(peer: socket.socket, count: int) -> bytes:
    parts, left = [], count
    while left:
        part = peer.recv(min(left, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _packed(values: list[bytes]) -> bytes:
    return b"".join(struct.pack("!Q", len(value)) + value for value in values)


def _unpacked(text: bytes) -> list[bytes]:
    values, place = [], 0
    while place < len(text):
        (size,) = struct.unpack_from("!Q", text, place)
        values.append(text[place + 8 : place + 8 + size])
        place += 8 + size
    return values
