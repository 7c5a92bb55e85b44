"""Which images lie under a folder, and which of them a label file means by a name."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from rsml.utils.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp")


def list_images(root: str | Path) -> list[str]:
    """Returns the images under a folder as posix paths relative to it, in an order that is the same on every machine.

    An image is a file with one of `SUFFIXES` in any case. Hidden files and what macOS packs beside the real files are
    left out; links to folders are followed, each real folder once.
    """
    root, found, entered = str(root), [], {os.path.realpath(root)}
    waiting = [("", root)]
    while waiting:
        prefix, folder = waiting.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name == "__MACOSX":
                    continue
                if entry.is_dir():
                    real = os.path.realpath(entry.path) if entry.is_symlink() else None
                    if real not in entered:
                        entered |= {real} if real else set()
                        waiting.append((f"{prefix}{entry.name}/", entry.path))
                elif is_image_name(entry.name):
                    found.append(prefix + entry.name)
    return sorted(found)


def is_image_name(name: str) -> bool:
    """Whether a name ends as an image's does."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def without_suffix(name: str) -> str:
    """Drops an image suffix; any other dot belongs to the name."""
    return os.path.splitext(name)[0] if is_image_name(name) else name


def _key(path: str) -> str:
    return unicodedata.normalize("NFC", without_suffix(path)).lower()


class ImageIndex:
    """Finds images by the name a label file gives them: with or without folders, suffix and case.

    Args:
        root: the folder that `paths` start from.
        paths: images relative to `root`, posix; `list_images(root)` if not given.
    """

    def __init__(self, root: str | Path, paths: Sequence[str] | None = None):
        self.root = Path(root)
        self.paths = list_images(root) if paths is None else list(paths)
        self._hits: dict[str, list[int]] = {}
        self._outside: dict[str, int] = {}
        self._exact = {path: row for row, path in enumerate(self.paths)}
        for row, path in enumerate(self.paths):
            self._enter(row, _key(path))

    def _enter(self, row: int, key: str) -> None:
        slash = "/"
        while slash:
            self._hits.setdefault(key, []).append(row)
            _, slash, key = key.partition("/")

    def add(self, path: str) -> int:
        """Enters one image from outside the root, by its absolute path; returns its row."""
        if path not in self._outside:
            self._outside[path] = len(self.paths)
            self.paths.append(path)
        return self._outside[path]

    def __len__(self) -> int:
        return len(self.paths)

    def find(self, name: str, source: str = "label file") -> int | None:
        """Returns the row of the image a name means, None if there is none, and refuses a name that means two."""
        if (exact := self._exact.get(name)) is not None:
            return exact
        name = unicodedata.normalize("NFC", name.strip().replace("\\", "/"))
        while name.startswith("./"):
            name = name[2:]
        key = _key(name).lstrip("/")
        rows = self._hits.get(key)
        if rows is None:
            # The file may count its paths from above our root: then the whole of an image's path ends the name.
            while rows is None and "/" in key:
                key = key.partition("/")[2]
                rows = [row for row in self._hits.get(key, ()) if _key(self.paths[row]) == key] or None
        if rows is None or len(rows) == 1:
            return rows[0] if rows else None
        lower = name.lower().lstrip("/")
        for choice in (
            [row for row in rows if self.paths[row] == name],
            [row for row in rows if f"/{self.paths[row]}".lower().endswith("/" + lower)],
            [row for row in rows if _key(self.paths[row]) == key],
        ):
            if len(choice) == 1:
                return choice[0]
        one, other = sorted(self.paths[row] for row in rows)[:2]
        raise UserError(
            f"{source}: {name!r} means {len(rows)} images in {self.root} (such as {one} and {other}); "
            "write the path with its folder and suffix, or move one of them away"
        )
