import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

import rsml.training.epoch_end
from rsml.config import Augment, Data, Experiment, Model, Training, override
from rsml.data.samples import Samples
from rsml.evaluation.scalars import scalar_metrics
from rsml.methods import LabelContext
from rsml.methods.objectives import CrossEntropy, label_weights
from rsml.prediction.scene_model import SceneModel
from rsml.training.finish import evaluate_run
from rsml.training.loop import train
from rsml.training.parts import build, with_label_noise
from rsml.utils.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def experiment(scene_folder):
    return Experiment(
        name="run",
        data=Data(source=str(scene_folder), task="single-label", image_size=32, fractions=(50, 25, 25)),
        augment=Augment(brightness=(0.8, 1.2)),
        model=Model(dropout=0.3),
        training=Training(
            epochs=3, batch_size=4, learning_rate=1e-3, schedule="plateau", plateau_patience=1, patience=9
        ),
        evaluation={"figures": False, "page": False},
    )


@pytest.fixture(scope="module")
def whole(experiment, tmp_path_factory):
    """The experiment, trained without a stop."""
    return train(experiment, root=tmp_path_factory.mktemp("whole"))


def state_of(run):
    with np.load(run.files.state) as kept:
        return {name: kept[name] for name in kept.files}


def assert_same_run(one, other):
    first, second = state_of(one), state_of(other)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    assert one.files.history.read_text() == other.files.history.read_text()
    for weight, again in zip(*(keras.models.load_model(run.files.best).weights for run in (one, other)), strict=True):
        np.testing.assert_array_equal(weight, again)
    assert one.files.metrics.read_text().replace(one.name, "") == other.files.metrics.read_text().replace(
        other.name, ""
    )


def test_a_run_killed_by_the_system_ends_like_one_that_was_not(experiment, whole, tmp_path):
    config = tmp_path / "experiment.json"
    config.write_text(experiment.text())
    code = (
        "import json, sys\n"
        "from rsml.config import Experiment\nfrom rsml.training.loop import train\n"
        f"train(Experiment.parse(json.load(open({str(config)!r}))), root={str(tmp_path / 'killed')!r})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL)
    state = tmp_path / "killed" / "run" / "state" / "state.npz"
    deadline = time.monotonic() + 120
    while not state.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run must still be going on when it is killed"
    assert_same_run(whole, train(experiment, root=tmp_path / "killed"))


@pytest.mark.parametrize("moment", ["write_model", "write_history", "save"])
def test_a_stop_between_any_two_files_is_made_good(experiment, whole, tmp_path, monkeypatch, moment):
    owner = rsml.training.epoch_end.TrainingState if moment == "save" else rsml.run.Run
    real, calls = getattr(owner, moment), []

    def dying(self, *arguments):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("power cut")
        return real(self, *arguments)

    monkeypatch.setattr(owner, moment, dying)
    with pytest.raises(RuntimeError, match="power cut"):
        train(experiment, root=tmp_path / "cut")
    monkeypatch.undo()
    assert_same_run(whole, train(experiment, root=tmp_path / "cut"))


def test_the_checkpoint_is_complete_in_itself(whole, tmp_path):
    run = whole
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    expected = keras.models.load_model(run.files.best).predict(images, verbose=0)
    np.save(tmp_path / "images.npy", images)
    code = (
        "import numpy as np, rsml.layers, keras\n"
        f"model = keras.models.load_model({str(run.files.best)!r})\n"
        "scores = model.predict(np.load('images.npy'), verbose=0)\n"
        "np.save('scores.npy', scores)\n"
        "print(model.layers[-1].labels, model.layers[-1].experiment['training']['epochs'])\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.strip().endswith("('forest', 'sand', 'water') 3")
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), expected, atol=1e-6)
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-5)


def test_a_complete_run_is_not_trained_again(experiment, whole):
    before = whole.files.best.stat().st_mtime_ns
    again = train(experiment, root=whole.folder.parent)
    assert again.folder == whole.folder and again.files.best.stat().st_mtime_ns == before


