"""Python's door: training by name with overrides, a run's numbers, model and predictions, images as they are seen."""

import keras
import numpy as np
import pandas as pd
import pytest

import rsml
from rsml.api import with_settings
from rsml.config import Callback, Experiment, Training
from rsml.methods.signa import Signa
from rsml.utils.errors import UserError


class Tracker(keras.callbacks.Callback):
    """What trackers of experiments do: describe the model, save it, log every number."""

    made: list["Tracker"] = []

    def __init__(self, folder, every=1):
        super().__init__()
        self.folder, self.every, self.rows, self.described = folder, every, [], []
        Tracker.made.append(self)

    def on_train_begin(self, logs=None):
        self.model.summary(print_fn=self.described.append)
        self.config = self.model.get_config(), self.model.optimizer.get_config(), dict(self.params)

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append(dict(logs))
        self.model.save(f"{self.folder}/epoch{epoch}.keras")
        self.model.save_weights(f"{self.folder}/epoch{epoch}.weights.h5")
        self.scores = self.model.predict(np.zeros((1, 32, 32, 3)), verbose=0)
        if epoch + 1 == self.every:
            self.model.stop_training = True


@pytest.fixture(scope="module")
def trained(scene_folder, tmp_path_factory):
    """A run, followed by a tracker given in Python and by one of the config that stops it after two epochs."""
    root = tmp_path_factory.mktemp("runs")
    tracker = Tracker(tmp_path_factory.mktemp("tracked"), every=9)
    named = {"use": f"{__name__}:Tracker", "options": {"folder": str(tmp_path_factory.mktemp("named")), "every": 2}}
    run = rsml.train(
        "scenes", name="x", source=str(scene_folder), image_size=32, fractions=(50, 25, 25), methods=(), epochs=5,
        resamples=20, backbone_rate=0.5, callbacks=[tracker], root=root, **{"training.callbacks": [named]},
    )  # fmt: skip
    return run, tracker, Tracker.made[-1], scene_folder


