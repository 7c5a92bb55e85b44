import json
import os
import signal
import sys
import time

import pytest

from rsml.app.jobs import ABOUT, Jobs
from rsml.utils.errors import UserError
from rsml.utils.files import write_json
from rsml.utils.locks import holder
from rsml.utils.progress import progress_bar


def wait(jobs, number, *states):
    while True:
        job = jobs.read(number)
        if job["state"] in states:
            return job
        time.sleep(0.05)


# What a job does here until it is ended: a long map without the seconds that TensorFlow takes to start.
LONG = """
import runpy, sys, time
import rsml.cli.main
from rsml.utils.progress import progress_bar
def main(words):
    with progress_bar(title="mapping", unit="windows", total=100) as bar:
        while True:
            bar.update(bar.n < 40)
            time.sleep(0.02)
rsml.cli.main.main = main
runpy.run_module("rsml.app.jobs", run_name="__main__")
"""


@pytest.fixture
def jobs(tmp_path):
    return Jobs(tmp_path / "jobs")


def test_a_job_ends_and_is_found_by_another_server(jobs):
    started = jobs.start("train", "A config", ["train", "--print-config"], run="x")
    job = wait(jobs, started["id"], "done", "failed")
    assert job["state"] == "done", job["last"]
    found = Jobs(jobs.folder).all()
    assert [(one["id"], one["state"], one["title"], one["run"]) for one in found] == [
        (job["id"], "done", "A config", "x")
    ]
    jobs.forget(job["id"])
    assert Jobs(jobs.folder).all() == []


def test_a_job_that_fails_says_why_in_its_last_line(jobs):
    job = wait(jobs, jobs.start("map", "M", ["predict", "no-such-run", "a.tif"])["id"], "done", "failed")
    assert job["state"] == "failed"
    assert job["last"].startswith("error: no-such-run")


def test_a_job_outlives_its_server_is_cancelled_by_the_next_and_goes_on(jobs, tmp_path, monkeypatch):
    (tmp_path / "long.py").write_text(LONG)
    python = tmp_path / "python"  # called as `python -m rsml.app.jobs FOLDER`
    python.write_text(f'#!/bin/sh\nPYTHONPATH={os.getcwd()} exec {sys.executable} {tmp_path}/long.py "$3"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    number = jobs.start("map", "A map", ["predict"])["id"]
    next_server = Jobs(jobs.folder)
    while not ((job := next_server.read(number))["progress"] or {}).get("done"):
        time.sleep(0.05)
    assert job["state"] == "running"
    assert (job["progress"]["title"], job["progress"]["total"]) == ("mapping", 100)
    with pytest.raises(UserError, match="runs still"):
        next_server.forget(number)
    assert jobs.start("map", "A map", ["predict"])["id"] == number  # the same work is not begun twice
    next_server.cancel(number)
    assert wait(next_server, number, "cancelled", "failed", "done")["state"] == "cancelled"

    next_server.resume(number)
    while holder(jobs.folder / number) is None:
        time.sleep(0.05)
    os.kill(holder(jobs.folder / number)["pid"], signal.SIGKILL)
    assert wait(Jobs(jobs.folder), number, "stopped", "failed", "done")["state"] == "stopped"


@pytest.mark.parametrize("number", ["..", "../../x", "zz", ""])
def test_a_job_is_named_by_its_number_alone(jobs, number):
    write_json(jobs.folder.parent / ABOUT, {"id": "x"})
    with pytest.raises(UserError, match="there is no such job"):
        jobs.read(number)


def test_progress_is_kept_in_a_file_for_whoever_follows(tmp_path, monkeypatch):
    file = tmp_path / "progress.json"
    monkeypatch.setenv("RSML_PROGRESS", str(file))
    with progress_bar(title="embedding", unit="images", total=8, initial=3) as bar:
        bar.update(2)
        bar.refresh()
        assert json.loads(file.read_text()) | {"left_s": 0} == {
            "title": "embedding", "unit": "images", "done": 5, "total": 8, "left_s": 0
        }  # fmt: skip
    assert list(progress_bar([1, 2], title="x", unit="y")) == [1, 2]
