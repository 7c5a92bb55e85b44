"""Times one step of GRN's neighbour memory (loss, gradient, update) and measures its memory.

Run: `python benchmarks/neighbors.py [--images 10000 100000 1000000] [--batch 256] [--dim 128]`

Beside the step stand two bare figures over the same sizes and blocks: the product of features and bank alone, and
that product with the one that any gradient by the features needs. Memory is the growth of the process's peak from
before the bank is made to after the last step, over the size of the bank; each number of images runs in a process of
its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def seconds(function: Callable, repeats: int) -> float:
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(images: int, batch: int, dim: int, labels: int, block: int, repeats: int) -> dict[str, float]:
    import numpy as np
    import tensorflow as tf

    from rsml.layers import NeighborMemory

    random = np.random.default_rng(0)
    features = tf.math.l2_normalize(random.normal(size=(batch, dim)).astype("float32"), axis=1)
    matrix = random.integers(0, 2, (images, labels), dtype=np.uint8)

    def step_of(memory: NeighborMemory, index: tf.Tensor) -> Callable:
        @tf.function
        def step():
            with tf.GradientTape() as tape:
                tape.watch(features)
                loss = memory.loss(features, index)
            gradient = tape.gradient(loss, features)
            memory.update(features, index)
            return loss, gradient

        return lambda: step()[1].numpy()

    # The same on a bank of two blocks first: code and thread pools are not what is measured.
    small = min(2 * block, images)
    step_of(NeighborMemory(small, dim, matrix[:small], block=block, seed=0), tf.range(min(batch, small)) % small)()
    before = peak_bytes()
    memory = NeighborMemory(images, dim, matrix, block=block, seed=0)
    step = step_of(memory, tf.constant(random.choice(images, batch, replace=images < batch)))
    step()
    figures = {"peak / bank": 1.0 + (peak_bytes() - before - images * dim * 4) / (images * dim * 4)}
    figures["step ms"] = 1000 * seconds(step, repeats)

    bank = memory.memory.value.read_value()

    def bare(backward: bool) -> Callable:
        @tf.function
        def products():
            total = tf.zeros((batch, dim if backward else 1))
            for number in tf.range(max(images // block, 1)):
                rows = tf.ensure_shape(bank[number * block : (number + 1) * block], (min(block, images), dim))
                logits = tf.matmul(features, rows, transpose_b=True)
                total += tf.matmul(logits, rows) if backward else logits[:, :1]
            return total

        return lambda: products().numpy()

    figures["product ms"] = 1000 * seconds(bare(False), repeats)
    figures["product + gradient ms"] = 1000 * seconds(bare(True), repeats)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--labels", type=int, default=17)
    parser.add_argument("--block", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    settings = (options.batch, options.dim, options.labels, options.block, options.repeats)
    if options.one:
        print(json.dumps(measure(options.images[0], *settings)))
        return
    print(f"batch {options.batch}, {options.dim} dimensions, {options.labels} labels, blocks of {options.block}")
    head = ("images", "step ms", "product ms", "ratio", "with gradient ms", "ratio", "peak / bank")
    print(" ".join(f"{name:>16}" for name in head))
    for images in options.images:
        command = [sys.executable, __file__, *sys.argv[1:], "--one", "--images", str(images)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = json.loads(answer.splitlines()[-1])
        step, product, both = found["step ms"], found["product ms"], found["product + gradient ms"]
        row = (
            f"{images}",
            f"{step:.1f}",
            f"{product:.1f}",
            f"{step / product:.2f}",
            f"{both:.1f}",
            f"{step / both:.2f}",
        )
        print(" ".join(f"{value:>16}" for value in (*row, f"{found['peak / bank']:.2f}")), flush=True)


if __name__ == "__main__":
    main()
