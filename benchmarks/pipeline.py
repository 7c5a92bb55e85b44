"""Images a second through decode, resize, flips and colour jitter: rsml's pipeline beside the same work in Pillow.

    python benchmarks/pipeline.py [--size 256] [--images 2000] [--threads 2] [--rounds 3]

The two run in turns, because other work on the machine then slows both; the best round of each counts. Processor time
(over all threads) hardly depends on that other work. The images are UC Merced's where RSML_TEST_DATA is set,
else drawn.
"""

import rsml  # noqa: F401  # quiets TensorFlow before it is loaded

# isort: split
import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image, ImageEnhance

from rsml.data.augment import Augment
from rsml.data.pipeline import training_dataset
from rsml.data.samples import Samples

JITTER = Augment(brightness=(0.6, 1.4), contrast=(0.6, 1.4), saturation=(0.6, 1.4))
BATCH = 32


def image_files(folder: Path, count: int = 200) -> list[Path]:
    """UC Merced's JPEGs, or as many drawn ones of the same size."""
    shared = os.environ.get("RSML_TEST_DATA")
    if shared and (found := sorted(Path(shared, "data", "ucm", "Images").rglob("*.jpg"))):
        return found
    rng = np.random.default_rng(0)
    files = [folder / f"{number}.jpg" for number in range(count)]
    for file in files:
        coarse = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).resize((256, 256), Image.BICUBIC)
        grain = rng.normal(0, 8, (256, 256, 3))
        Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)).save(
            file, quality=92, subsampling=0
        )
    return files


def ours(samples: Samples, size: int, threads: int, augment: Augment | None) -> Iterator[int]:
    epochs = 1000
    dataset = training_dataset(samples, image_size=size, batch_size=BATCH, epochs=epochs, augment=augment)
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    for images, _ in dataset.with_options(options):
        yield len(images)


def pillow(samples: Samples, size: int, threads: int, augment: Augment | None) -> Iterator[int]:
    def load(number: int) -> np.ndarray:
        rng = np.random.default_rng(number)
        image = Image.open(samples.files[number % len(samples)]).convert("RGB")
        if image.size != (size, size):
            image = image.resize((size, size), Image.BILINEAR)
        if augment is not None:
            for flip in (Image.FLIP_LEFT_RIGHT, Image.FLIP_TOP_BOTTOM):
                if rng.random() < 0.5:
                    image = image.transpose(flip)
            for enhance in rng.permutation([ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color]):
                image = enhance(image).enhance(rng.uniform(0.6, 1.4))
        return np.asarray(image, np.float32)

    with ThreadPoolExecutor(threads) as pool:
        number = 0
        while True:
            yield len(np.stack(list(pool.map(load, range(number, number + BATCH)))))
            number += BATCH


def measure(batches: Iterator[int], count: int) -> tuple[float, float]:
    """Images a second, and milliseconds of processor time an image, once running."""
    for _ in range(8):
        next(batches)
    start, start_processor, done = time.perf_counter(), time.process_time(), 0
    while done < count:
        done += next(batches)
    elapsed, processor = time.perf_counter() - start, time.process_time() - start_processor
    batches.close()
    return done / elapsed, 1000 * processor / done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs="+", default=[256, 224], help="sides to resize to")
    parser.add_argument("--images", type=int, default=1500, help="images a measurement")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = image_files(Path(folder))
        names = np.array([str(file) for file in files])
        samples = Samples(names, np.ones((len(files), 1), np.uint8), ("any",), "multi-label", Path("/"))
        print(f"{len(files)} JPEG files, batches of {BATCH}, {arguments.threads} threads, best of {arguments.rounds}\n")
        print("| work | side | rsml images/s | Pillow images/s | ratio | rsml ms CPU | Pillow ms CPU | ratio |")
        print("|---|---|---|---|---|---|---|---|")
        for size in arguments.size:
            for name, augment in (("decode, resize", None), ("decode, resize, flips, jitter", JITTER)):
                rates, costs = {ours: 0.0, pillow: 0.0}, {ours: np.inf, pillow: np.inf}
                for _ in range(arguments.rounds):
                    for way in rates:
                        batches = way(samples, size, arguments.threads, augment)
                        speed, cost = measure(batches, arguments.images)
                        rates[way], costs[way] = max(rates[way], speed), min(costs[way], cost)
                print(
                    f"| {name} | {size} | {rates[ours]:.0f} | {rates[pillow]:.0f} | {rates[ours] / rates[pillow]:.2f} "
                    f"| {costs[ours]:.2f} | {costs[pillow]:.2f} | {costs[pillow] / costs[ours]:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
