import json

import numpy as np
import pytest

from rsml.config import Experiment, Model, Training
from rsml.data.samples import Samples
from rsml.run import Run
from rsml.utils.errors import UserError


def test_another_config_under_the_same_name_is_refused_with_the_difference(tmp_path):
    Run.start(Experiment(name="a"), tmp_path)
    Run.start(Experiment(name="a"), tmp_path)
    with pytest.raises(UserError, match=r"training.epochs: 20 there, 3 now.*--name.*--fresh"):
        Run.start(Experiment(name="a", training=Training(epochs=3)), tmp_path)


def test_an_option_that_came_later_is_no_difference(tmp_path):
    run = Run.start(Experiment(name="a"), tmp_path)
    kept = json.loads(run.files.config.read_text())
    del kept["training"]["h5"]
    run.files.config.write_text(json.dumps(kept))
    assert Run.start(Experiment(name="a"), tmp_path).folder == run.folder
    with pytest.raises(UserError, match=r"training.h5: false there, true now"):
        Run.start(Experiment(name="a", training=Training(h5=True)), tmp_path)


def test_an_old_run_of_kerass_resnet_is_still_one(tmp_path):
    def kept_with(name: str) -> Run:
        run = Run.start(Experiment(name=name, model=Model(backbone="resnet50")), tmp_path)
        kept = json.loads(run.files.config.read_text())
        if name == "old":
            del kept["model"]["head"]
        run.files.config.write_text(json.dumps(kept))
        return run

    old = kept_with("old")
    assert old.experiment.model.backbone == "keras:ResNet50"
    with pytest.raises(UserError, match=r'model.backbone: "keras:ResNet50" there, "resnet50" now'):
        Run.start(Experiment(name="old", model=Model(backbone="resnet50")), tmp_path)
    Run.start(Experiment(name="old", model=Model(backbone="keras:ResNet50")), tmp_path)
    assert kept_with("new").experiment.model.backbone == "resnet50"


def test_fresh_clears_what_a_run_writes_and_nothing_else(tmp_path):
    run = Run.start(Experiment(name="a"), tmp_path)
    run.files.state.parent.mkdir()
    run.files.state.write_bytes(b"x")
    run.files.best.write_bytes(b"x")
    (run.folder / "notes.txt").write_text("mine")
    run = Run.start(Experiment(name="a", training=Training(epochs=3)), tmp_path, fresh=True)
    assert run.experiment.training.epochs == 3
    assert sorted(path.name for path in run.folder.iterdir()) == ["config.json", "manifest.json", "notes.txt"]


def test_opening_says_what_is_missing(tmp_path):
    with pytest.raises(UserError, match=r"not a run folder"):
        Run.open(tmp_path)
    with pytest.raises(UserError, match=r"no best.keras yet"):
        Run.open(Run.start(Experiment(name="a"), tmp_path).folder)
    with pytest.raises(UserError, match=r"no run with a model"):
        Run.newest(tmp_path)


def test_newest_is_the_model_written_last(tmp_path):
    import os

    for time, name in ((100, "late"), (50, "early")):
        run = Run.start(Experiment(name=name), tmp_path)
        run.files.best.write_bytes(b"x")
        os.utime(run.files.best, (time, time))
    assert Run.newest(tmp_path).name == "late"


def test_samples_come_back_and_may_have_moved(tmp_path):
    samples = Samples(
        paths=np.array(["a.png", "deep/b.png"]),
        labels=np.array([[1, 0], [1, 1]]),
        label_names=("sea", "sand"),
        task="multi-label",
        root=tmp_path / "images",
        splits=np.array(["train", "test"]),
    )
    run = Run.start(Experiment(name="a"), tmp_path)
    run.write_samples(samples)
    again = run.read_samples()
    assert again.files.tolist() == samples.files.tolist() and again.task == "multi-label"
    np.testing.assert_array_equal(again.labels, samples.labels)
    assert run.read_samples("/elsewhere").files.tolist() == ["/elsewhere/a.png", "/elsewhere/deep/b.png"]


def test_a_broken_config_is_one_line(tmp_path):
    run = Run.start(Experiment(name="a"), tmp_path)
    run.files.config.write_text("{")
    with pytest.raises(UserError, match=r"config.json: damaged"):
        _ = run.experiment
