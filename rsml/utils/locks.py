"""One writer a folder: a second one is refused and says who holds it; what a dead process held is taken over.

The lock is a file `.lock` in the folder. On one machine the kernel decides (flock), so nothing a killed process held
stays held. Between machines that share the folder the rule is the name in the file: held by another machine is held,
until that one releases it or a person removes the file, for whether a process lives elsewhere cannot be seen from here.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rsml.utils.errors import UserError
from rsml.utils.files import HOST, is_alive
from rsml.utils.guard import Damaged, parse_json

try:
    import fcntl
except ImportError:  # not on Windows, where the process number in the file decides
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
logger = logging.getLogger(__name__)


@contextlib.contextmanager
def lock(folder: str | Path, work: str) -> Iterator[None]:
    """Holds a folder for one writer.

    Args:
        folder: The folder; made if it is not there, and removed again if nothing came into it.
        work: What is done in it, as "training", for whoever is refused.

    Raises:
        UserError: Somebody else holds it.

    Examples:
        >>> import tempfile
        >>> with lock(tempfile.mkdtemp(), "training"): pass
    """
    path = Path(folder) / LOCK
    made = [one for one in (path.parent, *path.parent.parents) if not one.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    number = _take(path)
    try:
        about = {"pid": os.getpid(), "host": HOST, "since": time.strftime("%Y-%m-%d %H:%M:%S"), "work": work}
        os.ftruncate(number, 0)
        os.pwrite(number, json.dumps(about).encode(), 0)
        yield
    finally:
        # Removed while it is held: whoever waits for this very file finds that it is gone and asks again.
        with contextlib.suppress(OSError):
            os.unlink(path)
            for one in made:
                one.rmdir()  # unless something came into it
        os.close(number)


def holder(folder: str | Path) -> dict[str, Any] | None:
    """Who holds a folder, or None: "pid", "host", "since", "work".

    Args:
        folder: The folder.
    """
    try:
        number = os.open(Path(folder) / LOCK, os.O_RDWR)
    except OSError:
        return None
    try:
        kept = _read(number)
        return kept if _is_held(number, kept) else None
    finally:
        os.close(number)


def _take(path: Path) -> int:
    while True:
        number = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        try:
            kept = _read(number)
            if _is_held(number, kept):
                raise _busy(path, kept)
            if _is_still(path, number):
                if kept:
                    logger.info("%s: was held by process %s, which is dead; taken over", path.parent, kept.get("pid"))
                return number
        except BaseException:
            os.close(number)
            raise
        os.close(number)


def _is_held(number: int, kept: dict[str, Any]) -> bool:
    """Whether another holds the open file; takes it if nobody does."""
    if kept.get("host", HOST) != HOST:
        return True
    if fcntl is not None:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return True
    # A file system without locks: the process number in the file decides.
    process = kept.get("pid")
    return isinstance(process, int) and process != os.getpid() and is_alive(process)


def _is_still(path: Path, number: int) -> bool:
    try:
        there, ours = os.stat(path), os.fstat(number)
    except FileNotFoundError:
        return False
    return (there.st_ino, there.st_dev) == (ours.st_ino, ours.st_dev)


def _read(number: int) -> dict[str, Any]:
    try:
        kept: dict[str, Any] = parse_json(os.pread(number, 4096, 0), LOCK)
        return kept
    except Damaged:
        return {}  # just made, or of a writer killed before its first word


def _busy(path: Path, kept: dict[str, Any]) -> UserError:
    who = f"process {kept.get('pid', '?')} on {kept.get('host', HOST)} since {kept.get('since', '?')}"
    elsewhere = kept.get("host", HOST) != HOST
    way = f"or, if that machine is gone, remove {path}" if elsewhere else "or end that process"
    return UserError(
        f"{path.parent}: in use ({kept.get('work', 'work')} by {who}); wait for it, use another folder, {way}"
    )
