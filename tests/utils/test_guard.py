"""The guarded accessors: each trick is refused in one line, nothing runs, no more memory is taken than a file holds."""

import io
import json
import os
import stat
import struct
import tracemalloc
import zipfile
import zlib

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsml.utils.errors import UserError
from rsml.utils.guard import Damaged, ZipReader, map_npy, parse_json, read_json, read_npy, read_npz
from rsml.utils.guard.hdf5_files import open_hdf5, read_array
from rsml.utils.guard.memory import available_memory
from tests.utils.mutate import mutants

# ---- JSON


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' stands in it twice"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": [-Infinity]}', "-Infinity is no number"),
        ('{"a": 1e999}', "a number too large"),
        ("[" * 101 + "]" * 101, "more than 100 levels"),
        ("[" * 200_000, "damaged"),
        ("[1]", "holds list, expected an object"),
        ('{"a": ' + "9" * 5000 + "}", "damaged"),
        (b'{"a": "\xff"}', "damaged"),
        ("", "damaged"),
    ],
)
def test_json_that_is_refused(text, words):
    with pytest.raises(Damaged, match=words) as fault:
        parse_json(text, "x.json", advice="write it again")
    assert str(fault.value).startswith("x.json: ") and str(fault.value).endswith("; write it again")
    assert "\n" not in str(fault.value)


def test_json_of_exactly_the_bounds_is_read(tmp_path):
    deep = "[" * 99 + "]" * 99
    assert parse_json(f'{{"a": {deep}}}', "x") is not None
    (tmp_path / "a.json").write_text('{"a": 1}')
    assert read_json(tmp_path / "a.json", max_bytes=8) == {"a": 1}
    with pytest.raises(Damaged, match="more than"):
        read_json(tmp_path / "a.json", max_bytes=7)
    with pytest.raises(Damaged, match="is not there"):
        read_json(tmp_path / "b.json")
    assert np.isnan(parse_json('{"a": NaN}', "x", allow_nan=True)["a"])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_json_comes_back_as_it_was(value):
    assert parse_json(json.dumps(value), "x") == value


# ---- zip


def zip_of(path, members, method=zipfile.ZIP_STORED, change=None):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name) if isinstance(name, str) else name, content, method)
    if change:
        path.write_bytes(change(path.read_bytes()))
    return path


def link(name):
    made = zipfile.ZipInfo(name)
    made.external_attr = (stat.S_IFLNK | 0o777) << 16
    return made


def central(field, value, size=4):
    """Overwrites a field of the first central header."""

    def change(content):
        at = content.index(b"PK\x01\x02") + field
        return content[:at] + value.to_bytes(size, "little") + content[at + size :]

    return change


@pytest.mark.parametrize(
    ("members", "options", "words"),
    [
        ([("../a", b"x")], {}, "a name that no model file needs"),
        ([("/etc/a", b"x")], {}, "a name that no model file needs"),
        ([("b\\a", b"x")], {}, "a name that no model file needs"),
        ([("C:a", b"x")], {}, "a name that no model file needs"),
        ([("a\nb", b"x")], {}, "a name that no model file needs"),
        ([(link("a"), b"/etc/passwd")], {}, "symbolic link"),
        ([("a", b"x")], {"change": central(8, 1, 2)}, "encrypted"),
        ([("a", b"x" * 99)], {"method": zipfile.ZIP_LZMA}, "packed by method 14"),
        ([("a", b"x")], {"change": central(24, 50)}, "two sizes"),
        ([("a", b"x")], {"method": zipfile.ZIP_DEFLATED, "change": central(24, 2**31)}, "unpack to"),
        ([("a", b"x" * 50)], {"change": lambda c: b"#!/bin/sh\n" + c}, "does not begin"),
        ([("a", b"x" * 50)], {"change": lambda c: c[:-30]}, "damaged"),
    ],
)
def test_zip_files_that_are_refused(tmp_path, members, options, words):
    path = zip_of(tmp_path / "a.zip", members, **options)
    with pytest.raises(Damaged, match=words) as fault:
        ZipReader(path)
    assert str(fault.value).startswith(f"{path}: ")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zip_members_that_are_refused(tmp_path):
    with pytest.raises(Damaged, match="stands in it twice"):
        ZipReader(zip_of(tmp_path / "twice.zip", [("a", b"x"), ("a", b"y")]))
    path = zip_of(tmp_path / "flipped.zip", [("a", b"x" * 50)], change=lambda c: c.replace(b"xxx", b"xyx", 1))
    with ZipReader(path) as archive, pytest.raises(Damaged, match=r"flipped\.zip: a in it: damaged .*CRC"):
        archive.read("a")
    with ZipReader(zip_of(tmp_path / "good.zip", [("a", b"x" * 50), ("folder/", b"")])) as archive:
        assert (
            archive.names == ["a"] and "a" in archive and archive.size("a") == 50 and archive.read("a", 50) == b"x" * 50
        )
        with pytest.raises(Damaged, match="at most 49 bytes"):
            archive.read("a", 49)
        with pytest.raises(Damaged, match="there is no b in it"):
            archive.read("b")


