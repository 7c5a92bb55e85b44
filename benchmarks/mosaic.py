"""Times mapping a scene against `model.predict` on the same windows in memory, and measures memory as scenes grow.

    python benchmarks/mosaic.py [--model checkpoint/<name>] [--side 4096] [--window 256] [--rounds 3]

Both ways are timed in turns, in one process, so that what else the machine does falls on both alike. Memory is the
peak of a child process for each size; its network is next to none, so that nothing hides what reading and writing take.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

from rsml.layers import ScenePredictions
from rsml.mapping.job import MapJob, MapOptions, identity_of
from rsml.mapping.mapping import map_scenes
from rsml.prediction.scene_model import SceneModel, open_model
from rsml.raster.scene import Scene

LABELS = [f"label {number}" for number in range(17)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a run or checkpoint (default: MobileNetV2 with random weights, 160 pixels)")
    parser.add_argument("--side", type=int, default=4096, help="of the scene, in pixels (default: %(default)s)")
    parser.add_argument("--window", type=int, default=256, help="in pixels (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="windows a step (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--memory-side", type=int, default=2048, help="of the smallest scene (default: %(default)s)")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        return peak_of(options)
    with tempfile.TemporaryDirectory() as folder:
        speed(options, Path(folder))
        memory(options, Path(folder))
    return 0


def model_of(options: argparse.Namespace) -> SceneModel:
    if options.model:
        return open_model(options.model)[0]
    image = keras.Input((160, 160, 3))
    backbone = keras.applications.MobileNetV2(include_top=False, weights=None, pooling="avg", input_shape=(160, 160, 3))
    logits = keras.layers.Dense(len(LABELS))(backbone(keras.layers.Rescaling(1 / 127.5, -1)(image)))
    return SceneModel.of(keras.Model(image, ScenePredictions(LABELS)(logits)))


def light_model() -> SceneModel:
    """As good as no network, so that the memory is that of the mosaic."""
    image = keras.Input((32, 32, 3))
    logits = keras.layers.Dense(len(LABELS))(keras.layers.GlobalAveragePooling2D()(image))
    return SceneModel.of(keras.Model(image, ScenePredictions(LABELS)(logits)))


def write_scene(path: Path, side: int) -> Path:
    """Noise under smooth hills, tiled and deflated: it takes GDAL about as long as a real scene."""
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8", "tiled": True}
    profile |= {"compress": "deflate", "crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 1, 1)}
    random = np.random.default_rng(0)
    with rasterio.open(path, "w", **profile) as dataset:
        for row in range(0, side, 256):
            high = min(256, side - row)
            hills = 128 + 60 * np.sin(np.arange(side) / 97) * np.cos((row + np.arange(high))[:, None] / 61)
            values = hills + random.integers(0, 16, (3, high, side))
            dataset.write(values.astype(np.uint8), window=Window(0, row, side, high))
    return path


def speed(options: argparse.Namespace, folder: Path) -> None:
    model = model_of(options)
    scene = write_scene(folder / "scene.tif", options.side)
    how = MapOptions(window=(options.window,) * 2, batch_size=options.batch_size, fresh=True)
    job = MapJob(Scene(scene), folder / "map", model, how, identity_of(model))
    tiles = np.concatenate([job.read(block, 0)[1] for block in job.grid.blocks()]).astype(np.float32)
    names = ("model.predict, tiles in memory", "labelling the scene", "and writing raster, tiles, picture")
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    finishing = timed_finish()
    for turn in range(options.rounds + 1):
        begun = clocks()
        model.model.predict(tiles, batch_size=options.batch_size, verbose=0)
        middle = clocks()
        map_scenes(model, [scene], [folder / "map"], how)
        end = clocks()
        if turn:
            for name, taken in zip(names, (middle - begun, end - middle - finishing[-1], end - middle), strict=True):
                times[name].append(taken)
    print(f"{len(tiles)} windows of {options.window} px of a {options.side} px scene, {options.batch_size} a batch")
    print(f"{'':<34} {'windows/s':>10} {'share':>6} {'share of work':>14}  each turn")
    alone = np.array(times[names[0]])
    for name in names:
        rates = len(tiles) / np.array(times[name])
        shares = alone / np.array(times[name])
        wall, work = np.median(shares, axis=0)
        each = " ".join(f"{share:.0%}" for share in shares[:, 0])
        print(f"{name:<34} {np.median(rates[:, 0]):>10.1f} {wall:>6.0%} {work:>14.0%}  {each}")
    print(f"writing takes {np.median(finishing, axis=0)[0]:.1f} s a scene")


def clocks() -> np.ndarray:
    """Seconds that have passed, and that the processors have worked for this program: others do not change these."""
    return np.array([time.perf_counter(), time.process_time()])


def timed_finish() -> list[np.ndarray]:
    """`clocks` that every map's end takes, when its files are written."""
    seconds, finish = [], MapJob.finish

    def timed(job: MapJob) -> None:
        begun = clocks()
        finish(job)
        seconds.append(clocks() - begun)

    MapJob.finish = timed
    return seconds


def memory(options: argparse.Namespace, folder: Path) -> None:
    print(f"\n{'scene':<20} {'pixels':>8} {'peak MiB':>9} {'without TensorFlow and the model':>34}")
    for times in (1, 2, 4):
        side = times * options.memory_side
        scene = write_scene(folder / f"scene{side}.tif", side)
        command = [sys.executable, __file__, "--peak-of", str(scene), "--window", str(options.window)]
        peak, before = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-2:])
        print(
            f"{f'{side} x {side}':<20} {times**2:>7}x {peak / 1024:>9.0f} {(peak - before) / 1024:>34.0f}", flush=True
        )


def peak_of(options: argparse.Namespace) -> int:
    model = light_model()
    model.model.predict_on_batch(np.zeros((options.batch_size, 32, 32, 3), np.float32))
    before = peak()
    how = MapOptions(window=(options.window,) * 2, batch_size=options.batch_size)
    map_scenes(model, [options.peak_of], [Path(options.peak_of).with_suffix("")], how)
    print(peak(), before)
    return 0


def peak() -> int:
    """In KiB, of this program alone: `getrusage` counts in what the parent used (Linux only)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    sys.exit(main())
