"""Whatever a table, list, dictionary or image file holds: it is read, or refused in one line, in bounded memory."""

import io
import json
import os
import resource
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from rsml.data.find_images import find_images
from rsml.data.images import ImageError, decode_bytes
from rsml.data.label_names import read_label_names
from rsml.data.readers import read_samples
from rsml.data.samples import Samples
from rsml.utils.errors import UserError

SETS = Path(__file__).parents[1] / "data" / "sets"
MANY = int(os.environ.get("RSML_SWEEP", "150"))
"""Inputs a parser: a bounded number in the suite, `RSML_SWEEP=100000` for the full sweep."""
sweep = settings(
    max_examples=MANY, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

PIECES = [
    *["0", "1", "2", "-1", "1.0", "nan", "true", "a", "b", "c", "a.png", "b.png", "c.png", "x", "y", "tile", "val"],
    *["path", "image", "labels", "split", "scene", "train", "test"],
    *["", "", " ", "..", ".", "../a.png", "/etc/passwd", "\\a.png", "a/b", "é", "植物", "x;y", "a|b", "['x', 'y']"],
    *["\0", "\x07", "\u2028", "\ufeff", '"', '"a\nb"', '""', "w" * 300, "w" * 5000, "Unnamed: 0", "LABELS"],
]
CELL = st.one_of(st.sampled_from(PIECES), st.text(max_size=5))
ROWS = st.lists(st.lists(CELL, min_size=1, max_size=5), max_size=6)
GRID = st.integers(1, 5).flatmap(
    lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=1, max_size=6)
)


@st.composite
def tables(draw) -> bytes:
    """Tables as hands, spreadsheets and accidents make them."""
    mark = draw(st.sampled_from(",;\t|"))
    ends = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))
    rows = draw(st.one_of(ROWS, GRID))
    if draw(st.booleans()):
        rows = [
            ["path", *[f"l{number}" for number in range(len(row) - 1)]] if not n else row for n, row in enumerate(rows)
        ]
        rows += [
            [name, *draw(st.sampled_from([["1"], ["0"]])) * (len(rows[0]) - 1)] for name in ("a", "b", "c") if rows
        ]
    text = ends.join(mark.join(row) for row in rows)
    data = text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])), "replace")
    return data + draw(st.sampled_from([b"", b"", b"\n", b"\xff", b",,,\n,,,\n", b"\xe9\n"]))


def one_line(fault: UserError) -> None:
    assert str(fault).isprintable() and str(fault), repr(str(fault))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("images")
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (4, 4)).save(root / name)
    return root


@sweep
@given(
    tables(), st.sampled_from([None, None, "multi-label", "single-label", "proportions"]), st.booleans(),
    st.sampled_from(["labels.csv", "table.tsv", "multilabel.csv", "land_cover.csv", "samples.csv"]),
)  # fmt: skip
@example(b",,,\n,,,\n", None, False, "labels.csv")
@example(b"path,,y\na,1,0\nb,0,1\nc,0,1\n", None, False, "labels.csv")
@example(b"path,1,2\na,1,0\nb,0,1\nc,0,1\n", "multi-label", False, "labels.csv")
@example(b"path,x,y\na,0,0\nb,0,0\nc,0,0\n", "multi-label", False, "labels.csv")
@example(b"path,class\na,..\nb,.\nc,x\n", None, False, "labels.csv")
@example(b'path,class\na,"x\ny"\nb,z\nc,z\n', None, False, "labels.csv")
def test_tables(folder, data, task, allow_missing, name):
    file = folder / name
    file.write_bytes(data)
    try:
        for source, labels in ((folder, file), (folder, None), (file, None)):
            try:
                samples = read_samples(source, labels=labels, task=task, allow_missing=allow_missing)
            except UserError as fault:
                one_line(fault)
            else:
                check(samples, folder)
    finally:
        file.unlink()


