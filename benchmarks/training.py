"""Time a training step: rsml against 15 lines of plain Keras with the same backbone, images and optimizer.

    python benchmarks/training.py [--backbone small|path.keras] [--image-size 64] [--batch-size 16] [--steps 40]

Both read the same PNG files from disk through tf.data, flip and change brightness, and take the same Adam step. The two
are timed in turn in one process, so the ratio holds on a noisy machine.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import rsml  # noqa: F401  (makes a checkpoint's layers known)
from rsml import scenes
from rsml.config import Augment, Data, Experiment, Model, Training
from rsml.data import pipeline
from rsml.data.source import load_samples
from rsml.methods import LabelContext
from rsml.methods.objectives import CrossEntropy
from rsml.models import load_backbone
from rsml.training.loop import build
from rsml.training.optimizers import make_optimizer
from rsml.training.trainer import Trainer


def plain_keras(samples, options):
    """What a person would write without rsml."""

    def read(file, labels):
        image = tf.io.decode_png(tf.io.read_file(file), channels=3)
        image = tf.cast(tf.image.resize(image, [options.image_size] * 2), tf.float32)
        image = tf.image.random_flip_up_down(tf.image.random_flip_left_right(image))
        return tf.clip_by_value(image * tf.random.uniform([], 0.8, 1.2), 0, 255), labels

    data = tf.data.Dataset.from_tensor_slices((samples.files, samples.labels.astype("float32"))).repeat()
    data = data.shuffle(len(samples)).map(read, tf.data.AUTOTUNE).batch(options.batch_size).prefetch(tf.data.AUTOTUNE)
    backbone = load_backbone(options.backbone, image_size=options.image_size, preprocess=options.preprocess).model
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    x = keras.layers.Dropout(0.2)(x)
    model = keras.Model(backbone.input, keras.layers.Dense(samples.labels.shape[1], activation="sigmoid")(x))
    model.compile(keras.optimizers.Adam(5e-4), "binary_crossentropy", jit_compile=False)
    return model, data


def with_rsml(samples, options):
    """The same through rsml's own parts, as `rsml.training.loop` joins them."""
    experiment = Experiment(
        name="benchmark",
        data=Data(image_size=options.image_size),
        augment=Augment(brightness=(0.8, 1.2)),
        model=Model(backbone=options.backbone, preprocess=options.preprocess, dropout=0.2),
        training=Training(learning_rate=5e-4, schedule="cosine", epochs=1000, batch_size=options.batch_size),
    )
    context = LabelContext(samples.label_names, samples.task, samples.labels, 1000, 0)
    classifier = build(experiment, context)
    trainer = Trainer(classifier.network, CrossEntropy().function(samples.task))
    steps = pipeline.steps(samples, options.batch_size)
    optimizer = make_optimizer(experiment.training, trainer.trainable_variables, set(), 1.0, steps)
    trainer.compile(optimizer, jit_compile=False)
    data = pipeline.training_dataset(
        samples,
        image_size=options.image_size,
        batch_size=options.batch_size,
        epochs=1000,
        augment=experiment.augment,
    )
    return trainer, data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="small")
    parser.add_argument("--preprocess", help="for a backbone from a file, e.g. lite")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Data(scenes={"count": 420, "size": options.image_size}, folder=folder)
        scenes.write(Path(folder) / f"scenes-420-{options.image_size}px-0", count=420, size=options.image_size)
        samples = load_samples(data).part("train")
        contenders = {"plain Keras": plain_keras(samples, options), "rsml": with_rsml(samples, options)}
        iterators = {}
        for name, (model, batches) in contenders.items():
            model.fit(batches, steps_per_epoch=5, epochs=1, verbose=0, shuffle=False)
            iterators[name] = batches
        times = {name: [] for name in contenders}
        for _ in range(options.rounds):
            for name, (model, _) in contenders.items():
                begun = time.perf_counter()
                model.fit(iterators[name], steps_per_epoch=options.steps, epochs=1, verbose=0, shuffle=False)
                times[name].append((time.perf_counter() - begun) / options.steps)
    print(f"{options.backbone}, {options.image_size} px, batch {options.batch_size}, {options.steps} steps a round")
    for name, values in times.items():
        print(f"{name:12} {1000 * statistics.median(values):8.1f} ms a step (best {1000 * min(values):.1f})")
    ratios = [ours / theirs for ours, theirs in zip(times["rsml"], times["plain Keras"], strict=True)]
    print(f"rsml / plain Keras: {np.median(ratios):.2f} (rounds: {', '.join(f'{ratio:.2f}' for ratio in ratios)})")


if __name__ == "__main__":
    main()
