"""The one way to write a file: beside, checked, replaced, folder synced; a crash or a full disk leaves the old one."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from rsml.utils.errors import UserError

HOST = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname()) or "host"
_STAND_IN = re.compile(r"\..*\.writing-(\d+)(?:@([A-Za-z0-9-]+))?(\.[^.]*)?(\.part)?")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_A_DAY = 86_400


@contextlib.contextmanager
def replacing(path: str | Path, sync: bool = True, check: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """Yields a path beside `path` to write to; what was written takes its place only when it is whole.

    The stand-in is called `.NAME.writing-PID@HOST.SUFFIX`: it keeps the suffix, since Keras chooses a format by it, and
    says whose it is, so that the next writer of the file removes what a killed one left.

    Args:
        path: The file.
        sync: Whether the file and its folder are to survive a power cut, and left-overs are looked for. Without it a
            power cut may leave an empty file; that is for files in great number whose loss is noticed.
        check: Raises if what was written is not what it should be.

    Examples:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "note.txt"
        >>> with replacing(target) as beside: _ = beside.write_text("whole")
        >>> target.read_text()
        'whole'
    """
    path = Path(path)
    beside = _stand_in(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if sync:
            for leftover in leftovers(path.parent, f".{path.stem}.writing-"):
                remove(leftover)
        yield beside
        if check is not None:
            check(beside)
        if sync:
            with open(beside, "rb") as written:
                os.fsync(written.fileno())
        os.replace(beside, path)
        if sync:
            sync_folder(path.parent)
    except BaseException as fault:
        with contextlib.suppress(OSError, ValueError):
            beside.unlink(missing_ok=True)
        if isinstance(fault, OSError) and (fault.filename in (None, str(beside)) or fault.errno in _FULL):
            # A full disk is the destination's, also where a copy names its source.
            fault.filename, fault.filename2 = str(path), None
        raise


def _stand_in(path: Path) -> Path:
    return path.with_name(f".{path.stem}.writing-{os.getpid()}@{HOST}{path.suffix}")


def remove_left_overs(files: Iterable[Path]) -> int | None:
    """Removes, of some files, the stand-ins that killed writers left behind; returns the process of one that lives."""
    for file in list(files):
        if match := _STAND_IN.fullmatch(file.name):
            process = int(match[1])
            if process != os.getpid() and not is_leftover(file):
                return process
            file.unlink(missing_ok=True)
    return None


def is_leftover(path: str | Path) -> bool:
    """Whether a file is the stand-in of a writer that is dead; one of another machine counts after a day."""
    found = _STAND_IN.fullmatch(Path(path).name)
    if found is None:
        return False
    if found[2] in (None, HOST):
        return not is_alive(int(found[1]))
    try:
        return time.time() - os.lstat(path).st_mtime > _A_DAY
    except OSError:
        return False


def leftovers(folder: str | Path, begin: str = ".") -> list[Path]:
    """What killed writers left in a folder, of one file or of all.

    Args:
        folder: The folder.
        begin: How the names begin.
    """
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.name.startswith(begin)]
    except OSError:
        return []
    return [Path(folder) / name for name in sorted(names) if is_leftover(Path(folder) / name)]


def is_alive(process: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # it is somebody else's
    return True


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder survive a power cut, where the file system can."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def reserve(path: str | Path) -> None:
    """Takes the disk space of a file that is to be mapped: a page without space would end the process without a word.

    Args:
        path: A file of its full length, possibly with holes.
    """
    with open(path, "r+b") as file:
        size = os.fstat(file.fileno()).st_size
        if size and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        elif size and shutil.disk_usage(Path(path).parent).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Writes plain values as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def check_writable(path: str | Path, folder: bool | None = False) -> None:
    """Refuses, before any work, what could not be written: of the wrong kind, under a file, too long, without rights.

    Folders that are missing above it are made when it is written.

    Args:
        path: A file or folder.
        folder: Which of the two it is to be; None: either.
    """
    if not str(path):
        raise UserError(f"an empty name for a {'folder' if folder else 'file'} to write; give one")
    path = Path(path)
    try:
        if path.is_dir():
            if folder is False:
                raise UserError(f"{path}: is a folder, expected a file to write; name a file in it")
        elif path.exists() and (folder or not path.is_file()):
            raise UserError(f"{path}: is no {'folder' if folder else 'plain file'}; name another place")
        above = next(parent for parent in path.absolute().parents if parent.exists())
        # A file is replaced by one that is written beside it, so its folder must allow that.
        place = path if path.is_dir() else above
        if not above.is_dir() or not os.access(place, os.W_OK | os.X_OK):
            raise UserError(f"{path}: cannot be written ({place} allows none); name another place")
        longest = os.pathconf(above, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255
        beside = "" if folder else _stand_in(path).name
        if any(len(os.fsencode(part)) > longest for part in (*path.parts, beside)):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        with contextlib.suppress(FileNotFoundError):
            os.lstat(path)  # says what is wrong with a name
    except ValueError:
        raise UserError(f"{str(path)!r}: no name for a file; leave out the NUL in it") from None
    except OSError as error:
        raise UserError(f"{str(path)[:80]}: cannot be written ({error.strerror}); name another") from None


def remove(path: Path) -> None:
    """Removes a file or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