def test_a_zip_bomb_takes_no_memory(tmp_path):
    """A quarter of a gigabyte of zeros in a quarter of a megabyte."""
    path = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a", "w", force_zip64=True) as member,
    ):
        for _ in range(257):
            member.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(Damaged, match="unpack to"):
        ZipReader(path)
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


def test_overlapping_members_are_refused(tmp_path):
    content = zip_of(tmp_path / "a.zip", [("a", os.urandom(5000))]).read_bytes()
    begin, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    header = content[begin:end]
    closing = bytearray(content[end:])
    closing[8:12] = struct.pack("<HH", 2, 2)
    closing[12:16] = struct.pack("<I", 2 * len(header))
    # The second entry has another name, in the local header too, which cannot be: so any of two faults is named.
    (tmp_path / "a.zip").write_bytes(content[:begin] + header + header.replace(b"a", b"b") + bytes(closing))
    with pytest.raises(Damaged, match=r"overlap|twice"):
        ZipReader(tmp_path / "a.zip")


# ---- numpy


def npy(array, **options):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **options)
    return file.getvalue()


def raw(text):
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text.encode()


def header_of(shape):
    return raw(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy(np.array([{}], object), allow_pickle=True), "holds object"),
        (
            header_of("(1000000000000,)") + b"1234",
            "declares 4000000000000",
        ),
        (header_of("(-1,)"), "says it is an array"),
        (
            header_of("(2,)") + b"123",
            "declares 8 bytes .* holds 3",
        ),
        (
            header_of("(1,)") + b"12345",
            "declares 4 bytes .* holds 5",
        ),
        (raw("__import__('os').system('true')\n"), "damaged"),
        (npy(np.zeros(2, [("a", "f4")])), "not read here"),
        (npy(np.zeros(2), version=(3, 0)), "version"),
        (b"", "damaged"),
    ],
)
def test_npy_files_that_are_refused(tmp_path, content, words):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    for read in (read_npy, map_npy):
        with pytest.raises(Damaged, match=words):
            read(path)
    (zip_of(tmp_path / "a.npz", [("v.npy", content)]))
    with pytest.raises(Damaged, match=words):
        read_npz(tmp_path / "a.npz")


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    st.sampled_from(["<f4", ">f8", "u1", "?", "<i8", "<U3", "S2"]),
    st.lists(st.integers(0, 4), max_size=4),
    st.booleans(),
)
def test_arrays_come_back_as_they_were(tmp_path_factory, kind, shape, fortran):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(kind)
    array = np.asfortranarray(array) if fortran else array
    path = tmp_path_factory.mktemp("n") / "a.npy"
    np.save(path, array)
    np.savez_compressed(path.with_suffix(".npz"), a=array, b=array)
    for found in (read_npy(path), map_npy(path), read_npz(path.with_suffix(".npz"), ["b"])["b"]):
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


def test_an_array_that_is_needed_must_be_there(tmp_path):
    np.savez(tmp_path / "a.npz", a=1)
    with pytest.raises(Damaged, match=r"there is no b\.npy in it"):
        read_npz(tmp_path / "a.npz", ["a", "b"])
    with pytest.raises(Damaged, match="expected 2 axes"):
        np.save(tmp_path / "a.npy", np.zeros(3))
        map_npy(tmp_path / "a.npy", ndim=2)
    with pytest.raises(Damaged, match="not read here"):
        read_npy(tmp_path / "a.npy", kinds="i")


# ---- HDF5


def external(file):
    file.create_dataset("a", shape=(10,), dtype="f4", external=[("secret.bin", 0, 40)])


def virtual(file):
    layout = h5py.VirtualLayout(shape=(10,), dtype="f4")
    layout[:] = h5py.VirtualSource("other.h5", "a", shape=(10,))
    file.create_virtual_dataset("a", layout)


def loop(file):
    file.create_group("g")["up"] = file["/"]


def twice(file):
    file["a"] = np.zeros(3)
    file["b"] = file["a"]


def growing_chunk(file):
    data = file.create_dataset("a", shape=(1000,), dtype="f4", chunks=(1000,), compression="gzip")
    data.id.write_direct_chunk((0,), zlib.compress(bytes(50_000_000), 9))


def deep(file):
    for _ in range(66):
        file = file.create_group("g")


def many_names(file):
    file.attrs["long"] = "x" * (1 << 20)
    text = h5py.string_dtype()
    file.attrs.create("names", ["y"] * 1000, dtype=text)


