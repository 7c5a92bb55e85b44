"""The sweep of faults: every command with its n-th write failing, or killed at it, and then once more without.

    python -m tests.sweeps.faults [--works divide index ...] [--points N] [--kills N] [--seed N]

Without --points every one is tried. What may come of a fault is one line and exit code 2, or the undisturbed result;
what comes of the same command afterwards is the undisturbed result.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from rsml.cli.faults import run as as_command
from tests.sweeps.injection import CODES, injected
from tests.sweeps.works import ALL, LIGHT, Work, content, make_data


class Broken(AssertionError):
    """A fault did what no fault may do."""


def attempt(work: Work, folder: Path, data: Path) -> tuple[int, str]:
    """Runs a command as the command line does; returns its exit code and what it said of its fault."""
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        code = as_command(lambda: work(folder, data))
    return code, said.getvalue()


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


class Sweep:
    """One command and what it makes when nothing disturbs it.

    Args:
        name: The command.
        workplace: An empty folder.
    """

    def __init__(self, name: str, workplace: Path) -> None:
        self.name, self.work, self.place = name, ALL[name], workplace
        self.data = make_data(workplace / "data")
        self.target = workplace / name / "made"
        # Once before anything is counted, so that what is done only once a process is done.
        for _ in range(2):
            self._clear()
            with injected(self.target) as watched:
                code, said = attempt(self.work, self.target, self.data)
            if code:
                raise Broken(f"{name}: fails undisturbed: {said}")
        self.events = watched.seen
        self.expected = content(self.target)

    def _clear(self) -> None:
        shutil.rmtree(self.target, ignore_errors=True)
        self.target.parent.mkdir(exist_ok=True)

    def points(self, count: int | None) -> list[int]:
        """Numbers of events: all, or some that are spread over them and hold the first and last of each kind."""
        if count is None or count >= len(self.events):
            return list(range(1, len(self.events) + 1))
        last = {kind: number for number, kind in enumerate(self.events, 1)}
        first = {kind: number for number, kind in reversed(list(enumerate(self.events, 1)))}
        spread = [1 + round(step * (len(self.events) - 1) / max(1, count - 1)) for step in range(count)]
        return sorted({*spread, *first.values(), *last.values()})

    def fail(self, number: int, code: int) -> str:
        """Lets an event fail, and then runs the command again; returns what came of it."""
        self._clear()
        with injected(self.target, number, code) as watched:
            exit_code, said = attempt(self.work, self.target, self.data)
        where = f"{self.name}: event {number} of {len(self.events)} ({self.events[number - 1]}), {os.strerror(code)}"
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        if exit_code not in (0, 2) or (exit_code == 2 and len(errors) != 1):
            raise Broken(f"{where}: exit code {exit_code}, said {said!r}")
        if not watched.fired:
            return "not reached"
        self._again(where)
        return "refused in a line" if exit_code else "borne"

    def kill(self, number: int) -> str:
        """Kills the command at an event, in a process of its own, and then runs it again."""
        self._clear()
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException), injected(self.target, number, None):
                attempt(self.work, self.target, self.data)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        self._again(f"{self.name}: killed at event {number} of {len(self.events)} ({self.events[number - 1]})")
        return "killed" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL else "not reached"

    def _again(self, where: str) -> None:
        code, said = attempt(self.work, self.target, self.data)
        if code:
            raise Broken(f"{where}: the command cannot be run again: {said}")
        if different := differences(self.expected, content(self.target)):
            raise Broken(f"{where}: afterwards another result: {', '.join(different[:6])}")


def sweep(name: str, workplace: Path, points: int | None, kills: int, seed: int = 0) -> Counter[str]:
    """All faults of one command; returns how many ended how."""
    tried, draw = Sweep(name, workplace), random.Random(seed)
    found: Counter[str] = Counter(events=len(tried.events))
    for position, number in enumerate(tried.points(points)):
        found[tried.fail(number, CODES[position % len(CODES)])] += 1
    # A process that has started TensorFlow cannot be forked.
    for _ in range(kills if name in LIGHT else 0):
        found[tried.kill(draw.randint(1, len(tried.events)))] += 1
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--works", nargs="+", default=list(ALL), choices=ALL)
    parser.add_argument("--points", type=int)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    broken = 0
    for name in options.works:
        with tempfile.TemporaryDirectory() as place:
            try:
                found = sweep(name, Path(place), options.points, options.kills, options.seed)
                print(f"{name}: " + ", ".join(f"{count} {what}" for what, count in found.items()), flush=True)
            except Broken as fault:
                broken += 1
                print(f"BROKEN {fault}", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