def test_a_finished_run_goes_on_when_only_its_epochs_grew(experiment, whole, tmp_path):
    short = train(override(experiment, ["training.epochs=2"])[0], root=tmp_path)
    assert len(short.history) == 2
    assert_same_run(whole, train(experiment, root=tmp_path))
    for settings in (["training.epochs=1"], ["training.epochs=9", "training.patience=8"]):
        with pytest.raises(UserError, match="made with another config"):
            train(override(experiment, settings)[0], root=tmp_path)


@pytest.mark.parametrize(
    ("settings", "grows"),
    [
        (["training.schedule=constant"], True),
        (["training.schedule=step"], True),
        (["training.schedule=step", 'training.milestones={"0.5": 0.1}'], False),
        (["training.schedule=cosine"], False),
        (["training.schedule=constant", "methods=grn"], False),
    ],
)
def test_more_epochs_are_well_defined_where_no_schedule_counts_them(settings, grows, tmp_path):
    shorter = override(Experiment(name="x", training=Training(epochs=2)), settings)[0]
    run = rsml.run.Run.start(shorter, tmp_path)
    run.files.best.write_bytes(b"")
    longer = override(shorter, ["training.epochs=3"])[0]
    assert run.grows(longer) is grows
    assert not run.grows(shorter)
    if not grows:
        with pytest.raises(UserError, match=r"training.epochs: 2 there, 3 now.*--set model.weights=.*x"):
            rsml.run.Run.of(longer, tmp_path)


@pytest.mark.parametrize("names", ["water", "water,never"])
def test_one_label_alone_or_one_that_a_part_lacks_runs_through(names, scene_folder, tmp_path, caplog):
    rows = [f"path,scene,split,{names}"]
    for name in ("water", "sand"):
        for number, split in enumerate(["train", "train", "valid", "test"]):
            marks = [int(name == "water"), int(split == "train")][: 1 + ("never" in names)]
            rows.append(f"{scene_folder / name / name}{number:02d}.png,,{split},{','.join(map(str, marks))}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    run = train(
        Experiment(
            name="few",
            data=Data(source=str(tmp_path / "labels.csv"), task="multi-label", image_size=32),
            training=Training(epochs=1, batch_size=2),
            evaluation={"resamples": 20, "bootstrap_chart": True},
        ),
        root=tmp_path,
    )
    drawn = {file.name for file in run.files.figures.iterdir()}
    assert {"label_counts.png", "learning_curves.png", "panel.jpg", "precision_recall.png", "bootstrap.png"} <= drawn
    assert "could not be drawn" not in caplog.text
    assert ("never: no image in the validation part" in rsml.training.finish.report(run)) is ("never" in names)


