"""Label names in every form they are given in."""

import json

import pytest

from rsml.data.label_names import read_label_names
from rsml.utils.errors import UserError

NAMES = ("beach", "dense residential", "Zoo")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("names.txt", "\ufeffbeach\ndense residential\n\nZoo\n"),
        ("names", "beach\r\ndense residential\r\nZoo"),
        ("names.csv", "class\nbeach\ndense residential\nZoo\n"),
        ("names.csv", "beach,dense residential,Zoo\n"),
        ("names.csv", "index,name\n2,Zoo\n0,beach\n1,dense residential\n"),
        ("names.csv", "Zoo,3\nbeach,1\ndense residential,2\n"),
        ("names.json", json.dumps(NAMES)),
        ("names.json", json.dumps({"Zoo": 2, "beach": 0, "dense residential": 1})),
        ("names.json", json.dumps({"2": "Zoo", "0": "beach", "1": "dense residential"})),
    ],
)
def test_files(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_label_names(str(tmp_path / name)) == NAMES


def test_a_list_and_one_name():
    assert read_label_names("beach, dense residential,Zoo") == NAMES
    assert read_label_names("beach") == ("beach",)


def test_a_folder_gives_its_folders_as_kerass_generators_number_them(tmp_path):
    for name in ("beach", "airplane", "Zoo", ".cache"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").write_text("")
    assert read_label_names(str(tmp_path)) == ("Zoo", "airplane", "beach")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("names.txt", b"\n \n", "no label names in it"),
        ("names.txt", b"a\nb\na\n", "'a' occurs 2 times"),
        ("names.txt", b"\xff\xfe\x00", "no readable label names"),
        ("names.json", b"{", "no readable label names"),
        ("names.json", b"[1, 2]", "expected a list of names"),
        ("names.json", b'{"a": 0, "b": 2}', "number of its own"),
        ("names.csv", b"a,b,c\nd,e,f\n", "expected one column"),
    ],
)
def test_what_holds_no_names_is_one_line(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as fault:
        read_label_names(str(tmp_path / name))
    assert name in str(fault.value) and "\n" not in str(fault.value)
