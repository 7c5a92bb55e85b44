"""GloVe 6B in the papers' widths: fetched once, checked, and only the words that are of use kept."""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import numpy as np

from rsml.utils.download import fetch
from rsml.utils.errors import UserError
from rsml.utils.files import replacing
from rsml.utils.guard import read_npz

ARCHIVE = "glove.6B.zip"
SOURCE = f"https://downloads.cs.stanford.edu/nlp/data/{ARCHIVE}"
SHA256 = "617afb2fe6cbd085c235baf7a465b96f4112bd7f7ccb2b2cbd649fed9cbcf2fb"
WIDTHS = (50, 100, 200, 300)
FREQUENT = 20_000
"""The first words of the file, its most frequent ones, are kept beside those asked for: 24 MB at width 300."""


def glove_vectors(width: int, forms: Mapping[str, list[tuple[str, ...]]]) -> dict[str, np.ndarray]:
    """The vectors of words, out of what is kept, else out of the archive.

    An archive found in the cache folder is read where it lies; a fetched one (862 MB) is removed once it was read.

    Args:
        width: 50, 100, 200 or 300.
        forms: Each word with the spellings under which it may be found.
    """
    kept = cache_folder() / f"glove.6B.{width}d.words.npz"
    table, missing = _read(kept)
    wanted = {part for options in forms.values() for parts in options for part in parts}
    # A word that the file lacks is looked for in its other forms, which the file may lack as well.
    needed = {part for word, options in forms.items() for parts in options for part in parts if word not in table}
    if needed <= table.keys() | missing:
        return table
    archive = cache_folder() / ARCHIVE
    if archive.is_file():
        found = _words_in(archive, width, wanted)
    else:
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
            advice = (
                f"connect to the network once, put {ARCHIVE} into {archive.parent}, or name an unpacked file, "
                "methods.signa.word_vectors=glove.6B.300d.txt"
            )
            fetched = fetch(SOURCE, Path(folder) / ARCHIVE, SHA256, subject="word vectors (862 MB)", advice=advice)
            found = _words_in(fetched, width, wanted)
    table |= found
    missing |= wanted - table.keys()
    with replacing(kept) as beside:
        np.savez(beside, words=np.array(list(table)), vectors=np.stack([*table.values()]), missing=sorted(missing))
    return table


def cache_folder() -> Path:
    """Where fetched files are kept: `RSML_CACHE`, else `rsml` in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("RSML_CACHE") or Path(cache) / "rsml").expanduser()


def _read(kept: Path) -> tuple[dict[str, np.ndarray], set[str]]:
    if not kept.is_file():
        return {}, set()
    stored = read_npz(kept, ("words", "vectors", "missing"), advice="remove it, and it is made again")
    table = dict(zip(stored["words"].tolist(), stored["vectors"], strict=True))
    return table, set(stored["missing"].tolist())


def _words_in(archive: Path, width: int, wanted: Iterable[str]) -> dict[str, np.ndarray]:
    wanted = {word.encode() for word in wanted}
    member, table = f"glove.6B.{width}d.txt", {}
    try:
        with (
            zipfile.ZipFile(archive) as opened,
            io.BufferedReader(cast(io.RawIOBase, opened.open(member)), 1 << 20) as lines,
        ):
            for number, line in enumerate(lines):
                word, _, numbers = line.partition(b" ")
                if number < FREQUENT or word in wanted:
                    vector = np.array(numbers.split(), np.float32)
                    if vector.shape != (width,):
                        raise ValueError(f"line {number + 1} has {len(vector)} numbers, not {width}")
                    table[word.decode()] = vector
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as fault:
        raise UserError(f"word vectors: {archive} is no whole {ARCHIVE} ({fault}); remove it and try again") from None
    return table
