"""Small cases of the commands that write, each a function of the folder it fills and of one that holds its data."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sqlite3
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Work = Callable[[Path, Path], None]


def make_data(folder: Path) -> Path:
    """Twelve images in two classes, and a georeferenced scene beside them."""
    for number in range(12):
        file = folder / "images" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 120, (16, 16, 3), dtype=np.uint8) + 100 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(file)
    with contextlib.suppress(ImportError):
        import rasterio
        from rasterio.transform import from_origin

        place: dict[str, Any] = {"crs": "EPSG:32632", "transform": from_origin(500_000, 5_000_000, 10, 10)}
        shape = {"width": 48, "height": 48, "count": 3, "dtype": "uint8", "driver": "GTiff"}
        with rasterio.open(folder / "scene.tif", "w", **shape, **place) as file:
            file.write(np.random.default_rng(0).integers(1, 255, (3, 48, 48), dtype=np.uint8))
    return folder


def divide(folder: Path, data: Path) -> None:
    from rsml.data.divide import divide as run

    run(data / "images", folder, shares=(50, 25, 25))


def scenes(folder: Path, data: Path) -> None:
    from rsml.scenes.writing import write

    write(folder, count=5, size=32, land_cover=True, workers=1)


class Embeds:
    """Embeds an image as its mean colour."""

    fingerprint, about = "mean colour", {"layer": "mean"}

    def stream(self, files: list[str], bad: list[Any], batch_size: int) -> Iterator[tuple[list[str], np.ndarray]]:
        for begin in range(0, len(files), 4):
            names = files[begin : begin + 4]
            yield names, np.stack([np.asarray(Image.open(name)).mean(axis=(0, 1)) for name in names]).astype("float32")


def index(folder: Path, data: Path) -> None:
    from rsml.retrieval.building import build_index

    images = sorted(str(file) for file in (data / "images").rglob("*.png"))
    build_index(folder, Embeds(), images, part_images=4)


def compare(folder: Path, data: Path) -> None:
    from rsml.comparison.grid import compare as run
    from rsml.config import Experiment

    def measure(experiment: Experiment, *_: object) -> dict[str, Any]:
        return {"task": "single-label", "metrics": {"accuracy": 0.5 + experiment.seed / 10}}

    variants: dict[str, Sequence[str]] = {"a": [], "b": ["training.epochs=3"]}
    run(Experiment(name="x"), variants, [0, 1], root=folder, metrics=["accuracy"], measure=measure)


def crop(folder: Path, data: Path) -> None:
    from rsml.geo.crop import CropOptions
    from rsml.geo.crop import crop as run
    from rsml.utils.errors import UserError

    options = CropOptions(tile=16, step=16, filters=None)
    if not run([str(data / "scene.tif")], folder, options, workers=1)["scene"]:
        raise UserError("the scene was left out")  # which the command says by its exit code


def train(folder: Path, data: Path) -> None:
    import keras

    from rsml.config import Data, Experiment, Training
    from rsml.training.loop import train as run

    keras.backend.clear_session()  # a process of its own would name its layers anew
    run(
        Experiment(
            name="run",
            data=Data(source=str(data / "images"), task="single-label", image_size=32, fractions=(50, 25, 25)),
            training=Training(epochs=2, batch_size=3, save_every=1),
            evaluation={"figures": False, "calibrate": False, "resamples": 20, "page": False},
        ),
        root=folder,
    )


def make_model(data: Path) -> Path:
    """A model that nothing has taught, for what needs one."""
    import keras

    from rsml.layers import ScenePredictions

    file = data / "model.keras"
    if not file.is_file():
        keras.utils.set_random_seed(0)
        images = keras.Input((16, 16, 3))
        logits = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(images)))
        keras.Model(images, ScenePredictions(labels=["a", "b"], task="single-label")(logits)).save(file)
    return file


def map_scene(folder: Path, data: Path) -> None:
    from rsml.mapping.mapping import MapOptions, map_scenes
    from rsml.prediction.scene_model import SceneModel

    model = SceneModel.load(make_model(data))
    map_scenes(model, [data / "scene.tif"], [folder], MapOptions(window=(16, 16), step=(8, 8)))


def export(folder: Path, data: Path) -> None:
    from rsml.export.exporting import export_model

    done = export_model(make_model(data), ["tflite"], out=folder, images=[str(data / "images")])
    if done.faults:
        from rsml.utils.errors import UserError

        raise UserError("; ".join(map(str, done.faults.values())))


LIGHT: dict[str, Work] = {"divide": divide, "scenes": scenes, "index": index, "compare": compare, "crop": crop}
"""Without TensorFlow."""
HEAVY: dict[str, Work] = {"map": map_scene, "train": train, "export": export}
ALL = LIGHT | HEAVY


def content(folder: Path) -> dict[str, Any]:
    """What a command has made, but for what says when and where: every file that is left, left-overs included."""
    found = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "logs"]  # TensorBoard's events carry the time
        # The lock of a killed process holds nobody out, and what is finished is not locked again.
        for name in set(names) - {".lock"}:
            file = Path(place) / name
            found[str(file.relative_to(folder))] = _plain(file)
    return found


def _plain(file: Path) -> Any:
    data = file.read_bytes()
    if file.name in _TIMES:
        return "written"
    if file.suffix in (".keras", ".npz"):
        with zipfile.ZipFile(file) as archive:
            found = {name: archive.read(name) for name in archive.namelist() if name != "metadata.json"}
        return {name: _arrays(data) if name.endswith(".h5") else data for name, data in found.items()}
    if file.suffix == ".gpkg":
        with contextlib.closing(sqlite3.connect(file)) as tables:
            return [line for line in tables.iterdump() if 'INTO "gpkg_contents"' not in line]  # says when
    if file.suffix == ".json":
        return _without_times(json.loads(data))
    return data


def _arrays(data: bytes) -> dict[str, bytes]:
    import h5py

    found = {}

    def keep(name: str, member: Any) -> None:
        if isinstance(member, h5py.Dataset):
            found[name] = member[()].tobytes()

    # Between its arrays the file holds whatever was in memory.
    with h5py.File(io.BytesIO(data)) as file:
        file.visititems(keep)
    return found


_TIMES = {"manifest.json", "made_with.json", "journal.csv"}
_SAYS_WHEN = {"seconds", "changed", "made", "sha256", "checksums", "written", "files_sha256"}


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(item) for key, item in value.items() if key not in _SAYS_WHEN}
    return value