HDF5 = {
    "external": (external, "lie in other files"),
    "virtual": (virtual, "lie in other files"),
    "soft": (lambda file: file.__setitem__("a", h5py.SoftLink("/b")), "a link to elsewhere"),
    "external link": (lambda file: file.__setitem__("a", h5py.ExternalLink("other.h5", "/b")), "a link to elsewhere"),
    "loop": (loop, "reached by two ways"),
    "twice": (twice, "reached by two ways"),
    "shape": (lambda file: file.create_dataset("a", shape=(10**9, 10), dtype="f4"), "declares 40000000000 bytes"),
    "packed shape": (
        lambda file: file.create_dataset("a", (10**9, 10), "f4", chunks=(1000, 10), compression="gzip"),
        "declares 40000000000 bytes",
    ),
    "chunk": (lambda file: file.create_dataset("a", (10,), "f4", chunks=(10**9,), maxshape=(None,)), "has chunks of"),
    "growing chunk": (growing_chunk, "unpacks to more than"),
    "filter": (
        lambda file: file.create_dataset("a", data=np.zeros(99), compression="lzf"),
        "filters that are not read",
    ),
    "text": (lambda file: file.create_dataset("a", data=["x"]), "holds object"),
    "deep": (deep, "more than 64 levels"),
    "type": (lambda file: file.__setitem__("a", np.dtype("f4")), "neither a group nor an array"),
    "compound": (lambda file: file.attrs.__setitem__("a", np.zeros(1, [("x", "f4")])), "neither text nor numbers"),
}


@pytest.mark.parametrize("trick", HDF5)
@pytest.mark.parametrize("from_memory", [False, True])
def test_hdf5_files_that_are_refused(tmp_path, trick, from_memory):
    build, words = HDF5[trick]
    (tmp_path / "secret.bin").write_bytes(b"secret12" * 5)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        build(file)
    source, subject = (path.read_bytes(), "a.h5") if from_memory else (path, None)
    with pytest.raises(Damaged, match=words) as fault, open_hdf5(source, subject):
        pass
    assert str(fault.value).startswith("a.h5: " if from_memory else f"{path}: ")


def test_a_list_of_texts_larger_than_memory_is_refused(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        many_names(file)
    with open_hdf5(tmp_path / "a.h5") as file:
        assert len(file.attrs["names"]) == 1000
    monkeypatch.setattr("rsml.utils.guard.hdf5_files.available_memory", lambda: 1000 << 20)
    monkeypatch.setattr("rsml.utils.guard.hdf5_files._checked", [])
    with pytest.raises(Damaged, match="a list of 1000 texts"), open_hdf5(tmp_path / "a.h5"):
        pass


def test_ordinary_hdf5_is_read_and_a_changed_file_is_looked_through_again(tmp_path):
    path = tmp_path / "a.h5"
    values = np.random.default_rng(0).normal(size=(30, 40)).astype("f4")
    with h5py.File(path, "w") as file:
        file["plain"], file["scalar"], file["none"] = values, np.float64(3), np.zeros((0, 3))
        file.create_dataset("packed", data=values, compression="gzip", shuffle=True, fletcher32=True, chunks=(7, 9))
        file["plain"].attrs["names"] = [b"a", b"bb"]
        file.attrs["empty"], file.attrs["null"] = [], h5py.Empty("f4")
    with open_hdf5(path) as file:
        np.testing.assert_array_equal(read_array(file["plain"]), values)
        np.testing.assert_array_equal(read_array(file["packed"]), values)
        assert read_array(file["scalar"]) == 3 and read_array(file["none"]).shape == (0, 3)
        with pytest.raises(ValueError, match="no array of numbers"):
            read_array(file)
    with h5py.File(path, "a") as file:
        file["link"] = h5py.SoftLink("/plain")
    with pytest.raises(Damaged, match="link to elsewhere"), open_hdf5(path):
        pass


# ---- damage


def files(folder):
    array = np.random.default_rng(0).normal(size=(5, 6)).astype("f4")
    np.save(folder / "a.npy", array)
    np.savez(folder / "a.npz", a=array, b=array.T, c=np.array("text"))
    (folder / "a.json").write_text(json.dumps({"a": [1, {"b": "x" * 50}], "c": None}))
    return {"a.npy": read_npy, "a.npz": read_npz, "a.json": read_json}


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.json"])
def test_damage_is_one_line_and_takes_no_memory(tmp_path, name):
    read = files(tmp_path)[name]
    content, refused = (tmp_path / name).read_bytes(), 0
    tracemalloc.start()
    for mutant in mutants(content, 400):
        (tmp_path / name).write_bytes(mutant)
        try:
            read(tmp_path / name)
        except UserError as fault:
            refused += 1
            assert "\n" not in str(fault) and str(tmp_path / name) in str(fault)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused > 100 and peak < 50 << 20


def test_there_is_some_memory():
    assert 1 << 20 < available_memory() < 1 << 50