def check(samples: Samples, folder: Path) -> None:
    """What was read can be trusted: images that are there, labels as the task has them, names for folders."""
    assert len(samples) and all(Path(file).is_file() for file in samples.files)
    assert all(name.strip() and name not in (".", "..") for name in samples.label_names)
    assert samples.labels.any()
    if samples.task == "single-label":
        assert len(samples.label_names) > 1 and (samples.labels.sum(axis=1) == 1).all()
    if not {"path", "scene", "split"} & set(samples.label_names):
        samples.write_csv(folder.parent / "back.csv")
        back = Samples.read_csv(folder.parent / "back.csv", samples.root, samples.task)
        assert back.paths.tolist() == samples.paths.tolist() and back.label_names == samples.label_names


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b",,,\n,,,\n", "2 lines without a single filled cell"),
        (b"path,,y\na,1,0\nb,0,1\nc,1,1\n", "column 2 has no name"),
        (b"path,x,y\na,0,0\nb,0,0\nc,0,0\n", "none of its 3 images has a label"),
        (b"path,class\na,x\nb,x\nc,x\n", r"all images are of one class \(x\)"),
        (b"path,class\na,..\nb,x\nc,x\n", "label '..': expected words"),
        (b'path,class\na,"x\x07"\nb,y\nc,x\n', r"a character that is no text"),
        (b"path,x\xff,y\n", "line 1: not UTF-8 text"),
        ("path,x,y\na,1,0\n".encode("utf-16"), "UTF-16 text"),
        (b"path,x,y\na,1,0\nb,\0,1\n", "line 3: holds a NUL byte"),
        (b"path,x\na,1\n,0\nc,1\n", "line 3: no image is named"),
    ],
)
def test_rules_of_tables(folder, data, message):
    (folder / "labels.csv").write_bytes(data)
    try:
        with pytest.raises(UserError, match=message) as fault:
            read_samples(folder)
        one_line(fault.value)
    finally:
        (folder / "labels.csv").unlink()


def test_labels_with_names_of_numbers_are_kept_and_a_saved_index_is_not(folder):
    (folder / "labels.csv").write_text(",path,1,2,\n0,a,1,0,\n1,b,0,1,\n2,c,1,1,\n")
    samples = read_samples(folder)
    (folder / "labels.csv").unlink()
    assert samples.label_names == ("1", "2") and samples.labels.tolist() == [[1, 0], [0, 1], [1, 1]]


def test_a_table_of_fifty_thousand_columns(folder):
    """Twice the columns take twice the work: a count of comparisons would be 10^9 here."""
    head = ",".join(["path", *(f"l{number}" for number in range(50_000))])
    rows = [",".join([name, *["1", "0"] * 25_000]) for name in ("a", "b", "c")]
    (folder / "labels.csv").write_text("\n".join([head, *rows]))
    samples = read_samples(folder)
    (folder / "labels.csv").unlink()
    assert samples.labels.shape == (3, 50_000) and samples.labels.sum() == 75_000


@sweep
@given(
    st.lists(
        st.one_of(st.sampled_from([b"a.png", b"#", b"", b"\xff", b"\0", b"\xef\xbb\xbfa.png"]), st.binary()), max_size=5
    )
)
def test_lists_of_paths(tmp_path_factory, lines):
    file = tmp_path_factory.mktemp("lists") / "list.txt"
    file.write_bytes(b"\n".join(lines))
    try:
        found = list(find_images([f"@{file}"]))
        assert found and all(path and "\0" not in path for path in found)
    except UserError as fault:
        one_line(fault)


@sweep
@given(st.one_of(tables(), st.binary(max_size=60)), st.sampled_from([".txt", ".csv", ".json"]))
@example(b"[" * 100_000, ".json")
def test_class_names(tmp_path_factory, data, suffix):
    file = tmp_path_factory.mktemp("names") / f"names{suffix}"
    file.write_bytes(data)
    try:
        assert all(read_label_names(str(file)))
    except UserError as fault:
        one_line(fault)


NPY = (SETS / "ucm_ml.npy").read_bytes()


@sweep
@given(st.lists(st.tuples(st.integers(0, len(NPY) - 1), st.integers(0, 255)), max_size=6), st.integers(0, len(NPY)))
def test_dictionaries(tmp_path_factory, changes, end):
    data = bytearray(NPY)
    for place, value in changes:
        data[place] = value
    file = tmp_path_factory.mktemp("npy") / "labels.npy"
    file.write_bytes(data if end % 3 else data[:end])
    try:
        read_samples(SETS / "ucm_ml", labels=file)
    except UserError as fault:
        one_line(fault)


VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.sampled_from(["multi-label", "copy"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)
NOTES = st.one_of(
    VALUE,
    st.dictionaries(st.sampled_from(["task", "how", "root", "parameters", "root from here", "same", "kept"]), VALUE),
)


@sweep
@given(NOTES, st.sampled_from(["division.json", "division.unfinished.json"]))
def test_notes_of_a_division(tmp_path_factory, notes, name):
    from rsml.data.divide import divide

    root = tmp_path_factory.mktemp("division")
    (root / name).write_text(json.dumps(notes))
    (root / "samples.csv").write_text("path,scene,split,x,y\na.png,,train,1,0\n")
    Image.new("RGB", (4, 4)).save(root / "a.png")
    for attempt in (lambda: read_samples(root), lambda: divide(SETS / "class_folders", root)):
        try:
            attempt()
        except UserError as fault:
            one_line(fault)


# Images


def encoded(form: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    if form.startswith("TIFF"):
        tifffile.imwrite(buffer, pixels, photometric="rgb", compression=form.partition(" ")[2] or None)
    else:
        Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


FILES = {form: encoded(form) for form in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "TIFF lzw", "TIFF deflate")}
SIZE = st.sampled_from([0, 1, 7, 64, 5000, 13_000, 30_000, 60_000, 2**31, 2**32 - 1])


def tiff_of(values: dict[int, int], following: int = 0, content: bytes = bytes(64)) -> bytes:
    """A TIFF of one page, all of whose tags are 32-bit numbers."""
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(values.items()))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(values)) + entries + struct.pack("<I", following) + content


GREY = {258: 8, 259: 5, 262: 1, 277: 1}  # 8 bits, LZW
BOMBS = {
    "30 000 x 30 000": tiff_of({**GREY, 256: 30_000, 257: 30_000, 273: 8, 278: 30_000, 279: 64}),
    "13 000 x 13 000": tiff_of({**GREY, 256: 13_000, 257: 13_000, 273: 8, 278: 13_000, 279: 64}),
    "a tile of 60 000 x 60 000": tiff_of({**GREY, 256: 16, 257: 16, 322: 60_000, 323: 60_000, 324: 8, 325: 64}),
    "8 bands of 64 bits": tiff_of({**GREY, 256: 5000, 257: 5000, 258: 64, 277: 8, 273: 8, 278: 5000, 279: 64}),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_a_file_cannot_hold_is_refused_before_it_is_decoded(name, monkeypatch):
    for library, function in ((imagecodecs, "tiff_decode"), (tifffile, "TiffFile"), (Image, "open")):
        monkeypatch.setattr(library, function, lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"too many for one scene|which cannot hold them"):
        decode_bytes(BOMBS[name])


@st.composite
def tiffs(draw) -> bytes:
    """Headers of all kinds over a handful of bytes."""
    values = {256: draw(SIZE), 257: draw(SIZE)}
    values[258] = draw(st.sampled_from([0, 1, 4, 8, 12, 16, 32, 64, 65535]))
    values[259] = draw(st.sampled_from([1, 2, 4, 5, 6, 7, 8, 32773, 34712, 34887, 34925, 50000, 50001, 50002, 9]))
    values[262] = draw(st.integers(0, 9))
    values[277] = draw(st.sampled_from([0, 1, 3, 4, 100, 65535]))
    if draw(st.booleans()):
        values |= {322: draw(SIZE), 323: draw(SIZE), 324: draw(st.sampled_from([8, 2**32 - 1])), 325: draw(SIZE)}
    else:
        values |= {273: draw(st.sampled_from([8, 2**32 - 1])), 278: draw(SIZE), 279: draw(SIZE)}
    values |= {339: draw(st.integers(0, 7))} if draw(st.booleans()) else {}
    return tiff_of(values, draw(st.sampled_from([0, 0, 8, 100])), draw(st.binary(max_size=64)))


@st.composite
def damaged(draw) -> bytes:
    data = bytearray(FILES[draw(st.sampled_from(sorted(FILES)))])
    for place, value in draw(st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=5)):
        data[int(place * len(data))] = value
    return bytes(data[: int(draw(st.sampled_from([1.0, 1.0, 0.5, 0.9])) * len(data))])


@settings(sweep, max_examples=4 * MANY)
@given(st.one_of(tiffs(), damaged(), st.binary(max_size=40)), st.sampled_from([None, [1], [4, 3, 2]]))
def test_image_files(data, bands):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        image = decode_bytes(data, bands)
        assert image.dtype == np.uint8 and image.ndim == 3 and image.size
    except ImageError as fault:
        one_line(fault)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000, "kilobytes, for a file of a few bytes"
