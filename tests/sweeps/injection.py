"""Lets the n-th write, open, rename, sync or allocation of a command's files fail, or kills the process at it."""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

CODES = (errno.ENOSPC, errno.EIO, errno.EACCES)
_WRITES = set("wax+")


class Injection:
    """Counts what is done to files below a folder, and lets one of it fail.

    Args:
        root: The folder.
        number: Which one fails, counted from 1; 0 only counts.
        code: The error; None kills the process.

    Attributes:
        seen: Kind of each event, in order.
    """

    def __init__(self, root: Path, number: int = 0, code: int | None = errno.ENOSPC) -> None:
        self.root, self.number, self.code = os.path.realpath(root), number, code
        self.seen: list[str] = []

    @property
    def fired(self) -> bool:
        return 0 < self.number <= len(self.seen)

    def event(self, kind: str, path: Any) -> None:
        self.seen.append(kind)
        if len(self.seen) != self.number:
            return
        if self.code is None:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(self.code, os.strerror(self.code or 0), None if path is None else os.fspath(path))

    def is_ours(self, path: Any) -> bool:
        if isinstance(path, int):
            with contextlib.suppress(OSError):
                return os.readlink(f"/proc/self/fd/{path}").startswith(self.root)
            return False
        # Locks hold nothing that a fault could damage, and come first and last each time.
        return os.path.abspath(os.fspath(path)).startswith(self.root) and Path(os.fspath(path)).name != ".lock"

    def watch(self, kind: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def watched(path: Any, *arguments: Any, **options: Any) -> Any:
            if self.is_ours(path):
                self.event(kind, None if isinstance(path, int) else path)
            return real(path, *arguments, **options)

        return watched

    def open(self, file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **options: Any) -> Any:
        if isinstance(file, int) or not _WRITES & set(mode) or not self.is_ours(file):
            return _open(file, mode, buffering, *rest, **options)
        self.event("open", file)
        raw = _Watched(self, os.fspath(file), mode.replace("b", "").replace("t", ""))
        binary = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)
        return binary if "b" in mode else io.TextIOWrapper(binary, *rest, line_buffering=buffering == 1, **options)


class _Watched(io.FileIO):
    def __init__(self, injection: Injection, path: str, mode: str) -> None:
        self._injection = injection
        super().__init__(path, mode)

    def write(self, data: Any) -> int:
        self._injection.event("write", self.name)
        return super().write(data)

    def truncate(self, size: int | None = None) -> int:
        self._injection.event("allocate", self.name)
        return super().truncate(size)


_open = builtins.open


@contextlib.contextmanager
def injected(root: Path, number: int = 0, code: int | None = errno.ENOSPC) -> Iterator[Injection]:
    """Within it, the n-th thing done to files below a folder fails."""
    injection = Injection(root, number, code)
    kinds = {"replace": "rename", "rename": "rename", "fsync": "sync", "posix_fallocate": "allocate", "mkdir": "folder"}
    with contextlib.ExitStack() as stack:
        for place in (builtins, io):
            stack.enter_context(mock.patch.object(place, "open", injection.open))
        for name, kind in kinds.items():
            stack.enter_context(mock.patch.object(os, name, injection.watch(kind, getattr(os, name))))
        yield injection
