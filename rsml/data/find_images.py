"""From what a user names (files, folders, globs, lists, stdin) to image paths, one at a time."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from rsml.data.image_index import SUFFIXES
from rsml.utils.errors import UserError


def find_images(named: Iterable[str], suffixes: tuple[str, ...] = SUFFIXES) -> Iterator[str]:
    """Yields image paths: a folder gives the images below it, `-` reads a list from stdin, `@file` from a file.

    What is named must exist, except on a list: a missing file there is met when it is read, and holds nobody up.
    """
    for name in named:
        if name == "-":
            yield from _lines(getattr(sys.stdin, "buffer", sys.stdin), "standard input")
        elif name.startswith("@"):
            try:
                with open(name[1:], "rb") as lines:
                    yield from _lines(lines, name[1:])
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or error
                raise UserError(
                    f"{name[1:]}: list not readable ({why}); give a text file with one image path a line"
                ) from None
        elif os.path.isdir(name):
            yield from _below(name, suffixes)
        elif os.path.isfile(name):
            yield name
        else:
            found = sorted(glob.glob(name, recursive=True)) if glob.has_magic(name) and "\0" not in name else []
            if not found:
                raise UserError(
                    f"{name}: no such image, folder or run; give an existing path, a glob, @list.txt, or - for stdin"
                )
            yield from find_images(found, suffixes)


def _lines(lines: Iterable[str | bytes], source: str) -> Iterator[str]:
    """The paths on a list: UTF-8 with or without a byte-order mark, one a line; blank lines and `#` are passed over."""
    found = False
    for number, line in enumerate(lines, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8") if isinstance(line, bytes) else line
        except UnicodeDecodeError:
            raise UserError(f"{source}, line {number}: not UTF-8 text; save the list as UTF-8") from None
        text = text.strip()
        if "\0" in text:
            raise UserError(f"{source}, line {number}: holds a NUL byte; give one image path a line")
        if text and not text.startswith("#"):
            found = True
            yield text
    if not found:
        raise UserError(f"{source}: no image on the list; give one image path a line")


def _below(folder: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    found = False
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(files):
            if Path(file).suffix.lower() in suffixes and not file.startswith("."):
                found = True
                yield os.path.join(parent, file)
    if not found:
        raise UserError(
            f"{folder}: no image in this folder or below it; expected files ending in {', '.join(sorted(suffixes))}"
        )
