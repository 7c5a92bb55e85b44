"""Checksums of the files in a folder, so that a damaged one is noticed and named.

`manifest.json` keeps for each file the digests that it may have: before a file is replaced its new digest is added, so
at no moment, killed or not, is a whole file without its digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsml.utils.files import replacing, write_json
from rsml.utils.guard import Damaged, read_json

MANIFEST = "manifest.json"
_FORMAT = 1


@dataclass(frozen=True)
class Finding:
    """What is wrong with a file.

    Args:
        file: The file.
        fault: In words.
        remedy: What to do.
    """

    file: Path
    fault: str
    remedy: str

    def text(self) -> str:
        """One line."""
        return f"{self.file}: {self.fault}; {self.remedy}"


class Manifest:
    """The checksums of one folder.

    Args:
        folder: The folder.

    Examples:
        >>> import tempfile
        >>> manifest = Manifest(tempfile.mkdtemp())
        >>> with manifest.replacing(manifest.folder / "a.txt") as beside: _ = beside.write_text("whole")
        >>> manifest.check("a.txt", "copy it again")
        >>> _ = (manifest.folder / "a.txt").write_text("other")
        >>> manifest.fault("a.txt")
        'its checksum is another than when it was written'
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.path = self.folder / MANIFEST

    @contextmanager
    def replacing(self, path: Path, sync: bool = True) -> Iterator[Path]:
        """Yields a path to write to, as `rsml.utils.files.replacing`, and keeps the checksum of what was written."""
        with replacing(path, sync, check=lambda beside: self._add(path, digest(beside))) as beside:
            yield beside

    def record(self, paths: Iterable[Path]) -> None:
        """Keeps the checksums of files as they are."""
        kept = self._read()
        kept |= {self._key(path): [digest(path)] for path in paths}
        self._write(kept)

    @property
    def names(self) -> list[str]:
        """Files that have a checksum, as paths in the folder."""
        return sorted(self._read())

    def fault(self, name: str) -> str | None:
        """What is wrong with a file, or None; one without a checksum is taken as it is.

        Args:
            name: Its path in the folder.
        """
        known = self._read().get(name)
        if known is None:
            return None
        if not (self.folder / name).is_file():
            return "is gone"
        return None if digest(self.folder / name) in known else "its checksum is another than when it was written"

    def check(self, name: str, advice: str) -> None:
        """Refuses a damaged file.

        Args:
            name: Its path in the folder.
            advice: What to do, the end of the line.
        """
        if fault := self.fault(name):
            raise Damaged(f"{self.folder / name}: damaged ({fault}); {advice}")

    def _key(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _add(self, path: Path, added: str) -> None:
        kept = self._read()
        kept[self._key(path)] = [*kept.get(self._key(path), [])[-1:], added]
        self._write(kept)

    def _read(self) -> dict[str, list[str]]:
        if not self.path.is_file():
            return {}
        try:
            files: Any = read_json(self.path).get("files")
        except Damaged:
            return {}  # what it says of others cannot be known; each is taken as it is, and written anew
        return {str(key): list(value) for key, value in files.items()} if isinstance(files, dict) else {}

    def _write(self, kept: dict[str, list[str]]) -> None:
        write_json(self.path, {"format": _FORMAT, "digest": "blake2b-128", "files": kept})


def digest(path: str | Path) -> str:
    """The checksum of a file: 128 bits of BLAKE2b, about a gigabyte a second.

    Args:
        path: The file.
    """
    found = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()
