"""A bounded part of the sweep of faults; `make faults` tries every fault of every command."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sweeps.injection import injected
from tests.sweeps.works import HEAVY, LIGHT

ROOT = Path(__file__).parents[2]


def swept(name, *options):
    """The counts that the sweep of one command prints; a process of its own, since it forks and breaks."""
    command = [sys.executable, "-m", "tests.sweeps.faults", "--works", name, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith(f"{name}: "))
    return {what: int(count) for count, what in re.findall(r"(\d+) ([a-z ]+)", line.partition(": ")[2])}


@pytest.mark.parametrize("name", LIGHT)
def test_a_fault_leaves_a_line_and_then_the_undisturbed_result(name):
    if name == "crop":
        pytest.importorskip("rasterio")
    found = swept(name, "--points", "12", "--kills", "8")
    assert found["events"] > 40 and found["refused in a line"] >= 8 and found["killed"] == 8


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("RSML_LONG"), reason="minutes: make long")
@pytest.mark.parametrize("name", sorted(set(HEAVY) - {"export"}))
def test_a_fault_of_a_command_with_a_model_does_too(name):
    if name == "map":
        pytest.importorskip("rasterio")
    assert swept(name, "--points", "2")["refused in a line"] >= 4


STEPS = ["folder", "open", "write", "sync", "rename", "sync"]


@pytest.mark.parametrize("number", range(1, 7))
def test_each_step_of_a_write_is_one_that_can_fail(tmp_path, number):
    """The layer that lets writes fail is no test if it lets them pass."""
    from rsml.utils.files import write_text

    write_text(tmp_path / "a", "old")
    is_borne = number in (1, 6)  # a folder that is there already, one that cannot be synced
    with injected(tmp_path, number) as watched:
        try:
            write_text(tmp_path / "a", "new")
            assert is_borne
        except OSError as fault:
            assert fault.strerror == "No space left on device" and not is_borne
    assert watched.seen[:number] == STEPS[:number] and watched.fired
    assert (tmp_path / "a").read_text() == ("new" if is_borne else "old")
    assert os.listdir(tmp_path) == ["a"]
