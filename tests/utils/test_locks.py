"""One writer a folder: refused with who holds it, taken over from the dead, held by other machines."""

import json
import os
import signal
import subprocess
import sys

import pytest

from rsml.utils.errors import UserError
from rsml.utils.files import HOST
from rsml.utils.locks import LOCK, holder, lock

HOLD = """
import sys, time
from rsml.utils.locks import lock
with lock(sys.argv[1], "training"):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(folder):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def test_a_second_writer_is_told_who_holds_it_and_a_dead_one_is_taken_over(tmp_path):
    process = hold(tmp_path)
    try:
        words = rf"in use \(training by process {process.pid} on {HOST} since \d{{4}}-"
        with pytest.raises(UserError, match=words), lock(tmp_path, "a map"):
            pass
        assert holder(tmp_path)["pid"] == process.pid
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (tmp_path / LOCK).is_file()
        with lock(tmp_path, "a map"):
            assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    finally:
        process.kill()
        process.wait()
    assert os.listdir(tmp_path) == [] and holder(tmp_path) is None


def test_it_is_released_after_a_fault_and_refused_to_the_same_process(tmp_path):
    with pytest.raises(ZeroDivisionError), lock(tmp_path / "new" / "folder", "a map"):
        with pytest.raises(UserError, match="in use"), lock(tmp_path / "new" / "folder", "a map"):
            pass
        raise ZeroDivisionError
    assert not (tmp_path / "new").exists()


def test_another_machines_lock_holds_whatever_its_process(tmp_path):
    kept = {"pid": 1, "host": "other", "since": "2026-01-01 00:00:00", "work": "an index build"}
    (tmp_path / LOCK).write_text(json.dumps(kept))
    words = r"an index build by process 1 on other .* is gone, remove .*\.lock"
    with pytest.raises(UserError, match=words), lock(tmp_path, "training"):
        pass
    assert json.loads((tmp_path / LOCK).read_text()) == kept


@pytest.mark.parametrize("content", ["", "{", '{"pid": 999999999, "host": "%s"}' % HOST, "\0" * 40])  # noqa: UP031
def test_what_a_killed_writer_left_half_written_is_taken_over(tmp_path, content):
    (tmp_path / LOCK).write_text(content)
    with lock(tmp_path, "training"):
        assert json.loads((tmp_path / LOCK).read_text())["work"] == "training"


def test_without_locks_in_the_file_system_the_process_number_decides(tmp_path, monkeypatch):
    monkeypatch.setattr("rsml.utils.locks.fcntl", None)
    (tmp_path / LOCK).write_text(json.dumps({"pid": os.getppid(), "host": HOST}))
    with pytest.raises(UserError, match=f"process {os.getppid()}"), lock(tmp_path, "training"):
        pass
    (tmp_path / LOCK).write_text(json.dumps({"pid": 999_999_999, "host": HOST}))
    with lock(tmp_path, "training"):
        pass
