"""What is decided at the end of an epoch, as tables of monitored values: no network, no training."""

import json
import logging
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from rsml.config import Training
from rsml.training.epoch_end import EpochEnd, TrainingState
from rsml.training.optimizers import Schedule
from rsml.utils.errors import UserError

NAN = float("nan")


class Run:
    """A run that only notes what is written, in order."""

    def __init__(self, folder):
        self.written = []
        self.files = SimpleNamespace(best="best", last="last", state=folder / "state" / "state.npz")

    def write_model(self, model, path):
        self.written.append(path)

    def write_history(self, rows):
        self.written.append(f"history of {len(rows)}")


def ended(tmp_path, values, monitor="accuracy", **options):
    """A training whose validation said these values, epoch after epoch until it was to stop."""
    options = {"learning_rate": 1.0, "schedule": "constant", **options}
    run, said = Run(tmp_path), iter(values)
    optimizer = keras.optimizers.SGD(Schedule(1.0, options["schedule"], steps=5, epochs=9))
    optimizer.build([keras.Variable([1.0])])
    optimizer.backbone_rate = 0.1
    trainer = SimpleNamespace(
        served="model", optimizer=optimizer, variables=[], metrics=[], begin_epoch=lambda epoch: None
    )
    state = TrainingState(trainer, run)
    measure = lambda: {} if monitor == "epoch" else {monitor: next(said)}  # noqa: E731
    callback = EpochEnd(state, Training(**options), SimpleNamespace(monitor=monitor, measure=measure))
    callback.set_model(SimpleNamespace(stop_training=False, optimizer=optimizer))
    scales = []
    for epoch in range(len(values)):
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch, {"loss": 1.0})
        scales.append(float(state.schedule.scale.numpy()))
        if callback.model.stop_training:
            break
    return SimpleNamespace(state=state, run=run, scales=scales, epochs=len(scales), stopped=state.stopped)


@pytest.mark.parametrize(
    ("monitor", "values", "best", "since"),
    [
        ("accuracy", [0.5], 1, 0),
        ("accuracy", [0.5, 0.5], 1, 1),  # an equal value is no better one
        ("accuracy", [0.5, 0.4, 0.6], 3, 0),
        ("accuracy", [0.5, 0.6, 0.4, 0.6], 2, 2),
        ("accuracy", [NAN, 0.1], 2, 0),
        ("accuracy", [0.1, NAN], 1, 1),
        ("accuracy", [NAN, NAN], None, 2),
        ("accuracy", [0.0, 1e-12], 2, 0),
        ("accuracy", [float("-inf"), 0.0], 2, 0),
        ("cross_entropy", [2.0, 1.0, 1.5], 2, 1),  # less is better
        ("cross_entropy", [1.0, 1.0], 1, 1),
        ("cross_entropy", [NAN, 9.0, 8.0], 3, 0),
        ("loss", [1.0, 0.5], 2, 0),
        ("epoch", [0, 0, 0], 3, 0),  # without a validation part the last one counts
    ],
)
def test_which_epoch_is_the_best(tmp_path, monitor, values, best, since):
    found = ended(tmp_path, values, monitor).state
    assert (found.best_epoch, found.since_best, found.epoch) == (best, since, len(values))
    if best is not None and monitor != "epoch":
        assert found.best == values[best - 1]


@pytest.mark.parametrize(
    ("patience", "values", "epochs", "stopped"),
    [
        (None, [5, 4, 3, 2, 1], 5, False),
        (1, [5, 4, 3], 2, True),
        (2, [5, 4, 3, 2], 3, True),
        (3, [5, 4, 3], 3, False),
        (2, [5, 4, 6, 5, 4, 9], 5, True),  # a better epoch begins the count anew
        (2, [5, 5, 5, 5], 3, True),  # equal values use patience up
        (2, [5, NAN, NAN, 9], 3, True),  # so do figures that are none
        (1, [NAN, 5, 5], 1, True),
    ],
)
def test_when_it_stops_for_want_of_patience(tmp_path, patience, values, epochs, stopped):
    found = ended(tmp_path, values, patience=patience)
    assert (found.epochs, found.stopped) == (epochs, stopped)


@pytest.mark.parametrize(
    ("patience", "values", "scales"),
    [
        (1, [5, 4, 3, 6, 5], [1, 0.5, 0.25, 0.25, 0.125]),
        (2, [5, 4, 4, 4, 4], [1, 1, 0.5, 0.5, 0.25]),  # a drop begins the count anew
        (2, [5, 4, 6, 5, 6], [1, 1, 1, 1, 0.5]),
        (2, [NAN, NAN, 1, 0, 0], [1, 0.5, 0.5, 0.5, 0.25]),
        (3, [5, 4, 3], [1, 1, 1]),
    ],
)
def test_when_a_plateau_lowers_the_rate(tmp_path, patience, values, scales):
    options = {"plateau_patience": patience, "step_factor": 0.5}
    assert ended(tmp_path, values, schedule="plateau", **options).scales == scales
    assert set(ended(tmp_path, values, schedule="step", **options).scales) == {1.0}, "under no other schedule"


@pytest.mark.parametrize(
    ("values", "written"),
    [
        ([1, 2], ["best", "last", "history of 1", "best", "last", "history of 2"]),
        ([2, 1], ["best", "last", "history of 1", "last", "history of 2"]),
        (
            [NAN, NAN],
            ["best", "last", "history of 1", "best", "last", "history of 2"],
        ),  # better one that says NaN than none
        ([NAN, 1, NAN], ["best", "last", "history of 1", "best", "last", "history of 2", "last", "history of 3"]),
    ],
)
def test_what_is_written_and_in_which_order(tmp_path, values, written):
    found = ended(tmp_path, values)
    assert found.run.written == written
    assert found.state.rows[-1] == pytest.approx(
        {
            "epoch": len(values),
            "loss": 1.0,
            "learning_rate": 1.0,
            "backbone_learning_rate": 0.1,
            "val_accuracy": values[-1],
        },
        nan_ok=True,
    )
    with np.load(found.run.files.state) as kept:
        about = json.loads(str(kept["about"]))
    assert about["epoch"] == len(values) and about["step"] == 0 and len(about["rows"]) == len(values)


@pytest.mark.parametrize("loss", [NAN, float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("epoch", "said"), [(0, "no epoch was finished"), (4, "the last good model is epoch 4's, last")]
)
def test_a_loss_that_is_no_number_ends_it_with_the_place(tmp_path, loss, epoch, said):
    state = TrainingState(SimpleNamespace(begin_epoch=lambda epoch: None), Run(tmp_path))
    state.epoch = epoch
    callback = EpochEnd(state, Training(), SimpleNamespace())
    callback.on_epoch_begin(epoch)
    callback.on_train_batch_end(0, {"loss": 1e38})
    with pytest.raises(UserError, match=rf"loss became {loss} in epoch {epoch + 1}, step 7; {said}"):
        callback.on_train_batch_end(6, {"loss": loss})


def test_a_damaged_state_is_replaced_by_the_one_before_it(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    first = ended(tmp_path, [1, 2, 3]).state
    file = first.run.files.state
    file.write_bytes(file.read_bytes()[:50])
    again = TrainingState(first.trainer, first.run)
    assert again.load() and (again.epoch, again.best, len(again.rows)) == (2, 2, 2)
    assert "going on from the state before it" in caplog.text
    file.unlink()
    assert not TrainingState(first.trainer, first.run).load()
