import json
import os

import pytest

from rsml.utils.errors import UserError
from rsml.utils.files import (
    HOST,
    check_writable,
    is_leftover,
    leftovers,
    remove,
    replacing,
    reserve,
    write_json,
    write_text,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.json"
    write_text(target, "old")
    with pytest.raises(OSError) as fault, replacing(target) as beside:
        beside.write_text("half")
        raise OSError(28, "No space left on device")
    assert fault.value.filename == str(target)
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_the_stand_in_keeps_the_suffix(tmp_path):
    with replacing(tmp_path / "best.keras") as beside:
        assert beside.suffix == ".keras" and beside.parent == tmp_path
        beside.write_bytes(b"x")
    assert (tmp_path / "best.keras").read_bytes() == b"x"


def test_json_refuses_what_json_has_no_word_for(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"value": float("nan")})
    assert not (tmp_path / "a.json").exists()
    write_json(tmp_path / "deep" / "a.json", {"value": [1, None]})
    assert json.loads((tmp_path / "deep" / "a.json").read_text()) == {"value": [1, None]}


def test_remove_takes_files_folders_and_absence(tmp_path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    for name in ("folder", "file", "absent"):
        remove(tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    mine, alive = f".best.writing-{os.getpid()}@{HOST}.keras", f".best.writing-{os.getppid()}@{HOST}.keras"
    dead, old, far = ".best.writing-999999999@x.keras".replace("@x", f"@{HOST}"), ".best.writing-999999999.keras", ""
    far, other = ".best.writing-999999999@elsewhere.keras", ".last.writing-999999999.keras"
    for name in (alive, dead, old, far, other, "best.writing-1.keras"):
        (tmp_path / name).write_text("x")
    assert {path.name for path in leftovers(tmp_path)} == {dead, old, other}
    with replacing(tmp_path / "best.keras") as beside:
        assert beside.name == mine
        beside.write_text("new")
    assert set(os.listdir(tmp_path)) == {"best.keras", alive, far, other, "best.writing-1.keras"}
    os.utime(tmp_path / far, (0, 0))
    assert is_leftover(tmp_path / far) and not is_leftover(tmp_path / "best.keras")


def test_a_full_disk_names_the_destination_and_a_check_can_refuse(tmp_path):
    target = tmp_path / "copy.jpg"
    with pytest.raises(OSError) as fault, replacing(target):
        raise OSError(28, "No space left on device", "/source.jpg", None, "/beside.jpg")
    assert fault.value.filename == str(target) and fault.value.filename2 is None
    with pytest.raises(OSError) as fault, replacing(target):
        raise OSError(5, "Input/output error", "/source.jpg")
    assert fault.value.filename == "/source.jpg"

    def refuse(beside):
        assert beside.read_text() == "half"
        raise ValueError("not whole")

    with pytest.raises(ValueError, match="not whole"), replacing(target, check=refuse) as beside:
        beside.write_text("half")
    assert os.listdir(tmp_path) == []


def test_space_is_reserved(tmp_path):
    with open(tmp_path / "a", "wb") as file:
        file.truncate(1 << 20)
    assert os.stat(tmp_path / "a").st_blocks * 512 < 1 << 20
    reserve(tmp_path / "a")
    assert os.stat(tmp_path / "a").st_blocks * 512 >= 1 << 20 == os.path.getsize(tmp_path / "a")


@pytest.mark.parametrize(
    ("name", "words"), [("", "is a folder"), ("file/a", "cannot be written"), ("x" * 300, "File name too long"),
                        ("a\0b", "NUL")],
)  # fmt: skip
def test_a_file_that_cannot_be_written_is_refused_before_work(tmp_path, name, words):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=words):
        check_writable(f"{tmp_path}/{name}")
    check_writable(tmp_path / "new" / "folder" / "a.csv")
