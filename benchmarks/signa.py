"""Time, memory and error of SIGNA's interleaving, forward and backward, beside a plain backbone's training step.

    python benchmarks/signa.py                           # D = 64 .. 2048, batch 16, 6 heads
    python benchmarks/signa.py --channels 256 --range 40  # sharper attention: logits move by 40 over the range of z

"loop" is the formula as one writes it, a softmax a head under TensorFlow's own gradients. "layer" is the time of the
whole SIGNA layer (7 x 7 maps, 17 labels, GraphSAGE), whose products with the (heads D, D) kernel are the same for all.
"memory" is what the process needs beyond TensorFlow and the inputs. "error" is the largest of the value's and the
three gradients' errors against float64 on two images, each relative to its largest entry. Every case runs in a process
of its own; compare within one run.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from rsml.layers import SIGNA
from rsml.layers.interleaving import cells_needed, interleave_exact, interleave_interpolated

LABELS = 17


def interleave_loop(z, slope, offset):
    heads = [tf.nn.softmax(z[:, :, None] * a + c) for a, c in zip(tf.unstack(slope), tf.unstack(offset), strict=True)]
    return tf.stack([tf.einsum("bde,be->bd", weights, z) for weights in heads], axis=1)


FORMS = {"loop": interleave_loop, "exact": interleave_exact, "interpolated": interleave_interpolated}


def inputs_of(channels, options, batch, dtype="float32"):
    """Averages of rectified features, and slopes as sharp as asked."""
    generator = np.random.default_rng(0)
    z = np.maximum(generator.normal(0.5, 0.4, (options.batch, channels)), 0)
    slope = generator.normal(size=(options.heads, channels))
    slope *= options.range / (np.ptp(z) * np.ptp(slope, axis=1).max())
    offset = 2 * generator.normal(size=slope.shape)
    upstream = generator.normal(size=(options.batch, *slope.shape))
    return [tf.constant(x, dtype) for x in (z[:batch], slope, offset, upstream[:batch])]


def value_and_gradients(form, z, slope, offset, upstream):
    with tf.GradientTape() as tape:
        tape.watch([z, slope, offset])
        outputs = form(z, slope, offset)
        loss = tf.reduce_sum(outputs * upstream)
    return [outputs, *tape.gradient(loss, [z, slope, offset])]


def best_ms(function, repeats):
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        tf.nest.map_structure(lambda x: x.numpy(), function())
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def peak_mb():
    if tf.config.list_physical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def measure(name, channels, options):
    form = FORMS[name]
    inputs = inputs_of(channels, options, options.batch)
    step = tf.function(lambda: value_and_gradients(form, *inputs))
    before = peak_mb()
    milliseconds = best_ms(step, options.repeats)
    memory = peak_mb() - before
    small = inputs_of(channels, options, 2)
    got = tf.function(lambda: value_and_gradients(form, *small))()
    wanted = value_and_gradients(interleave_loop, *(tf.cast(x, tf.float64) for x in small))
    errors = [
        np.abs(g - w).max() / np.abs(w).max() for g, w in zip(map(np.array, got), map(np.array, wanted), strict=True)
    ]
    result = {
        "interleaving": milliseconds,
        "memory": memory,
        "error": float(max(errors)),
        "cells": int(cells_needed(inputs[0], inputs[1], 16)),
    }
    if name != "loop":
        result["layer"] = layer_ms(name, channels, options)
    return result


def layer_ms(name, channels, options):
    generator = np.random.default_rng(1)
    graph = np.triu(generator.random((LABELS, LABELS)) < 0.2, 1).astype("float32")
    layer = SIGNA(graph, generator.normal(size=(LABELS, 100)), heads=options.heads, evaluation=name)
    features = tf.constant(generator.random((options.batch, 7, 7, channels)), tf.float32)
    layer.build(features.shape)
    layer.q_weight.assign(0.1 * layer.q_weight)
    variables = [variable.value for variable in layer.trainable_variables]

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            tape.watch(features)
            loss = tf.reduce_sum(layer(features) ** 2)
        # One number of each gradient, so that reading the result is not part of the time.
        return [tf.reduce_sum(x) for x in tape.gradient(loss, [features, *variables])]

    return best_ms(step, options.repeats)


def backbone_ms(options):
    model = keras.applications.__dict__[options.backbone](
        weights=None, include_top=False, pooling="avg", input_shape=(options.image_size, options.image_size, 3)
    )
    images = tf.random.uniform((options.batch, options.image_size, options.image_size, 3))
    variables = [variable.value for variable in model.trainable_variables]

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(images, training=True) ** 2)
        return [tf.reduce_sum(x) for x in tape.gradient(loss, variables)]

    return best_ms(step, 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 128, 256, 512, 1024, 2048])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument(
        "--range", type=float, default=8.0, help="how far the logits of a head move over the range of z"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--backbone", default="MobileNetV2", help="a name in keras.applications")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        name, channels = options.case
        print(json.dumps(backbone_ms(options) if name == "backbone" else measure(name, int(channels), options)))
        return

    def run(name, channels=0):
        command = [sys.executable, *sys.argv, "--case", name, str(channels)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return json.loads(done.stdout.splitlines()[-1])

    step = run("backbone")
    print(f"{options.backbone}, {options.image_size} px, batch {options.batch}: {step:.0f} ms a step\n")
    print(
        f"{'D':>5} {'form':>13} {'ms':>8} {'speed-up':>9} {'layer ms':>9} {'of step':>8} {'MB':>7} {'error':>8}  nodes"
    )
    for channels in options.channels:
        loop = None
        for name in FORMS:
            result = run(name, channels)
            loop = loop or result["interleaving"]
            layer = result.get("layer")
            nodes = 16 * result["cells"]
            print(
                f"{channels:>5} {name:>13} {result['interleaving']:>8.1f} {loop / result['interleaving']:>8.1f}x "
                + (f"{layer:>9.1f} {layer / step:>8.1%}" if layer else f"{'':>18}")
                + f" {result['memory']:>7.0f} {result['error']:>8.0e}"
                + (f"  {nodes if nodes <= channels else 'exact'}" if name == "interpolated" else ""),
                flush=True,
            )


if __name__ == "__main__":
    main()
