"""Time a training step on 1, 2, ... devices: weak scaling (as many images a device) and the price of sharing a batch.

    RSML_CPU_DEVICES=2 python benchmarks/devices.py [--backbone small] [--image-size 64] [--per-device 8] [--steps 20]

Runs on all GPUs, or where there are none on the virtual devices that RSML_CPU_DEVICES makes of the CPU. Those share the
same cores, so that there the column "same batch" counts (what splitting a batch costs), and "weak" says nothing.
"""

from __future__ import annotations

import argparse
import statistics
import time

import keras
import numpy as np
import tensorflow as tf

from rsml.config import Data, Experiment, Model, Training
from rsml.methods import LabelContext
from rsml.methods.objectives import CrossEntropy
from rsml.training.devices import WholeBatch, choose
from rsml.training.parts import build, make_trainer
from rsml.utils.virtual_devices import split_cpu

LABELS = 17


class Clock(keras.callbacks.Callback):
    """Seconds of each step; the first ones trace and are left out."""

    def __init__(self, left_out: int = 3) -> None:
        super().__init__()
        self.left_out, self.seconds = left_out, []

    def on_train_batch_begin(self, batch, logs=None):
        self.begun = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        if batch >= self.left_out:
            self.seconds.append(time.perf_counter() - self.begun)


def step_seconds(options: argparse.Namespace, devices: int, batch: int) -> tuple[float, int]:
    """The median step on so many devices, and the bytes of its gradients."""
    experiment = Experiment(
        name="benchmark",
        data=Data(image_size=options.image_size),
        model=Model(backbone=options.backbone, weights=None),
        methods=options.methods,
        training=Training(batch_size=batch, devices=devices),
    )
    random = np.random.default_rng(0)
    labels = (random.random((batch, LABELS)) < 0.3).astype(np.uint8)
    context = LabelContext(tuple(f"label {n}" for n in range(LABELS)), "multi-label", labels, 1, 0)
    spread = choose(experiment.training, batch)
    with spread.scope():
        classifier = build(experiment, context)
    served = classifier.served(labels=list(context.names), task=context.task, experiment={})
    trainer = make_trainer(experiment, classifier, served, context, options.steps, CrossEntropy(), spread)
    trainer.compile(trainer.optimizer, loss=None, auto_scale_loss=False, jit_compile=False)
    images = random.integers(0, 256, (batch, options.image_size, options.image_size, 3)).astype(np.float32)
    of_batch = {"labels": labels.astype(np.float32), "index": np.arange(batch)}
    data = tf.data.Dataset.from_tensors((images, of_batch)).repeat().prefetch(2)
    clock = Clock()
    trainer.fit(
        data,
        steps_per_epoch=options.steps,
        callbacks=[WholeBatch(trainer._flatten_layers()), clock] if devices > 1 else [clock],
        verbose=0,
    )
    return statistics.median(clock.seconds), 4 * sum(int(np.prod(v.shape)) for v in trainer.trainable_variables)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="small")
    parser.add_argument("--methods", default="", help='such as "signa" or "grn"')
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--per-device", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    split_cpu()
    gpus = tf.config.list_logical_devices("GPU")
    found = len(gpus or tf.config.list_logical_devices("CPU"))
    print(f"{options.backbone}, {options.image_size} px, {options.per_device} images a device, {found} devices")
    print(f"{'devices':>7} {'ms a step':>10} {'images/s':>9} {'weak':>6} {'same batch':>11}")
    alone, size = step_seconds(options, 1, options.per_device)
    print(f"{1:>7} {1e3 * alone:>10.1f} {options.per_device / alone:>9.1f} {1:>6.2f} {1:>11.2f}")
    for devices in range(2, found + 1):
        batch = devices * options.per_device
        together, _ = step_seconds(options, devices, batch)
        same, _ = step_seconds(options, 1, batch)
        ratios = f"{alone / together:>6.2f} {same / together:>11.2f}"
        print(f"{devices:>7} {1e3 * together:>10.1f} {batch / together:>9.1f} {ratios}", flush=True)
    print(
        f"gradients: {size / 1e6:.1f} MB; a ring carries 2 (n - 1) / n of that into and out of each of n hosts a step"
    )


if __name__ == "__main__":
    main()
