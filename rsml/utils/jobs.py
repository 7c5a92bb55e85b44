"""Work shared among processes: plain values in, plain values out, faults raised here as if they had happened here."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rsml.utils.errors import UserError

Report = Callable[[int], None]
"""Takes the number of pieces of work that were done since it was last called."""


def run_jobs(
    job: Callable[[dict[str, Any], Report], Any],
    tasks: Sequence[dict[str, Any]],
    workers: int,
    report: Report,
    apart: bool = False,
) -> Iterator[tuple[int, Any]]:
    """Yields (number of the task, result) as tasks are finished; a fault of a task is its result.

    Each process is a fresh interpreter that imports the job's module alone. A pool of multiprocessing's would import
    the caller's main module, and with it TensorFlow, in every process, or fork one in which TensorFlow runs.

    Args:
        job: A function of a module, of a task and a report.
        tasks: Values that JSON holds.
        workers: Processes; 1 works in this one.
        report: Called with the progress, in this process.
        apart: Let one worker be a process of its own, too.
    """
    workers = min(workers, len(tasks))
    if (workers < 2 and not apart) or not sys.executable:
        for number, task in enumerate(tasks):
            try:
                yield number, job(task, report)
            except UserError as error:
                yield number, error
        return
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    for numbered in enumerate(tasks):
        waiting.put(numbered)
    answers: queue.SimpleQueue = queue.SimpleQueue()
    processes = [_start(job) for _ in range(workers)]
    threads = [threading.Thread(target=_feed, args=(process, waiting, answers), daemon=True) for process in processes]
    try:
        for thread in threads:
            thread.start()
        left = len(tasks)
        while left:
            number, kind, value = answers.get()
            if kind == "progress":
                report(value)
                continue
            if kind == "os_error":
                raise OSError(*value)
            if kind == "ended":
                raise UserError(
                    f"a working process ended with exit code {value} (-9: killed, often for want of memory); "
                    "use fewer workers if memory is short, and run again to go on"
                )
            if kind == "crash":
                raise RuntimeError(f"a working process failed: {value}")
            left -= 1
            yield number, UserError(value) if kind == "user_error" else value
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for thread in threads:
            thread.join()
        for process in processes:
            # A process that ended before it read its task leaves what was written to it behind.
            with contextlib.suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]  # a pipe, see _start
            process.stdout.close()  # type: ignore[union-attr]


def _start(job: Callable) -> subprocess.Popen:
    command = [sys.executable, "-m", "rsml.utils.worker", job.__module__, job.__name__]
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def _feed(process: subprocess.Popen, waiting: queue.SimpleQueue, answers: queue.SimpleQueue) -> None:
    """Hands tasks to a process, one after the other, and passes its answers on."""
    assert process.stdin and process.stdout  # pipes, see _start
    while True:
        try:
            number, task = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
            kind = "progress"
            while kind == "progress":
                kind, value = json.loads(process.stdout.readline())
                answers.put((number, kind, value))
        except (OSError, ValueError):
            answers.put((number, "ended", process.wait()))
            return
