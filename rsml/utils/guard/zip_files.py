"""Zip files of plain members: no encryption, no odd names, no links, nothing that grows beyond what it says."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from rsml.utils.guard.faults import Damaged, Refusal, as_damaged
from rsml.utils.guard.memory import available_memory, in_words

MAX_MEMBERS = 100_000
# Deflate cannot pack tighter than 1032 to 1; what is small may, what is large is suspicious much earlier.
_DEFLATE_LIMIT = 1032
_BOMB_BYTES, _BOMB_RATIO = 256 << 20, 100
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


class ZipReader:
    """Reads the members of a zip file that may come from anywhere.

    Opening refuses: another beginning than a zip file's, encrypted members, methods but stored and deflated, names that
    are absolute, leave the folder, hold a backslash or control characters or stand twice, symbolic links, members that
    overlap or whose sizes cannot be true, and more content than memory. Reading refuses a member that is not
    exactly as long as it says.

    Args:
        path: The file.
        advice: What to do when it is damaged, the end of the line.

    Examples:
        >>> import tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "a.zip")
        >>> with zipfile.ZipFile(path, "w") as archive: archive.writestr("about.json", "{}")
        >>> with ZipReader(path) as archive: archive.read("about.json")
        b'{}'
    """

    def __init__(self, path: str | Path, *, advice: str = "get the file again") -> None:
        self.path, self.advice = Path(path), advice
        with as_damaged(str(path), advice):
            self._file = open(path, "rb")  # noqa: SIM115
            try:
                self._size = self._file.seek(0, io.SEEK_END)
                self._file.seek(0)
                if self._file.read(4) not in (b"PK\x03\x04", b"PK\x05\x06"):
                    raise Refusal("it does not begin as a zip file does")
                self._archive = zipfile.ZipFile(self._file)
                self._members = self._checked()
            except BaseException:
                self._file.close()
                raise

    def __enter__(self) -> ZipReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._archive.close()
        self._file.close()

    def __contains__(self, name: str) -> bool:
        return name in self._members

    @property
    def names(self) -> list[str]:
        """Names of the members, in the order of the file; folders are left out."""
        return list(self._members)

    def size(self, name: str) -> int:
        """Bytes of a member once unpacked, as the file says."""
        return self._member(name).file_size

    def read(self, name: str, max_bytes: int | None = None) -> bytes:
        """A member's bytes.

        Args:
            name: The member.
            max_bytes: The most that is read.
        """
        member = self._member(name)
        if max_bytes is not None and member.file_size > max_bytes:
            raise Damaged(
                f"{self.path}: {name} in it has {in_words(member.file_size)}, at most {in_words(max_bytes)} are read; "
                f"{self.advice}"
            )
        with self.open(name) as file:
            content = file.read(member.file_size + 1)
            if len(content) != member.file_size:
                raise Refusal(f"{name} has {len(content)} bytes and says {member.file_size}")
        return content

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """A member as a stream, whose checksum is compared at its end; faults while it is read name the file."""
        member = self._member(name)
        with as_damaged(f"{self.path}: {name} in it", self.advice), self._archive.open(member) as file:
            yield file  # type: ignore[misc]

    def _member(self, name: str) -> zipfile.ZipInfo:
        if name not in self._members:
            raise Damaged(f"{self.path}: there is no {name} in it; {self.advice}")
        return self._members[name]

    def _checked(self) -> dict[str, zipfile.ZipInfo]:
        entries = self._archive.infolist()
        if len(entries) > MAX_MEMBERS:
            raise Refusal(f"{len(entries)} members, at most {MAX_MEMBERS} are read")
        members: dict[str, zipfile.ZipInfo] = {}
        packed = total = 0
        for entry in entries:
            fault = _fault(entry)
            if entry.filename in members:
                fault = "stands in it twice"
            if fault:
                raise Refusal(f"the member {entry.filename[:80]!r} {fault}")
            packed, total = packed + entry.compress_size, total + entry.file_size
            members[entry.filename] = entry
        if packed > self._size:
            raise Refusal("its members overlap")
        if total > (free := available_memory()):
            raise Refusal(f"it unpacks to {in_words(total)}, and {in_words(free)} of memory are free")
        return {name: entry for name, entry in members.items() if not entry.is_dir()}


def _fault(entry: zipfile.ZipInfo) -> str | None:
    name = entry.filename
    if entry.flag_bits & 0x41:
        return "is encrypted"
    if entry.compress_type not in _METHODS:
        return f"is packed by method {entry.compress_type}; stored and deflated are read"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "is a symbolic link"
    # zipfile cuts a name at a NUL, which stays in orig_filename.
    odd = any(ord(letter) < 32 or letter in "\\:\x7f" for letter in entry.orig_filename)
    if not name or odd or name.startswith("/") or ".." in name.split("/"):
        return "has a name that no model file needs"
    if entry.file_size < 0 or entry.compress_size < 0:
        return "has no size"
    if entry.compress_type == zipfile.ZIP_STORED and entry.file_size != entry.compress_size:
        return "is stored and has two sizes"
    grows = entry.file_size > _DEFLATE_LIMIT * (entry.compress_size + 1)
    if grows or (entry.file_size > _BOMB_BYTES and entry.file_size > _BOMB_RATIO * entry.compress_size):
        return f"says that {entry.compress_size} bytes unpack to {entry.file_size}"
    return None
