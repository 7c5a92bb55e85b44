"""Time and peak memory of one training epoch and of labelling 2100 images, with the ICE head on two backbones.

    python benchmarks/ice.py [--size 128] [--images 2100] [--backbones nasnetmobile mobilenetv2]

Images are UC Merced's under $RSML_TEST_DATA/data/ucm, else built-in scenes; 80 % of them make the epoch, with the
augmentation of configs/ice.py, in batches of 30, which divide both counts. Every row is a process of its own, since
memory once taken is not given back. The first step traces the graph, so its seconds stand in a column of their own; the
peak contains what the imports take.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
JOBS = ("train", "label")


def measure(job: str, backbone: str, size: int, images: int, batch: int) -> dict[str, float]:
    """One row: seconds of the first step and of the rest, images in the rest, peak memory in MB."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.path.insert(0, str(ROOT))
    import numpy as np

    from rsml.config import override
    from rsml.config_files import load_config
    from rsml.data import pipeline
    from rsml.methods import LabelContext
    from rsml.training.loop import build, choose_objective
    from rsml.training.optimizers import make_optimizer
    from rsml.training.trainer import Trainer

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    arguments = [f"backbone={backbone}", "weights=None", f"size={size}"]
    experiment, _ = override(load_config(ROOT / "configs" / "ice.py", arguments), [f"training.batch_size={batch}"])
    samples = _samples(images)
    context = LabelContext(samples.label_names, samples.task, samples.labels, 1, 0)
    classifier = build(experiment, context)
    reading = experiment.data.reading()
    if job == "train":
        part = samples.select(np.random.default_rng(0).permutation(len(samples))[: round(0.8 * len(samples))])
        steps = pipeline.steps(part, batch)
        trainer = Trainer(classifier.network, choose_objective(experiment, samples.task).function(samples.task))
        trainer.compile(make_optimizer(experiment.training, trainer.trainable_variables, set(), 1.0, steps), None)
        batches = pipeline.training_dataset(part, batch_size=batch, epochs=1, augment=experiment.augment, **reading)
        run = trainer.train_on_batch
    else:
        served = classifier.served(labels=list(samples.label_names), task=samples.task)
        batches = pipeline.evaluation_dataset(samples, batch_size=batch, **reading)
        run = lambda images, about: served.predict_on_batch(images)  # noqa: E731
    times, seen = [time.perf_counter()], []
    for pixels, about in batches:
        run(pixels, about)
        times.append(time.perf_counter())
        seen.append(len(pixels))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "first": times[1] - times[0],
        "rest": times[-1] - times[1],
        "images": sum(seen[1:]),
        "peak": peak / 1024,
        "imports": before / 1024,
    }


def _samples(images: int):
    from rsml import scenes
    from rsml.data.readers import read_samples

    real = Path(os.environ.get("RSML_TEST_DATA", "")) / "data" / "ucm" / "Images"
    if "RSML_TEST_DATA" in os.environ and real.is_dir():
        samples = read_samples(real, task="single-label")
    else:
        folder = Path(tempfile.gettempdir()) / f"rsml-scenes-{images}-256"
        samples = read_samples(scenes.write(folder, count=images, size=256), task="single-label")
    return samples.select(range(0, len(samples), max(1, len(samples) // images))[:images])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["nasnetmobile", "mobilenetv2"])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--images", type=int, default=2100)
    parser.add_argument("--batch-size", type=int, default=30)
    parser.add_argument("--row", nargs=2, metavar=("JOB", "BACKBONE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(*options.row, options.size, options.images, options.batch_size)))
        return
    load = os.getloadavg()[0]
    print(f"{options.size} px, batch {options.batch_size}, {os.cpu_count()} cores, load {load:.1f} at the start")
    print(f"{'backbone':14} {'job':6} {'images':>7} {'first step':>11} {'the rest':>10} {'images/s':>9} {'peak':>9}")
    for backbone in options.backbones:
        for job in JOBS:
            sizes = [f"--{key}={getattr(options, key.replace('-', '_'))}" for key in ("size", "images", "batch-size")]
            command = [sys.executable, __file__, *sizes, "--row", job, backbone]
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            row = json.loads(said.splitlines()[-1])
            count = row["images"] + options.batch_size
            print(
                f"{backbone:14} {job:6} {count:7} {row['first']:9.1f} s {row['rest']:8.1f} s "
                f"{row['images'] / row['rest']:9.1f} {row['peak']:6.0f} MB  (imports {row['imports']:.0f} MB)",
                flush=True,
            )


if __name__ == "__main__":
    main()
