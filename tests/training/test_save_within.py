"""An epoch that is left within it goes on there, bit for bit, whatever keeps a state from step to step."""

import json

import numpy as np
import pytest

from rsml.config import Augment, Data, Experiment, Model, Training, override
from rsml.data.pipeline import training_dataset
from rsml.data.samples import Samples
from rsml.training.epoch_end import TrainingState
from rsml.training.loop import train
from rsml.training.save_within import SaveWithin
from rsml.utils.errors import UserError
from rsml.utils.guard import Damaged
from tests.training.test_loop import assert_same_run


class Cut(Exception):
    """The power fails."""


@pytest.fixture(scope="module")
def experiment(scene_folder):
    return Experiment(
        name="run",
        data=Data(source=str(scene_folder), task="single-label", image_size=32, fractions=(50, 25, 25)),
        augment=Augment(brightness=(0.8, 1.2), mixup=0.2),
        model=Model(dropout=0.3),
        training=Training(epochs=2, batch_size=4, freeze=1, save_every=2),
        evaluation={"figures": False, "calibrate": False, "page": False},
    )


def cut_after(monkeypatch, saves):
    """Lets the n-th writing of the state be the last that a training does, and returns what was trained on after it."""
    real, calls = TrainingState.save, []

    def save(self):
        real(self)
        calls.append((self.epoch, self.step))
        if len(calls) == saves:
            raise Cut

    monkeypatch.setattr(TrainingState, "save", save)
    return calls


# Epochs of five steps (18 images): the state is written after steps 2 and 4 and at the end.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "saves"),
    [
        (["training.accumulate=2", "training.average=0.9", "training.precision=mixed_float16"], (2,)),
        (["methods=grn", "augment.mixup=0", "training.optimizer=sgd"], (5,)),
    ],
)
def test_a_run_left_within_an_epoch_ends_like_one_that_was_not(experiment, tmp_path, monkeypatch, settings, saves):
    experiment = override(experiment, settings)[0]
    whole = train(experiment, root=tmp_path / "whole")
    for number in saves:
        root = tmp_path / str(number)
        with monkeypatch.context() as patch, pytest.raises(Cut):
            seen = cut_after(patch, number)
            train(experiment, root=root)
        assert seen[-1] == [(0, 2), (0, 4), (1, 0), (1, 2), (1, 4)][number - 1]
        with monkeypatch.context() as patch:
            after = cut_after(patch, 100)
            again = train(override(experiment, ["training.save_every=null"])[0], root=root)
        assert after == [(epoch, 0) for epoch in range(seen[-1][0] + 1, 3)], "only what was left is trained"
        assert_same_run(whole, again)


def test_batches_from_a_step_on_are_those_of_the_whole_epoch(scene_folder):
    files = sorted(str(file) for file in scene_folder.rglob("*.png"))[:7]
    samples = Samples(files, np.eye(7, dtype=np.uint8), [f"l{n}" for n in range(7)], "single-label", "/")
    options = {"image_size": 8, "batch_size": 2, "epochs": 3, "seed": 5, "augment": Augment(brightness=0.3)}
    whole = [batch["index"].numpy().tolist() for _, batch in training_dataset(samples, start_epoch=1, **options)]
    for step in range(4):
        part = training_dataset(samples, start_epoch=1, start_step=step, **options)
        assert int(part.cardinality()) == 8 - step
        assert [batch["index"].numpy().tolist() for _, batch in part] == whole[step:]
    for step in (-1, 4):
        with pytest.raises(UserError, match="start_step: expected 0 to 3"):
            training_dataset(samples, start_step=step, **options)


def test_a_batch_is_at_most_what_there_is(scene_folder):
    files = sorted(str(file) for file in scene_folder.rglob("*.png"))[:3]
    samples = Samples(files, np.eye(3, dtype=np.uint8), list("abc"), "single-label", "/")
    batches = list(training_dataset(samples, image_size=8, batch_size=60_000, epochs=2))
    assert [len(images) for images, _ in batches] == [3, 3]


class Kept:
    """A state that only counts."""

    def __init__(self, step=0):
        self.step, self.saved = step, []

    def save(self):
        self.saved.append(self.step)


@pytest.mark.parametrize(
    ("every", "first", "saved"),
    [(1, 0, [1, 2, 3, 4]), (2, 0, [2, 4]), (3, 0, [3]), (4, 0, [4]), (5, 0, []), (6, 0, []), (2, 3, [4]), (2, 4, [])],
)
def test_it_saves_every_so_many_steps_of_an_epoch_but_not_at_its_end(every, first, saved):
    state = Kept(first)
    callback = SaveWithin(state, every, steps=5)
    callback.on_epoch_begin(0)
    for batch in range(5 - first):
        callback.on_train_batch_end(batch)
    assert state.saved == saved


def test_it_saves_by_minutes(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("rsml.training.save_within.time.monotonic", lambda: now[0])
    state = Kept()
    callback = SaveWithin(state, "1.5 min", steps=100)
    callback.on_epoch_begin(0)
    for batch, at in enumerate([89.9, 90.0, 179.9, 180.0, 200.0]):
        now[0] = at
        callback.on_train_batch_end(batch)
    assert state.saved == [2, 4]
    callback.on_epoch_end(0)
    now[0] = 289.9
    callback.on_train_batch_end(50)
    assert state.saved == [2, 4], "the end of an epoch has kept all"


@pytest.mark.parametrize("value", ["0", "-5", "10 hours", "min", "1e9", "5 min 3", "true"])
def test_what_is_neither_steps_nor_minutes_is_refused(value):
    with pytest.raises(UserError, match="save_every"):
        override(Experiment(name="x"), [f"training.save_every={value}"])


@pytest.mark.parametrize("change", [{"step": 0}, {"step": None}])
def test_a_state_whose_parts_contradict_each_other_is_damaged(tmp_path, change):
    from rsml.training.epoch_end import _read_state

    about = {"epoch": 1, "step": 2}
    np.savez(tmp_path / "good.npz", about=np.array(json.dumps(about)), v0=np.ones(2), m0=np.ones(()))
    assert [len(part) for part in _read_state(tmp_path / "good.npz")] == [2, 1, 1]
    np.savez(tmp_path / "bad.npz", about=np.array(json.dumps(about | change)), v0=np.ones(2), m0=np.ones(()))
    with pytest.raises(Damaged, match="lacks some of its variables"):
        _read_state(tmp_path / "bad.npz")