def test_trackers_see_every_column_and_save_the_served_model(trained):
    run, tracker, named, _ = trained
    assert len(run.history) == len(tracker.rows) == len(named.rows) == 2, "the config's tracker stopped the training"
    assert set(tracker.rows[0]) == set(run.history.columns) - {"epoch"}
    assert {"loss", "val_loss", "val_accuracy", "val_kappa", "learning_rate", "backbone_learning_rate"} <= set(
        tracker.rows[0]
    )
    assert tracker.rows[1]["backbone_learning_rate"] == pytest.approx(tracker.rows[1]["learning_rate"] / 2)
    assert any("predictions" in line for line in tracker.described)
    config, optimizer, params = tracker.config
    assert config["name"] == "rsml_classifier" and "learning_rate" in optimizer and params["epochs"] == 5
    saved = keras.models.load_model(f"{tracker.folder}/epoch1.keras")
    last = keras.models.load_model(run.files.last)
    for one, other in zip(saved.weights, last.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(tracker.scores, last.predict(np.zeros((1, 32, 32, 3)), verbose=0), atol=1e-6)


def test_a_run_stopped_by_a_callback_stays_so_and_its_validation_loss_is_the_cross_entropy(trained):
    run, *_ = trained
    run.files.metrics.unlink()
    again = rsml.train(run.experiment, root=run.folder.parent)
    assert len(again.history) == 2
    np.testing.assert_allclose(again.history["val_loss"], again.history["val_cross_entropy"], rtol=1e-4)


def test_a_run_gives_numbers_tables_and_its_model(trained):
    run, _, _, photos = trained
    files = run.samples.part("test").files
    table = run.predict(list(files))
    names = ["forest", "sand", "water"]
    assert list(table) == ["path", "labels", *(f"score {name}" for name in names)]
    right = table["labels"].map(lambda labels: names.index(labels[0])) == run.samples.part("test").classes
    assert right.mean() == pytest.approx(run.metrics["test"]["accuracy"])
    kept = pd.read_csv(run.files.predictions)
    np.testing.assert_allclose(table.filter(like="score"), kept.filter(like="score"), atol=2e-6)
    batch = rsml.images(list(files), size=32)
    np.testing.assert_allclose(run.model().predict(batch, verbose=0), table.filter(like="score"), atol=1e-5)
    asked = pd.DataFrame({"path": files[:2], "place": ["a", "b"]}, index=[7, 3])
    pd.testing.assert_frame_equal(run.predict(asked).reset_index(drop=True), table[:2])
    assert run.predict(asked).index.tolist() == [7, 3]
    assert len(run.predict(photos)) == 36
    with pytest.raises(UserError, match="expected one 'path'"):
        run.predict(pd.DataFrame({"file": files}))
    with pytest.raises(UserError, match=r"nowhere.png: no such image \(1 of the table's 1"):
        run.predict(pd.DataFrame({"path": ["nowhere.png"]}))
    assert (run.files.logs / "pictures").is_dir() and list((run.files.logs / "pictures").iterdir())


def test_a_large_image_is_shrunk_as_in_training(tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    batch = rsml.images(tmp_path, (16, 32))
    assert batch.shape == (1, 16, 32, 3) and batch.dtype == np.float32
    # An average over many pixels of noise is nearer to grey than one over four.
    plain = keras.utils.image_dataset_from_directory(tmp_path, labels=None, image_size=(16, 32), verbose=False)
    assert batch.std() < 0.8 * next(iter(plain)).numpy().std()
    with pytest.raises(UserError, match="no such image, folder or run"):
        rsml.images([tmp_path / "none.png"], 16)


def test_settings_find_the_one_option_that_is_meant():
    experiment = Experiment(name="x", methods="signa")
    changed = with_settings(experiment, {"epochs": 3, "name": "y", "heads": 2, "data.image_size": 32})
    assert (changed.training.epochs, changed.name, changed.methods[0].heads) == (3, "y", 2)
    assert changed.data.image_size == 32
    both = with_settings(experiment, {"methods": [Signa(heads=2), "ml-gcn"], "methods.signa.heads": 8})
    assert [method.kind for method in both.methods] == ["signa", "ml-gcn"] and both.methods[0].heads == 8
    assert with_settings(experiment, {"training": Training(epochs=2)}).training.epochs == 2
    assert with_settings(experiment, {"objective": "focal", "objective.gamma": 1.0}).objective.gamma == 1
    with pytest.raises(UserError, match=r"'batch_size' is an option of several parts.*training.batch_size.*evaluation"):
        with_settings(experiment, {"batch_size": 3})
    with pytest.raises(UserError, match=r"unknown option 'epoch' \(did you mean 'epochs'\?\)"):
        with_settings(experiment, {"epoch": 3})
    with pytest.raises(UserError, match=r"unknown option 'training.epoch' \(did you mean 'training.epochs'\?\)"):
        with_settings(experiment, {"training.epoch": 3})
    with pytest.raises(UserError, match=r"training\.epochs"):
        with_settings(experiment, {"epochs": -1})


def test_a_config_that_is_not_there_is_one_line():
    with pytest.raises(UserError, match=r"sences.*did you mean 'scenes'"):
        rsml.train("sences")


@pytest.mark.parametrize(
    ("use", "fault"),
    [
        ("nowhere.at.all:Tracker", "ModuleNotFoundError"),
        ("keras.callbacks:Wandb", "AttributeError"),
        ("collections:Counter", "is no keras.callbacks.Callback"),
        (f"{__name__}:Tracker", "TypeError"),
    ],
)
def test_a_callback_that_cannot_be_made_is_one_line(use, fault):
    from rsml.training.callbacks import load_callbacks

    with pytest.raises(UserError, match=f"training.callbacks: .*{fault}"):
        load_callbacks([Callback(use=use)])
