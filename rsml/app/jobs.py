"""Long work of the page: rsml commands as processes of their own, followed, cancelled, found again after a restart.

A job is a folder that says what it runs, how far it is and how it ended. It outlives the server that started it; one
that was killed goes on with the same command, as every rsml command does.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rsml.utils.errors import UserError
from rsml.utils.exit_codes import INTERRUPTED, SOME_BAD, SOME_UNWRITTEN
from rsml.utils.files import HOST, remove, write_json
from rsml.utils.locks import holder, lock
from rsml.utils.progress import FOLLOWED

ABOUT, PROGRESS, OUTPUT, END = "job.json", "progress.json", "output.txt", "end.json"
_ID = re.compile(r"[0-9a-f-]{10,40}")


class Jobs:
    """The jobs of one folder.

    Args:
        folder: Where each has a folder of its own.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, kind: str, title: str, command: Sequence[str], **about: Any) -> dict[str, Any]:
        """Starts an rsml command, or returns the same one that runs already.

        Args:
            kind: What the page takes it for, as "map".
            title: For people.
            command: The words after `rsml`.
            about: What else is to be kept of it.
        """
        words = [str(word) for word in command]
        for job in self.all():
            if job["command"] == words and job["state"] == "running":
                return job
        number = f"{int(time.time()):x}-{secrets.token_hex(4)}"
        kept = {"id": number, "kind": kind, "title": title, "command": words, "cwd": os.getcwd(), "begun": time.time()}
        write_json(self.folder / number / ABOUT, {**kept, **about})
        return self.resume(number)

    def resume(self, number: str) -> dict[str, Any]:
        """Runs a job's command, again where it has stopped."""
        job = self.read(number)
        if job["state"] == "running":
            return job
        folder = self.folder / number
        for name in (END, PROGRESS):
            remove(folder / name)
        with open(folder / OUTPUT, "wb") as output:
            # Its own session: Ctrl-C in the server's terminal ends the server, not an hour of work.
            self._started[number] = subprocess.Popen(
                [sys.executable, "-m", "rsml.app.jobs", str(folder.resolve())],
                cwd=job["cwd"],
                env={**os.environ, FOLLOWED: str((folder / PROGRESS).resolve()), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.read(number)

    def cancel(self, number: str) -> dict[str, Any]:
        """Interrupts a job as Ctrl-C does: what it has done is kept."""
        job, held = self.read(number), holder(self.folder / number)
        started = self._started.get(number)
        process = held["pid"] if held and held.get("host") == HOST else started.pid if started else None
        if job["state"] == "running" and process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGINT)
        return self.read(number)

    def forget(self, number: str) -> None:
        """Removes what is kept of a job that does not run; what it has made stays."""
        if self.read(number)["state"] == "running":
            raise UserError(f"job {number}: runs still; cancel it first")
        remove(self.folder / number)

    def all(self) -> list[dict[str, Any]]:
        """Every job, the newest first."""
        found = sorted(self.folder.glob(f"*/{ABOUT}"), reverse=True)
        return [self.read(file.parent.name) for file in found]

    def read(self, number: str) -> dict[str, Any]:
        """One job: what was kept of it, its state, progress and last line."""
        folder = self.folder / number
        about = _json(folder / ABOUT) if _ID.fullmatch(number) else None
        if about is None:
            raise UserError(f"job {number}: there is no such job; look at the list of jobs")
        started = self._started.get(number)
        runs = holder(folder) is not None or (started is not None and started.poll() is None)
        end = _json(folder / END)
        # A killed process has written no end.
        state = "running" if runs else "stopped" if end is None else _STATES.get(end["code"], "failed")
        return {**about, "state": state, "progress": _json(folder / PROGRESS), "last": _last_line(folder / OUTPUT)}


_STATES = {0: "done", SOME_BAD: "done", SOME_UNWRITTEN: "done", INTERRUPTED: "cancelled"}


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _last_line(file: Path) -> str:
    """What a command said last; its fault, where it ended with one."""
    try:
        with open(file, "rb") as output:
            output.seek(max(0, os.path.getsize(file) - 4000))
            text = output.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    return re.sub(r"[\x00-\x1f\x7f]+(\[[0-9;]*m)?", "", lines[-1])[:400] if lines else ""


def _work(folder: Path) -> int:
    """Runs the command of a job and keeps how it ended."""
    from rsml.cli.main import main

    with lock(folder, "a job"):
        try:
            code = main(json.loads((folder / ABOUT).read_text(encoding="utf-8"))["command"])
        except KeyboardInterrupt:
            code = INTERRUPTED
        except BaseException:
            traceback.print_exc()
            code = 1
        write_json(folder / END, {"code": code, "ended": time.time()})
    return code


if __name__ == "__main__":
    sys.exit(_work(Path(sys.argv[1])))
