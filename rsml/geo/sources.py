"""Which files make up which scene, and what a scene is called: from the words on the command line."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rsml.raster.opening import find_rasters, inside_another
from rsml.utils.errors import UserError


@dataclass(frozen=True)
class Source:
    """The files of one scene.

    Args:
        name: What its tiles are named by.
        files: One, or several that each hold some of its bands.
    """

    name: str
    files: tuple[str, ...]


def find_sources(named: Iterable[str]) -> list[Source]:
    """Scenes by what a user names: files, folders, globs, `@list.txt`, `a.tif,b.tif`, `name=a.tif,b.tif`.

    Scenes of one name are told apart by their folders.
    """
    sources: list[Source] = []
    for word in named:
        sources += _sources(word)
    if not sources:
        raise UserError("no scenes named; give files, folders, globs or @list.txt")
    names = Counter(source.name for source in sources)
    result = [
        Source(f"{Path(source.files[0]).resolve().parent.name}_{source.name}", source.files)
        if names[source.name] > 1
        else source
        for source in sources
    ]
    for name, count in Counter(source.name for source in result).items():
        if count > 1:
            raise UserError(f"{count} scenes are called {name!r}; give each its own name, as in {name}_1=FILE")
    return sorted(result, key=lambda source: source.name)


def _sources(word: str) -> list[Source]:
    if os.path.exists(word) or word.startswith("@") or word == "-" or inside_another(word):
        files = [word] if inside_another(word) else find_rasters([word])
        return [Source(_stem(file), (file,)) for file in files]
    name, separator, listed = word.partition("=")
    if not separator:
        name, listed = "", word
    if os.sep in name:
        name, listed = "", word
    files = [file.strip() for file in listed.split(",") if file.strip()]
    if len(files) == 1 and not name:
        return [Source(_stem(file), (file,)) for file in find_rasters(files)]
    for file in files:
        if not os.path.exists(file) and not inside_another(file):
            raise UserError(f"{file}: no such file, named in {word!r}; give existing files, with commas between them")
    return [Source(name or _shared_stem(files), tuple(files))]


def _stem(file: str) -> str:
    return Path(file).stem


def _shared_stem(files: list[str]) -> str:
    """What the names of band files have in common: landsat_b4.tif and landsat_b3.tif are landsat."""
    shared = os.path.commonprefix([_stem(file) for file in files])  # noqa: RUF071  (names, not paths)
    return re.sub(r"[_\-. ]*(band|b)?[_\-. 0]*$", "", shared, flags=re.IGNORECASE) or _stem(files[0])
