"""Writing files so that a crash or a full disk leaves the old one whole."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

_STAND_IN = re.compile(r"\..*\.writing-(\d+)(\..*)?")


@contextlib.contextmanager
def replacing(path: str | Path, sync: bool = True) -> Iterator[Path]:
    """Yields a path beside `path` to write to; what was written takes its place only when it is whole.

    The stand-in keeps the suffix, since Keras chooses a format by it. Without `sync` a power cut may leave an empty
    file; that is for files in great number whose loss is noticed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.writing-{os.getpid()}{path.suffix}")
    try:
        yield beside
        if sync:
            with open(beside, "rb") as written:
                os.fsync(written.fileno())
        os.replace(beside, path)
    except BaseException as fault:
        beside.unlink(missing_ok=True)
        if isinstance(fault, OSError) and fault.filename in (None, str(beside)):
            fault.filename = str(path)
        raise


def remove_left_overs(files: Iterable[Path]) -> int | None:
    """Removes, of some files, the stand-ins that killed writers left behind; returns the process of one that lives."""
    for file in list(files):
        if match := _STAND_IN.fullmatch(file.name):
            if _lives(process := int(match[1])):
                return process
            file.unlink(missing_ok=True)
    return None


def _lives(process: int) -> bool:
    if os.name != "posix" or process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Writes plain values as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def remove(path: Path) -> None:
    """Removes a file or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
