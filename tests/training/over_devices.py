"""Trains the same experiments on one device and on two, and writes down how they differ; run by test_devices.py.

    RSML_CPU_DEVICES=2 python -m tests.training.over_devices '{"single-label": FOLDER, ...}' OUT CASE...

In float64 every layer computes in double precision, so that a difference is a fault and not rounding.
"""

import contextlib
import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from rsml.config import Experiment
from rsml.data import pipeline
from rsml.layers import NeighborMemory
from rsml.run import Run
from rsml.training import loop
from rsml.utils.virtual_devices import split_cpu

STEPS = 20
SINGLE, MULTI, SHARES = "single-label", "multi-label", "proportions"
PLAIN = {"task": SINGLE, "methods": []}
CASES = {
    # The methods, whose last batch is a partial one that does not divide.
    "plain": PLAIN,
    "signa": {"task": MULTI, "methods": ["signa"]},
    "grn": {"task": MULTI, "methods": ["grn"]},
    "r4c": {"task": MULTI, "methods": ["r4c"]},
    "geokr": {"task": SHARES, "methods": [{"kind": "geokr", "update": "step"}]},
    "ice": {"task": SINGLE, "methods": [{"kind": "ice", "pool": 2}]},
    # What else a step may do.
    "asymmetric": {
        "task": MULTI,
        "objective": "asymmetric",
        "model": {"dropout": 0.5},
        "training": {"clip_norm": 0.1, "optimizer": "sgd", "weight_decay": 0.01},
    },
    "focal": {
        "task": MULTI,
        "objective": "focal",
        "training": {"schedule": "plateau", "plateau_patience": 1, "freeze": 1},
    },
    # 24 images in batches of 23: one device has nothing to do in the last step of an epoch.
    "lonely": {**PLAIN, "training": {"batch_size": 23, "epochs": 3}},
    "recipe": {
        **PLAIN,
        "augment": {"mixup": 0.4},
        "training": {"average": 0.9, "accumulate": 2, "sizes": {0: 24, 0.5: 32}, "layer_decay": 0.8},
    },
    "float16": {**PLAIN, "training": {"precision": "mixed_float16", "clip_norm": 0.1}},
    "bfloat16": {**PLAIN, "training": {"precision": "mixed_bfloat16", "class_weights": True}},
}