def test_a_figure_that_fails_is_a_line_and_not_the_end(experiment, whole, tmp_path, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("no ink")

    monkeypatch.setattr("rsml.figures.charts.confusion_matrix", broken)
    drawing = override(whole.experiment, ["evaluation.figures=true"])[0]
    again = rsml.run.Run(shutil.copytree(whole.folder, tmp_path / "copy"))
    again.files.metrics.unlink()
    evaluate_run(again, drawing, whole.samples, best_epoch=1)
    assert "figure confusion_matrix could not be drawn: RuntimeError: no ink" in caplog.text
    assert again.metrics == whole.metrics
    assert (again.files.figures / "label_counts.png").is_file()


def test_it_learns_and_writes_its_numbers(experiment, tmp_path):
    experiment = override(experiment, ["training.epochs=8", "training.schedule=cosine", "training.h5=true"])[0]
    run = train(experiment, root=tmp_path)
    for keras_weight, h5_weight in zip(
        *(keras.models.load_model(p).weights for p in (run.files.best, run.files.best_h5)), strict=True
    ):
        np.testing.assert_array_equal(keras_weight, h5_weight)
    history = pd.read_csv(run.files.history)
    assert history["epoch"].tolist() == list(range(1, 9))
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    assert history["val_accuracy"].max() > 0.8
    predictions = pd.read_csv(run.files.predictions)
    assert len(predictions) == 9 and (predictions[["forest", "sand", "water"]].sum(axis=1) == 1).all()


def test_multilabel_thresholds_are_tuned_and_stored_in_the_model(experiment, multilabel_csv, tmp_path):
    experiment = override(
        experiment,
        [
            f"data.source={multilabel_csv}",
            "data.task=multi-label",
            "evaluation.tune_thresholds=true",
            "training.class_weights=true",
        ],
    )[0]
    run = train(experiment, root=tmp_path)
    stored = keras.models.load_model(run.files.best).layers[-1].thresholds
    assert len(stored) == 3
    # "grass" is on every image, so no threshold can be learned for it.
    assert stored[2] == 0.5
    assert "example_f1" in run.files.metrics.read_text()


def test_nan_loss_names_the_step_and_keeps_the_last_good_model(experiment, tmp_path):
    good = override(experiment, ["training.epochs=1", "training.schedule=constant"])[0]
    run = train(good, root=tmp_path)
    before = run.files.best.read_bytes()
    bad = override(experiment, ["training.learning_rate=1e30", "training.optimizer=sgd", "name=bad"])[0]
    with pytest.raises(
        UserError, match=r"loss became (nan|inf) in epoch 1, step \d+.*no epoch was finished.*learning_rate"
    ):
        train(bad, root=tmp_path)
    assert not (tmp_path / "bad" / "best.keras").exists()
    assert run.files.best.read_bytes() == before


def test_interruption_keeps_the_finished_epochs(experiment, tmp_path, monkeypatch):
    real = rsml.training.epoch_end.EpochEnd.on_epoch_begin

    def stop_in_the_second(self, epoch, logs=None):
        real(self, epoch, logs)
        if epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(rsml.training.epoch_end.EpochEnd, "on_epoch_begin", stop_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        train(experiment, root=tmp_path)
    assert keras.models.load_model(tmp_path / "run" / "best.keras") is not None
    assert len(pd.read_csv(tmp_path / "run" / "history.csv")) == 1


def test_frozen_epochs_move_the_head_only(experiment, tmp_path, monkeypatch):
    kept = []
    real = rsml.training.epoch_end.TrainingState.save
    monkeypatch.setattr(
        rsml.training.epoch_end.TrainingState,
        "save",
        lambda self: (kept.append([w.numpy().copy() for w in self.trainer.network.weights]), real(self)),
    )
    train(override(experiment, ["training.freeze=2"])[0], root=tmp_path)

    def changed(before, after):
        return sum(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))

    assert changed(kept[0], kept[1]) == 2, "in a frozen epoch only the head's kernel and bias move"
    assert changed(kept[1], kept[2]) > 20, "afterwards the backbone moves too"


def test_without_a_validation_part_the_last_epoch_is_the_best(experiment, tmp_path):
    run = train(override(experiment, ["data.fractions=[75,0,25]", "training.schedule=cosine"])[0], root=tmp_path)
    best, last = (keras.models.load_model(path).weights for path in (run.files.best, run.files.last))
    assert all(np.array_equal(a, b) for a, b in zip(best, last, strict=True))


@pytest.mark.parametrize(
    "settings", [["precision=mixed_float16"], ["precision=mixed_bfloat16", "clip_norm=1.0"], ["xla=true"]]
)
def test_half_precision_and_xla_train_and_resume(experiment, tmp_path, settings):
    settings = [f"training.{setting}" for setting in (*settings, "epochs=2", "schedule=cosine", "freeze=1")]
    run = train(override(experiment, settings)[0], root=tmp_path)
    assert np.isfinite(pd.read_csv(run.files.history)["loss"]).all()
    assert keras.config.dtype_policy().name == "float32"
    model = keras.models.load_model(run.files.best)
    scores = model(np.zeros((1, 32, 32, 3), "uint8"))
    assert scores.dtype == "float32"
    run.files.metrics.unlink()
    assert train(override(experiment, settings)[0], root=tmp_path).files.metrics.is_file()


def test_data_that_changed_since_the_run_began_is_refused(experiment, scene_folder, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(scene_folder, data)
    changed = override(experiment, [f"data.source={data}", "training.epochs=1"])[0]
    run = train(changed, root=tmp_path)
    run.files.metrics.unlink()
    (data / "sand" / "sand00.png").unlink()
    with pytest.raises(UserError, match=r"no longer those that .*run began with"):
        train(changed, root=tmp_path)


def test_a_monitor_that_counts_faults_keeps_the_epoch_with_the_fewest(experiment, tmp_path):
    # A rate this high makes the loss jump up and down.
    settings = ["training.monitor=cross_entropy", "training.epochs=4", "training.learning_rate=0.03"]
    run = train(override(experiment, [*settings, "training.schedule=constant"])[0], root=tmp_path)
    losses = run.history["val_cross_entropy"]
    assert losses.max() > 1.1 * losses.min()
    valid = run.read_samples().part("valid")
    kept = scalar_metrics(valid.labels, SceneModel.load(run.files.best).scores(valid), valid.task)["cross_entropy"]
    assert kept == pytest.approx(losses.min(), rel=1e-3)


def test_an_unknown_monitor_is_refused_before_training(experiment, tmp_path):
    with pytest.raises(UserError, match=r"training.monitor 'example_f1' is not a single-label metric; known: accuracy"):
        train(override(experiment, ["training.monitor=example_f1"])[0], root=tmp_path)


def samples_of(labels, task):
    return Samples(
        [f"{i}.png" for i in range(len(labels))], labels, [f"l{i}" for i in range(labels.shape[1])], task, "."
    )


def test_label_noise_flips_the_stated_fraction_and_is_the_seeds():
    labels = (np.random.default_rng(0).random((2000, 10)) < 0.3).astype(np.uint8)
    noisy = with_label_noise(samples_of(labels, "multi-label"), 0.1, seed=3).labels
    assert (noisy != labels).mean() == pytest.approx(0.1, abs=0.01)
    np.testing.assert_array_equal(noisy, with_label_noise(samples_of(labels, "multi-label"), 0.1, seed=3).labels)
    assert (noisy != with_label_noise(samples_of(labels, "multi-label"), 0.1, seed=4).labels).any()
    one_hot = np.eye(10, dtype=np.uint8)[np.arange(2000) % 10]
    noisy = with_label_noise(samples_of(one_hot, "single-label"), 0.3, seed=0).labels
    assert (noisy.sum(axis=1) == 1).all()
    assert (noisy != one_hot).any(axis=1).mean() == pytest.approx(0.3, abs=0.03)


def test_label_weights_follow_their_formula():
    labels = np.array([[1, 0, 1], [1, 0, 0], [1, 0, 0], [1, 0, 0]])
    np.testing.assert_allclose(label_weights(labels, "multi-label"), [0.1, 1, 3])
    one_hot = np.eye(2)[[0, 0, 0, 1]]
    np.testing.assert_allclose(label_weights(one_hot, "single-label"), [4 / 6, 2])


@pytest.mark.parametrize("task", ["multi-label", "single-label"])
def test_weighted_smoothed_cross_entropy_follows_its_formula(task):
    random = np.random.default_rng(0)
    logits = random.normal(size=(6, 4)).astype("float32")
    labels = np.eye(4, dtype="float32")[random.integers(0, 4, 6)]
    weights = np.array([1, 2, 0.5, 3])
    found = CrossEntropy(label_smoothing=0.1).function(task, weights)(labels, logits)
    if task == "multi-label":
        target, p = 0.9 * labels + 0.05, 1 / (1 + np.exp(-logits))
        expected = np.mean(-weights * target * np.log(p) - (1 - target) * np.log(1 - p))
    else:
        target, p = 0.9 * labels + 0.1 / 4, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        expected = np.mean(-(labels @ weights) * (target * np.log(p)).sum(axis=1))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_the_network_is_flat_and_has_what_losses_need(experiment):
    context = LabelContext(("a", "b", "c"), "single-label", np.eye(3), 1, 0)
    network = build(experiment, context).network
    assert network.output["logits"].shape == (None, 3)
    assert len(network.output["features"].shape) == 2
    assert not any(isinstance(layer, keras.Model) for layer in network.layers)
