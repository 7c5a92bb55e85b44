import json
import os

import pytest

from rsml.utils.files import remove, replacing, write_json, write_text


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