class Recorder(keras.callbacks.Callback):
    """Keeps the loss of every step, and whether the devices hold the same in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.equal: bool | None = None

    def on_train_batch_end(self, batch, logs=None):
        # What is logged of a step is the mean over devices, however unequal their rows; this is the epoch's so far.
        self.losses.append(float(self.model.get_metrics_result()["loss"]))

    def on_train_end(self, logs=None):
        strategy = self.model.distribute_strategy
        counted = {id(v) for metric in self.model.metrics for v in metric.variables}
        held = [v for v in self.model.variables if id(v) not in counted] + list(self.model.optimizer.variables)
        copies = [[np.asarray(c) for c in strategy.experimental_local_results(v.value)] for v in held]
        self.count = len(copies[0])
        self.equal = all(np.array_equal(own[0], other, equal_nan=True) for own in copies for other in own[1:])


def in_float64():
    """Patches under which everything but the memory of GRN is computed in double precision."""
    made = keras.layers.Layer.__init__

    def make(self, *arguments, **options):
        if options.get("dtype") == "float32" and type(self).__name__ != "NeighborMemory":
            options["dtype"] = "float64"
        made(self, *arguments, **options)

    batches = pipeline.training_dataset

    def double(*arguments, **options):
        def cast(images, of_batch):
            return images, {**of_batch, "labels": tf.cast(of_batch["labels"], tf.float64)}

        return batches(*arguments, **options).map(cast)

    losses = NeighborMemory.loss

    return [
        mock.patch.object(keras.layers.Layer, "__init__", make),
        mock.patch.object(NeighborMemory, "loss", lambda *a, **o: tf.cast(losses(*a, **o), tf.float64)),
        mock.patch.object(pipeline, "training_dataset", double),
        mock.patch.object(loop, "precision", lambda _: _double()),
    ]


@contextlib.contextmanager
def _double(policy=loop.precision):
    keras.config.set_floatx("float64")  # of losses and metrics
    try:
        with policy("float64"):
            yield
    finally:
        keras.config.set_floatx("float32")


def backbone(folder: Path) -> Path:
    """A network of four layers, quick to trace."""
    file = folder / "backbone.keras"
    if not file.is_file():
        keras.utils.set_random_seed(0)
        x = images = keras.Input((32, 32, 3))
        for number, width in enumerate((8, 12, 16, 16)):
            x = keras.layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False, name=f"conv{number}")(x)
            x = keras.layers.ReLU()(keras.layers.BatchNormalization(name=f"norm{number}")(x))
        folder.mkdir(parents=True, exist_ok=True)
        keras.Model(images, x, name="quick").save(file)
    return file


def experiment(source: str, folder: Path, case: str, **training) -> Experiment:
    """A case as an experiment on its data."""
    chosen = dict(CASES[case])
    task = chosen.pop("task")
    usual = {"epochs": 5, "batch_size": 7, "learning_rate": 5e-4}
    return Experiment.parse(
        {
            "name": case,
            "data": {"source": source, "task": task, "image_size": 32, "cache": "memory", "fractions": (50, 25, 25)},
            "model": {"backbone": str(backbone(folder)), "preprocess": "signed", **chosen.pop("model", {})},
            "training": {**usual, **chosen.pop("training", {}), **training},
            "evaluation": {"figures": False, "resamples": 0, "calibrate": False},
            **chosen,
        }
    )


def run(made: Experiment, root: Path, double: bool, *further: keras.callbacks.Callback) -> tuple[Recorder, Run]:
    """Trains and returns what was recorded, and the run."""
    recorder = Recorder()
    with contextlib.ExitStack() as patches:
        for patch in in_float64() if double else ():
            patches.enter_context(patch)
        return recorder, loop.train(made, root=root, callbacks=[recorder, *further])


def compared(source: str, folder: Path, case: str, double: bool) -> dict[str, Any]:
    """How a case's training on two devices differs from that on one."""
    (one, _), (two, made) = (
        run(experiment(source, folder, case, devices=devices), folder / str((devices, double)), double)
        for devices in (1, 2)
    )
    losses, others = np.array(one.losses[:STEPS]), np.array(two.losses[:STEPS])
    layers = [layer["config"] for layer in keras.models.load_model(made.files.best).get_config()["layers"]]
    return {
        "steps": len(losses),
        "difference": float(np.max(np.abs(losses - others) / np.abs(losses))),
        "copies": (one.count, two.count),
        "equal": two.equal,
        "synchronized": [config["synchronized"] for config in layers if "synchronized" in config],
    }


class PowerCut(keras.callbacks.Callback):
    """Ends a training within its third epoch."""

    def on_train_batch_begin(self, batch, logs=None):
        if self.model.optimizer.iterations == 9:
            raise RuntimeError("power cut")


def resumed(source: str, folder: Path, case: str) -> list[str]:
    """What differs between a training on two devices and one that was stopped and gone on with."""
    made = experiment(source, folder, case, devices=2, epochs=3)
    _, whole = run(made, folder / "whole", False)
    with contextlib.suppress(RuntimeError):
        run(made, folder / "cut", False, PowerCut())
    assert not (folder / "cut" / case / "metrics.json").is_file(), "it must have been cut"
    _, again = run(made, folder / "cut", False)
    with np.load(whole.files.state) as first, np.load(again.files.state) as second:
        return [name for name in first.files if not np.array_equal(first[name], second[name])]


def main(sources: dict[str, str], folder: Path, cases: list[str]) -> None:
    """Compares the cases; one that ends in `:double` is computed in double precision."""
    found: dict[str, Any] = {}
    for text in cases:
        case, _, how = text.partition(":")
        source = sources[CASES[case]["task"]]
        if how == "resumed":
            found[text] = resumed(source, folder / "resumed", case)
        else:
            found[text] = compared(source, folder, case, how == "double")
        print(text, found[text], flush=True)
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    split_cpu()
    main(json.loads(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
