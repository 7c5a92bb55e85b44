"""What is set to hold TensorFlow's notes back stays in the process that set it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rsml.utils.quiet import log_level_restored

LEVEL = "TF_CPP_MIN_LOG_LEVEL"


@pytest.mark.parametrize("before", [None, "1"])
def test_the_level_is_as_it_was_whatever_is_set_within(monkeypatch, before):
    if before is None:
        monkeypatch.delenv(LEVEL, raising=False)
    else:
        monkeypatch.setenv(LEVEL, before)
    with pytest.raises(RuntimeError), log_level_restored():
        os.environ[LEVEL] = "3"
        raise RuntimeError
    assert os.environ.get(LEVEL) == before


@pytest.mark.slow
def test_a_start_is_silent_and_leaves_no_level_to_processes_that_follow():
    code = (
        "import os, subprocess, sys\n"
        "from rsml.utils.quiet import start_tensorflow\n"
        "start_tensorflow()\n"
        f"assert {LEVEL!r} not in os.environ\n"
        "subprocess.run([sys.executable, '-c', 'from rsml.utils.quiet import start_tensorflow; start_tensorflow()'])\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != LEVEL}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2]
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
