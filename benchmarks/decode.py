"""Images of 256 x 256 pixels a second from file to array, by format: rsml, TensorFlow's own decoders, Pillow.

    python benchmarks/decode.py [--images 2000] [--threads 2] [--rounds 3]

Each row reads the same picture from 100 files through tf.data. The ways run in turns and the best round counts, because
other work slows all of them; processor time (over all threads) hardly depends on it.
"""

import rsml  # noqa: F401  # quiets TensorFlow before it is loaded

# isort: split
import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
import tifffile
from PIL import Image

from rsml.data.pipeline import image_reader

FILES = 100
TENSORFLOW = {
    "JPEG": lambda contents: tf.io.decode_jpeg(contents, channels=3),
    "PNG": lambda contents: tf.io.decode_png(contents, channels=3),
}


def picture() -> np.ndarray:
    """One of UC Merced's scenes where RSML_TEST_DATA is set, else a drawn one."""
    shared = os.environ.get("RSML_TEST_DATA")
    if shared and (file := Path(shared, "data", "ucm_tif", "airplane", "airplane55.tif")).exists():
        return np.asarray(Image.open(file).resize((256, 256)).convert("RGB"))
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).resize((256, 256), Image.BICUBIC)
    return np.clip(np.asarray(coarse) + rng.normal(0, 8, (256, 256, 3)), 0, 255).astype(np.uint8)


def encodings(values: np.ndarray) -> dict[str, bytes]:
    """The picture in each format."""

    def pillow(form: str, **options) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, form, **options)
        return buffer.getvalue()

    def tiff(pixels: np.ndarray, compression: str | None) -> bytes:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, pixels, photometric="rgb", compression=compression)
        return buffer.getvalue()

    forms = {"JPEG": pillow("JPEG", quality=92, subsampling=0), "PNG": pillow("PNG")}
    for compression in (None, "packbits", "lzw", "deflate", "zstd", "jpeg"):
        forms[f"TIFF, {compression or 'raw'}"] = tiff(values, compression)
    forms["TIFF, raw, 16 bits"] = tiff(values.astype(np.uint16) * 40, None)
    return forms


def rsml_way(files: list[str]) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(files).map(image_reader((256, 256, 3)), tf.data.AUTOTUNE)


def mapped(decode: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[list[str]], tf.data.Dataset]:
    return lambda files: tf.data.Dataset.from_tensor_slices(files).map(
        lambda file: decode(tf.io.read_file(file)), tf.data.AUTOTUNE
    )


def with_pillow(contents: tf.Tensor) -> tf.Tensor:
    return tf.numpy_function(lambda data: np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), [contents], tf.uint8)


def measure(dataset: tf.data.Dataset, count: int, threads: int) -> tuple[float, float]:
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    images = iter(dataset.with_options(options))
    for _ in range(count // 4):
        next(images)
    start, start_processor = time.perf_counter(), time.process_time()
    for _ in range(count):
        next(images)
    return count / (time.perf_counter() - start), 1000 * (time.process_time() - start_processor) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, help="images a measurement")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{arguments.threads} threads, best of {arguments.rounds} rounds: images a second (ms of CPU an image)\n")
    print("| format | rsml | tf.io | Pillow |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, content in encodings(picture()).items():
            files = [os.path.join(folder, f"{number}") for number in range(FILES)]
            for file in files:
                Path(file).write_bytes(content)
            ways = {"rsml": rsml_way, "Pillow": mapped(with_pillow)}
            if name in TENSORFLOW:
                ways["tf.io"] = mapped(TENSORFLOW[name])
            if name.endswith("16 bits"):
                del ways["Pillow"]  # cannot open it
            best = dict.fromkeys(ways, (0.0, np.inf))
            for _ in range(arguments.rounds):
                for way, dataset in ways.items():
                    endless = files * (2 + 5 * arguments.images // (4 * FILES))
                    speed, cost = measure(dataset(endless), arguments.images, arguments.threads)
                    best[way] = (max(best[way][0], speed), min(best[way][1], cost))
            cells = [
                f"{best[way][0]:.0f} ({best[way][1]:.2f})" if way in best else "" for way in ("rsml", "tf.io", "Pillow")
            ]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
