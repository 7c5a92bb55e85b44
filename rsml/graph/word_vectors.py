"""Word vectors of the labels: the node features of the label graph.

The built-in table `glove_100d.npz` holds 104 words of GloVe 6B at width 100 (Pennington, Socher and Manning, GloVe:
Global Vectors for Word Representation, EMNLP 2014). GloVe's vectors are released under the Public Domain Dedication
and License 1.0 (PDDL, http://www.opendatacommons.org/licenses/pddl/1.0/).
"""

import gzip
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike

from rsml.data.spelling import spellings_of, words_of
from rsml.graph.glove import WIDTHS, glove_vectors
from rsml.utils.errors import UserError

_TABLE = Path(__file__).with_name("glove_100d.npz")
_GLOVE = {f"glove-{width}d": width for width in WIDTHS}
_BUILT_IN = "the built-in GloVe table"
_WAYS_OUT = 'rename the label, give another GloVe text file or a (labels, width) array, or choose "one-hot" or "random"'
_Reader = Callable[[Mapping[str, list[tuple[str, ...]]]], Mapping[str, np.ndarray]]
_RANDOM_SCALE = 0.4  # the standard deviation of GloVe 6B's components, so that the choices start alike


def word_vectors(
    label_names: Sequence[str], source: str | Path | ArrayLike | None = None, *, seed: int = 0, width: int = 300
) -> np.ndarray:
    """Find one vector for each label.

    A label is split into words (`bare-soil`, `mobile_home`, `storagetanks`) and is the mean of their vectors. A word
    that the source lacks is looked for in the singular, in the plural and in the other English spelling; in the
    built-in table also cut in two (`grassland`), which a table of every word would only answer with nonsense.

    Args:
        label_names: the labels, in the order of the graph.
        source: None for the built-in table (104 words, width 100); `"glove-300d"` (or 50, 100, 200) for GloVe 6B,
            fetched once; the path of a GloVe text file of any width (plain, gzip, or a zip with one file); `"one-hot"`;
            `"random"`; or an array `(labels, width)`.
        seed: seed of `"random"`. A label's random vector depends on its name, not on its place.
        width: width of `"random"`.

    Returns:
        Vectors as float32, `(labels, width)`.
    """
    names = list(label_names)
    if not names:
        raise UserError("word vectors: expected at least one label name, got none")
    if source is None:
        return _average(names, lambda wanted: _built_in_table(), _BUILT_IN, cut=True)
    if not isinstance(source, (str, Path)):
        return _checked_array(names, source)
    if str(source) == "one-hot":
        return np.eye(len(names), dtype=np.float32)
    if str(source) == "random":
        rows = [np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(width) for name in names]
        return (_RANDOM_SCALE * np.stack(rows)).astype(np.float32)
    if str(source) in _GLOVE:
        return _average(names, partial(glove_vectors, _GLOVE[str(source)]), f"GloVe 6B ({source})")
    path = Path(source).expanduser()
    if not path.is_file():
        raise UserError(
            f'word vectors: no file "{source}"; give "glove-300d", the path of a GloVe text file, '
            f'"one-hot" or "random", or leave it out for {_BUILT_IN}'
        )
    return _average(names, lambda wanted: _read_text(path, wanted), str(path))


def _checked_array(names: list[str], source: ArrayLike) -> np.ndarray:
    try:
        vectors = np.asarray(source, dtype=np.float32)
    except (TypeError, ValueError):
        raise UserError("word vectors: expected a path, a choice or an array of numbers, got something else") from None
    if vectors.ndim != 2 or len(vectors) != len(names) or not vectors.shape[1]:
        raise UserError(
            f"word vectors: expected an array of shape ({len(names)}, width), one row a label, "
            f"got shape {vectors.shape}; give the rows in the order of the label names"
        )
    if not np.isfinite(vectors).all():
        raise UserError("word vectors: expected finite numbers, found NaN or infinity in the array")
    return vectors


def _average(names: list[str], read: _Reader, where: str, cut: bool = False) -> np.ndarray:
    """Averages each label's words; `read` gets every acceptable form of every word."""
    words = {name: words_of(name) for name in names}
    forms = {word: _forms(word, cut) for label_words in words.values() for word in label_words}
    table = read(forms)
    found: dict[str, Any] = {word: _first(options, table) for word, options in forms.items()}
    missing = {word for word, vector in found.items() if vector is None}
    if lacking := [name for name in names if not words[name] or missing.intersection(words[name])]:
        listed = ", ".join(f'"{word}"' for word in sorted(missing)) or "any word"
        raise UserError(f"word vectors: {where} lacks {listed} (labels: {', '.join(lacking)}); {_WAYS_OUT}")
    return np.stack([np.mean([found[word] for word in words[name]], axis=0) for name in names]).astype(np.float32)


