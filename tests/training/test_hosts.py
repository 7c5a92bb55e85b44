"""Two processes on loopback stand for two hosts."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rsml.training import train
from tests.training.over_devices import experiment
from tests.utils.test_link import free_port

ROOT = Path(__file__).parents[2]


def start(
    config: Path, out: Path, *further: str, each: tuple[tuple[str, ...], ...] = ((), ())
) -> list[subprocess.Popen]:
    """The command on both hosts, whatever they say in OUT/../said0 and said1."""
    port = free_port()
    hosts = f"127.0.0.1:{port},127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "rsml", "train", "--config", str(config), "--out", str(out), "--hosts", hosts]
    processes = []
    for rank in (0, 1):
        with (out.parent / f"said{rank}").open("wb") as said:
            words = [*command, "--rank", str(rank), *further, *each[rank]]
            processes.append(subprocess.Popen(words, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT))
    return processes


def ended(processes: list[subprocess.Popen], seconds: float = 300) -> list[int]:
    try:
        return [process.wait(seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()


def said(out: Path, rank: int) -> str:
    return (out.parent / f"said{rank}").read_text()


@pytest.fixture(scope="module")
def config(multilabel_csv, tmp_path_factory):
    """GRN with dropout: a term with memory, batches that do not divide, more epochs than it takes to be killed."""
    folder = tmp_path_factory.mktemp("hosts")
    made = experiment(str(multilabel_csv), folder, "grn", epochs=8)
    file = folder / "config.json"
    file.write_text(json.dumps({**made.dump(), "name": "run"}))
    return file


@pytest.fixture(scope="module")
def whole(config):
    """A training on two hosts that nothing disturbed."""
    out = config.parent / "whole" / "runs"
    out.parent.mkdir()
    assert ended(start(config, out)) == [0, 0], said(out, 0)[-2000:] + said(out, 1)[-2000:]
    return out


@pytest.mark.slow
def test_two_hosts_learn_what_one_learns(config, whole):
    from rsml.config import Experiment

    alone = train(Experiment.parse(json.loads(config.read_text())), root=config.parent / "alone")
    history = pd.read_csv(whole / "run" / "history.csv")
    for column in ("loss", "sndl", "objective", "val_objective"):
        np.testing.assert_allclose(history[column], alone.history[column], rtol=1e-3, err_msg=column)
    for column in [name for name in history if name.startswith("val_")]:
        np.testing.assert_allclose(history[column], alone.history[column], rtol=1e-3, err_msg=column)
    kept, expected = (
        json.loads((root / "run" / "metrics.json").read_text()) for root in (whole, config.parent / "alone")
    )
    assert kept["test"]["metrics"] == pytest.approx(expected["test"]["metrics"], rel=1e-3, nan_ok=True)
    # The other host is silent.
    assert "run folder:" in said(whole, 0) and said(whole, 1) == ""


@pytest.mark.slow
def test_a_host_that_dies_ends_the_other_and_both_go_on_exactly(config, whole, tmp_path):
    out = tmp_path / "runs"
    processes = start(config, out)
    state = out / "run" / "state" / "state.npz"
    deadline = time.monotonic() + 240
    while not state.is_file() and time.monotonic() < deadline and processes[0].poll() is None:
        time.sleep(0.02)
    os.kill(processes[1].pid, signal.SIGKILL)
    began = time.monotonic()
    assert ended(processes, 30) == [2, -signal.SIGKILL], said(out, 0)[-2000:]
    assert time.monotonic() - began < 30
    last = said(out, 0).splitlines()[-1]
    assert last.startswith("error: host 127.0.0.1:") and "(rank 1) has ended" in last
    assert not (out / "run" / "metrics.json").is_file(), "it must have been killed before its end"
    assert ended(start(config, out)) == [0, 0], said(out, 0)[-2000:]
    with np.load(whole / "run" / "state" / "state.npz") as first, np.load(state) as second:
        assert [name for name in first.files if not np.array_equal(first[name], second[name])] == []


@pytest.mark.slow
def test_hosts_that_disagree_are_refused_before_they_start(config, tmp_path):
    out = tmp_path / "runs"
    assert ended(start(config, out, each=((), ("--set", "training.epochs=9")))) == [2, 2]
    for rank in (0, 1):
        assert said(out, rank).splitlines()[-1].startswith("error: host 127.0.0.1:")
        assert "(rank 1): has the config" in said(out, rank)
    assert not out.exists()
