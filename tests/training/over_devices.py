"""Trains the same experiments on one device and on two, and writes down how they differ; run by test_devices.py.

    python -m tests.training.over_devices FOLDER OUT.json CASE...

In float64 every layer computes in double precision, so that a difference is a fault and not rounding.
"""

import contextlib
import json
import sys
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

import rsml.training.devices
import rsml.training.loop as loop
from rsml.config import Experiment
from rsml.data import pipeline
from rsml.layers import NeighborMemory

STEPS = 20
SINGLE, MULTI, SHARES = "single", "multi", "shares"
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
    "lonely": {**PLAIN, "training": {"batch_size": 23, "class_weights": True, "epochs": 4}},
    "float16": {**PLAIN, "training": {"precision": "mixed_float16", "clip_norm": 0.1}},
    "bfloat16": {**PLAIN, "training": {"precision": "mixed_bfloat16"}},
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
        keras.Model(images, x, name="quick").save(file)
    return file


def run(data: Path, root: Path, case: str, devices: int, double: bool) -> tuple[Recorder, object]:
    """Trains a case and returns what was recorded, and the run."""
    chosen = dict(CASES[case])
    task = chosen.pop("task")
    training = {"epochs": 5, "batch_size": 7, "learning_rate": 5e-4, **chosen.pop("training", {}), "devices": devices}
    experiment = Experiment.parse(
        {
            "name": f"{case}-{devices}-{'double' if double else 'single'}",
            "data": {
                "source": str(data / {SINGLE: "classes", MULTI: "labels.csv", SHARES: "tiles/land_cover.csv"}[task]),
                "task": {SINGLE: "single-label", MULTI: "multi-label", SHARES: "proportions"}[task],
                "image_size": 32,
                "cache": "memory",
            },
            "model": {"backbone": str(backbone(root.parent)), "preprocess": "signed", **chosen.pop("model", {})},
            "training": training,
            "evaluation": {"figures": False, "resamples": 0, "calibrate": False},
            **chosen,
        }
    )
    recorder = Recorder()
    patches = in_float64() if double else []
    for patch in patches:
        patch.start()
    try:
        made = loop.train(experiment, root=root, callbacks=[recorder])
    finally:
        for patch in patches:
            patch.stop()
    return recorder, made


def main(data: Path, out: Path, cases: list[str]) -> None:
    """Compares the cases; one that ends in `:double` is computed in double precision."""
    found = {}
    for text in cases:
        case, _, precision = text.partition(":")
        (one, first), (two, second) = (
            run(data, out.parent / "runs", case, devices, precision == "double") for devices in (1, 2)
        )
        steps = slice(0, STEPS)
        losses, others = np.array(one.losses[steps]), np.array(two.losses[steps])
        config = keras.models.load_model(second.files.best).get_config()
        found[text] = {
            "steps": len(losses),
            "difference": float(np.max(np.abs(losses - others) / np.abs(losses))),
            "copies": two.count,
            "equal": two.equal,
            "synchronized": [
                layer["config"]["synchronized"] for layer in config["layers"] if "synchronized" in layer["config"]
            ],
            "valid": [
                float(r.metrics["valid"]["macro_f1"]) if "macro_f1" in r.metrics["valid"] else None
                for r in (first, second)
            ],
        }
        print(text, found[text]["steps"], found[text]["difference"], found[text]["equal"], flush=True)
    out.write_text(json.dumps(found))


if __name__ == "__main__":
    rsml.training.devices.split_cpu()
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
