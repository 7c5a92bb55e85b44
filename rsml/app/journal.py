"""The journal of corrections: only ever appended to, on disk before it is answered, safe from several writers."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rsml.data.corrections import FORMAT, Decision, Decisions, lines_of
from rsml.utils.errors import UserError

try:
    import fcntl
except ImportError:  # not on Windows, where one server writes
    fcntl = None  # type: ignore[assignment]


class Conflict(UserError):
    """Somebody else has decided about an image since it was shown."""

    def __init__(self, path: str, now: Decision | None, version: str) -> None:
        what = "was taken back" if now is None else f"was decided at {now.at}" + (f" by {now.by}" if now.by else "")
        super().__init__(f"{path}: {what}, after it was shown here; look at it again")
        self.now, self.version = now, version


class Journal:
    """Decisions about images, one JSON line each.

    Whoever decides says which line about the image was the last when it was shown; if another has come since, nothing
    is written and `Conflict` says what it is.

    Args:
        file: The journal; begun with the first decision.
        head: What its first line says of the data.
    """

    def __init__(self, file: str | Path, **head: Any) -> None:
        self.file, self._head = Path(file), head
        self._known, self._read_to = Decisions(), 0
        self._turn = threading.Lock()

    def decisions(self) -> Decisions:
        """All that is decided so far, by other processes too."""
        with self._turn:
            return self._follow()

    def append(
        self, path: str, labels: Sequence[str] | None, *, seen: str = "", note: str = "", by: str = ""
    ) -> Decision:
        """Decides about an image.

        Args:
            path: The image.
            labels: Its labels; None passes it over.
            seen: The version of the image that the decision is about; "" where nothing was decided.
            note: A remark.
            by: Who.
        """
        given = None if labels is None else list(labels)
        self._write(path, seen, {"labels": given, "note": note, "by": by})
        return self._known.current()[path]

    def undo(self, path: str, *, seen: str, by: str = "") -> None:
        """Takes back the last decision about an image."""
        stack = self.decisions().stacks.get(path)
        if not stack:
            raise UserError(f"{path}: nothing is decided about it, so nothing can be taken back")
        self._write(path, seen, {"undo": stack[-1].id, "by": by})

    def _write(self, path: str, seen: str, about: dict[str, Any]) -> None:
        with self._turn, self._held() as number:
            known = self._follow()
            version = known.versions.get(path, "")
            if version != seen:
                raise Conflict(path, known.current().get(path), version)
            at = time.strftime("%Y-%m-%dT%H:%M:%S%z")
            line = {"id": secrets.token_hex(8), "path": path, "at": at, **about}
            new = [line] if known.head else [{"journal": FORMAT, **self._head}, line]
            size = os.fstat(number).st_size
            # A line that a kill cut off must not swallow the next one.
            torn = size > 0 and os.pread(number, 1, size - 1) != b"\n"
            text = ("\n" if torn else "") + "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in new)
            os.write(number, text.encode("utf-8", "surrogateescape"))
            os.fsync(number)
            self._follow()

    @contextlib.contextmanager
    def _held(self) -> Iterator[int]:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        number = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            if fcntl is not None:
                fcntl.flock(number, fcntl.LOCK_EX)
            yield number
        finally:
            os.close(number)  # which releases it

    def _follow(self) -> Decisions:
        """Reads on to the last whole line."""
        if not self.file.is_file():
            self._known, self._read_to = Decisions(), 0
            return self._known
        with open(self.file, "rb") as stream:
            stream.seek(self._read_to)
            data = stream.read()
        whole = data.rfind(b"\n") + 1
        for line in lines_of(data[:whole], self.file):
            self._known.take(line)
        self._read_to += whole
        return self._known
