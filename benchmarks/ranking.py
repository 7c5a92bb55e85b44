"""Times R4C's three ranking losses together, forward and backward, as a graph function and compiled by XLA.

Run: `python benchmarks/ranking.py [--batches 16 64 256] [--labels 17] [--features 2048]`
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

from rsml.losses import FeatureRanking, LabelRanking, SampleRanking


def step(jit_compile: bool) -> Callable:
    label, sample = (loss(from_logits=True, reduction="sum") for loss in (LabelRanking, SampleRanking))
    feature = FeatureRanking(reduction="sum")

    @tf.function(jit_compile=jit_compile)
    def value_and_gradients(labels, logits, features):
        with tf.GradientTape() as tape:
            tape.watch([logits, features])
            total = label(labels, logits) + sample(labels, logits) + feature(labels, features)
        return total, tape.gradient(total, [logits, features])

    return value_and_gradients


def milliseconds(function: Callable, arguments: tuple, seconds: float) -> float:
    """Median over as many calls as fit into the given time, after three calls to warm up."""
    for _ in range(3):
        function(*arguments)
    times = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times) < 5:
        start = time.perf_counter()
        function(*arguments)[0].numpy()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--labels", type=int, default=17)
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--seconds", type=float, default=2.0, help="time spent on each figure")
    options = parser.parse_args()
    print(f"{'batch':>6} {'graph ms':>10} {'XLA ms':>10}")
    for batch in options.batches:
        random = tf.random.Generator.from_seed(batch)
        labels = tf.cast(random.uniform((batch, options.labels)) < 0.2, tf.float32)
        logits = random.normal((batch, options.labels)) * 3
        features = random.normal((batch, options.features))
        figures = [milliseconds(step(jit), (labels, logits, features), options.seconds) for jit in (False, True)]
        print(f"{batch:>6} {figures[0]:>10.2f} {figures[1]:>10.2f}")


if __name__ == "__main__":
    main()
