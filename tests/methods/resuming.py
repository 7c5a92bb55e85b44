"""A run that is stopped in the middle of its second epoch and goes on, beside one that was never stopped."""

import numpy as np
import pytest

import rsml.training.epoch_end
from rsml.training import train


def state_of(run):
    """The arrays that resuming needs, by name."""
    with np.load(run.files.state) as kept:
        return {name: kept[name] for name in kept.files}


def check_that_a_stop_is_made_good(experiment, whole, root, monkeypatch):
    """Stops the experiment in epoch 1, goes on, and compares every array and the history with the whole run's."""
    real = rsml.training.epoch_end.EpochEnd.on_train_batch_end

    def stop_in_the_second(self, batch, logs=None):
        real(self, batch, logs)
        if self.epoch == 1 and batch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(rsml.training.epoch_end.EpochEnd, "on_train_batch_end", stop_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        train(experiment, root=root)
    monkeypatch.undo()
    run = train(experiment, root=root)
    first, second = state_of(whole), state_of(run)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    assert run.files.history.read_text() == whole.files.history.read_text()
