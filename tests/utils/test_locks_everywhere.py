"""Every place that a command fills is held by one writer: the second one is told who holds it, and changes nothing."""

import os

import numpy as np
import pytest
from PIL import Image

from rsml.data.divide import divide
from rsml.scenes.writing import write as draw_scenes
from rsml.utils.errors import UserError
from rsml.utils.locks import lock


def divided(folder, data):
    divide(data, folder, shares=(50, 25, 25))


def drawn(folder, data):
    draw_scenes(folder, count=3, size=32, workers=1)


def embedded(folder, data):
    from rsml.retrieval.building import build_index

    class Embeds:
        fingerprint, about = "one", {"layer": "x"}

        def stream(self, files, bad, batch_size):
            yield files, np.ones((len(files), 2), np.float32)

    build_index(folder, Embeds(), sorted(str(file) for file in data.rglob("*.png")))


def compared(folder, data):
    from rsml.comparison.grid import compare
    from rsml.config import Experiment

    def measure(experiment, root, split, retrieval):
        return {"task": "single-label", "metrics": {"accuracy": 1.0}}

    compare(Experiment(name="x"), {"a": []}, [0], root=folder, metrics=["accuracy"], measure=measure)


def cut(folder, data):
    rasterio = pytest.importorskip("rasterio")
    from rsml.geo.crop import CropOptions, crop

    scene = data.parent / "scene.tif"
    transform = rasterio.transform.from_origin(500_000, 5_000_000, 10, 10)
    with rasterio.open(
        scene, "w", driver="GTiff", width=32, height=32, count=3, dtype="uint8", crs="EPSG:32632", transform=transform
    ) as file:
        file.write(np.random.default_rng(0).integers(1, 255, (3, 32, 32), dtype=np.uint8))
    counts = crop([str(scene)], folder.parent, CropOptions(tile=16, step=16, filters=None), workers=1)
    if not counts[folder.name]:
        raise UserError("in use: the scene was left out")


@pytest.fixture
def data(tmp_path):
    for number in range(12):
        file = tmp_path / "data" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(file)
    return tmp_path / "data"


@pytest.mark.parametrize("work", [divided, drawn, embedded, compared, cut])
def test_a_second_writer_is_refused_and_a_later_one_is_not(work, data, tmp_path):
    folder = tmp_path / "made" / "scene"
    with lock(folder, "something else"):
        before = os.listdir(folder)
        with pytest.raises(UserError, match="in use"):
            work(folder, data)
        assert os.listdir(folder) == before
    work(folder, data)
    made = set(os.listdir(folder))
    assert len(made) > 1 and not any(name.startswith(".") for name in made)


def test_the_lock_of_a_killed_process_keeps_nobody_out(data, tmp_path):
    """What a SIGKILL leaves behind in an empty folder is no other's file."""
    for number, work in enumerate([divided, drawn, embedded, compared, cut]):
        folder = tmp_path / f"made{number}" / "scene"
        folder.mkdir(parents=True)
        (folder / ".lock").write_text('{"pid": 999999999, "work": "x"}')
        work(folder, data)
        assert not (folder / ".lock").exists()
