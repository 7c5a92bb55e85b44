"""Checksums that hold at every moment of a write, and what they say of damage."""

import json

import pytest

from rsml.utils.guard import Damaged
from rsml.utils.manifest import MANIFEST, Manifest, digest


def test_a_killed_writer_leaves_no_whole_file_without_its_checksum(tmp_path, monkeypatch):
    manifest, file = Manifest(tmp_path), tmp_path / "state" / "a.bin"
    file.parent.mkdir()
    with manifest.replacing(file) as beside:
        beside.write_bytes(b"first")

    class Killed(BaseException):
        pass

    # Killed between the checksum and the renaming, and right after it.
    import os

    replace = os.replace
    for after in (False, True):

        def killed(source, target, after=after):
            if after or target != file:
                replace(source, target)
            if target == file:
                raise Killed

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(os, "replace", killed)
            with manifest.replacing(file) as beside:
                beside.write_bytes(b"second")
        assert file.read_bytes() == (b"second" if after else b"first")
        assert Manifest(tmp_path).fault("state/a.bin") is None
    file.write_bytes(b"other")
    assert manifest.fault("state/a.bin") == "its checksum is another than when it was written"
    with pytest.raises(Damaged, match=r"a\.bin: damaged \(its checksum .*\); copy it again"):
        manifest.check("state/a.bin", "copy it again")
    file.unlink()
    assert manifest.fault("state/a.bin") == "is gone" and manifest.fault("unknown") is None


def test_only_the_last_two_checksums_are_kept_and_a_damaged_manifest_knows_nothing(tmp_path):
    manifest, file = Manifest(tmp_path), tmp_path / "a"
    for content in (b"1", b"2", b"3"):
        with manifest.replacing(file) as beside:
            beside.write_bytes(content)
    kept = json.loads((tmp_path / MANIFEST).read_text())["files"]["a"]
    assert len(kept) == 2 and kept[-1] == digest(file)
    file.write_bytes(b"1")
    assert manifest.fault("a")
    manifest.record([file])
    assert manifest.fault("a") is None and manifest.names == ["a"]
    (tmp_path / MANIFEST).write_text("{")
    assert manifest.fault("a") is None and manifest.names == []