def _forms(word: str, cut: bool) -> list[tuple[str, ...]]:
    """The spellings under which a word may be found, best first; each is one word, or two to be averaged."""
    single = [(form,) for form in spellings_of(word)]
    return single + [(word[:end], word[end:]) for end in range(3, len(word) - 2) if cut]


def _first(options: list[tuple[str, ...]], table: Mapping[str, np.ndarray]) -> np.ndarray | None:
    for parts in options:
        if all(part in table for part in parts):
            return np.mean([table[part] for part in parts], axis=0)
    return None


@lru_cache(maxsize=1)
def _built_in_table() -> dict[str, np.ndarray]:
    with np.load(_TABLE) as stored:
        return dict(zip(stored["words"].tolist(), stored["vectors"].astype(np.float32), strict=True))


def _read_text(path: Path, wanted: Mapping[str, list[tuple[str, ...]]]) -> dict[str, np.ndarray]:
    """Reads the wanted words out of a GloVe text file, line by line, and stops once every word has its own vector."""
    candidates = {part.encode() for options in wanted.values() for parts in options for part in parts}
    open_words = {word.encode() for word in wanted}
    table: dict[str, np.ndarray] = {}
    width = None
    with _opened(path) as lines:
        for number, line in _checked_lines(path, lines):
            if number == 1 and _is_header(line):
                continue
            fields = line.count(b" ")
            if width is None:
                width = fields
            word = line.partition(b" ")[0]
            if fields != width:
                # A few words of the larger GloVe files contain spaces themselves; then what stands before is no number.
                if fields < width or _is_number(line.rsplit(b" ", width + 1)[1]):
                    raise UserError(
                        f"{path}: line {number} has {fields} numbers, the lines before have {width}; "
                        "expected one word and the same count of numbers on every line; take an undamaged GloVe file"
                    )
                continue
            if word in candidates:
                table.setdefault(word.decode(), _numbers(path, number, line.split(b" ")[1:]))
                open_words.discard(word)
                if not open_words:
                    break
    if not table:
        raise UserError(f"word vectors: {path} holds none of the label words ({', '.join(wanted)}); {_WAYS_OUT}")
    return table


def _numbers(path: Path, number: int, fields: list[bytes]) -> np.ndarray:
    try:
        vector = np.array(fields, dtype=np.float32)
    except ValueError:
        vector = np.array([np.nan])
    if not fields or not np.isfinite(vector).all():
        raise UserError(
            f"{path}: line {number}: expected a word and finite numbers, found something else; "
            "take an undamaged GloVe text file"
        )
    return vector


def _checked_lines(path: Path, lines: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Numbers the lines; refuses what is no text, before a file without line ends is read as one line."""
    number = 0
    try:
        while line := lines.readline(1 << 20):
            if b"\0" in line or len(line) == 1 << 20 or (number < 100 and not _is_utf8(line)):
                raise UserError(
                    f"{path} is not a text of word vectors (one word and its numbers a line); give GloVe's .txt"
                )
            number += 1
            if line := line.rstrip():
                yield number, line
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as fault:
        raise UserError(f"{path} cannot be read as word vectors ({fault}); download it again") from None
    if not number:
        raise UserError(f"{path} is empty; expected one word and its numbers a line; give GloVe's .txt")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with path.open("rb") as start:
        magic = start.read(4)
    if magic[:2] == b"\x1f\x8b":
        with gzip.open(path) as lines:
            yield lines
    elif magic == b"PK\x03\x04":
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            if len(members) != 1:
                listed = ", ".join(members[:4])
                raise UserError(f"{path} holds {len(members)} files ({listed}); unpack it and give one of them")
            with archive.open(members[0]) as lines:
                yield lines
    else:
        with path.open("rb") as lines:
            yield lines


def _is_header(line: bytes) -> bool:
    """Whether a first line is word2vec's "words width" instead of a vector."""
    fields = line.split()
    return len(fields) == 2 and all(field.isdigit() for field in fields)


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
