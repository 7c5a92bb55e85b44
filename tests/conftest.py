"""Small data sets on disk that many tests share."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COLOURS = {"water": (40, 70, 140), "forest": (40, 110, 50), "sand": (200, 180, 130)}


@pytest.fixture(scope="session")
def scene_folder(tmp_path_factory) -> Path:
    """Class folders with 12 images of 32 px each; a class is a colour under noise."""
    root = tmp_path_factory.mktemp("classes")
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name).mkdir()
        for number in range(12):
            pixels = np.clip(np.array(colour) + random.normal(0, 30, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{name}{number:02d}.png")
    return root


@pytest.fixture(scope="session")
def multilabel_csv(scene_folder: Path, tmp_path_factory) -> Path:
    """The same images with two labels of their own, `water` and `trees`, and one that all have, `grass`."""
    rows = ["path,scene,split,water,trees,grass"]
    for name in COLOURS:
        for number in range(12):
            split = "train" if number < 8 else "valid" if number < 10 else "test"
            image = scene_folder / name / f"{name}{number:02d}.png"
            rows.append(f"{image},{name},{split},{int(name == 'water')},{int(name == 'forest')},1")
    file = tmp_path_factory.mktemp("labels") / "labels.csv"
    file.write_text("\n".join(rows) + "\n")
    return file


@pytest.fixture(scope="session")
def share_table(scene_folder: Path, tmp_path_factory) -> Path:
    """A table of shares beside a copy of those images: mostly the class that gave the colour."""
    random = np.random.default_rng(0)
    rows = ["path,split,covered,water,forest,bare"]
    for place, name in enumerate(COLOURS):
        for number in range(12):
            split = "train" if number < 8 else "valid" if number < 10 else "test"
            shares = 0.7 * np.eye(3)[place] + 0.3 * random.dirichlet(np.ones(3))
            rows.append(f"{name}/{name}{number:02d}.png,{split},1.0," + ",".join(f"{share:.6f}" for share in shares))
    tiles = shutil.copytree(scene_folder, tmp_path_factory.mktemp("shares") / "tiles")
    file = tiles / "land_cover.csv"
    file.write_text("\n".join(rows) + "\n")
    return file
