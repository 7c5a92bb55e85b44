"""The built-in scenes as images over a land-cover map: shares as labels, from maps as good or bad as is asked for."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from rsml.data.land_cover import CLASSES, shares_of
from rsml.data.samples import Samples

logger = logging.getLogger("rsml")

# What a land-cover map of another year, or by another classifier, takes a class for.
_MISTAKEN: dict[int, tuple[int, ...]] = {
    10: (30, 90),
    20: (30, 10),
    30: (10, 20, 50),
    50: (30, 60),
    60: (50,),
    80: (90, 10),
    90: (80, 30),
    100: (90,),
}
_KEY = 0x6D617073


@dataclass(frozen=True)
class MapNoise:
    """What lies between a land-cover map and the ground: another date, a bad registration, a coarse resolution.

    Args:
        confusion: Probability, for each class of each scene, that the map takes it for a plausible other one.
        shift: Largest offset of the map, in pixels of the image, in both directions.
        pixel: Side of a pixel of the map in pixels of the image; it has the class most frequent in it.
    """

    confusion: float = 0.0
    shift: int = 0
    pixel: int = 1

    def __bool__(self) -> bool:
        return self != MapNoise()

    def disturb(self, codes: np.ndarray, seed: int, index: int) -> np.ndarray:
        """Returns the map of scene `index` as it would be read, a function of the two numbers.

        Args:
            codes: `(height, width)` uint8, the true land cover.
            seed: Another seed makes other mistakes.
            index: Number of the scene.
        """
        random = np.random.default_rng([_KEY, seed, index])
        # Everything is drawn in any case, so that one kind of noise does not change the other.
        table = np.arange(256, dtype=np.uint8)
        for code, others in _MISTAKEN.items():
            mistaken, other = random.random() < self.confusion, others[random.integers(len(others))]
            table[code] = other if mistaken else code
        down, right = np.rint(self.shift * random.uniform(-1, 1, 2)).astype(int)
        rows = np.clip(np.arange(codes.shape[0]) + down, 0, codes.shape[0] - 1)
        columns = np.clip(np.arange(codes.shape[1]) + right, 0, codes.shape[1] - 1)
        return coarse(table[codes][rows][:, columns], self.pixel)


def coarse(codes: np.ndarray, pixel: int) -> np.ndarray:
    """Gives each block of `pixel` x `pixel` the class most frequent in it, the lower code among equals."""
    if pixel == 1:
        return codes
    height, width = codes.shape
    rows, columns = np.arange(0, height, pixel), np.arange(0, width, pixel)
    found = np.unique(codes)
    counts = [np.add.reduceat(np.add.reduceat(codes == code, rows, 0, int), columns, 1, int) for code in found]
    blocks = found[np.argmax(counts, axis=0)]
    return blocks.repeat(pixel, 0).repeat(pixel, 1)[:height, :width]


def land_cover_samples(folder: str | Path, noise: MapNoise, seed: int) -> Samples:
    """Reads scenes that were written with their land cover; the labels are the shares of `CLASSES` in the map.

    Noise is in what is learned from, the training and validation parts; the test part's maps stay true. Scenes with
    nothing but sea or shrubland have no label and are left out.

    Args:
        folder: What `write(..., land_cover=True)` wrote.
        noise: What is wrong with the maps.
        seed: Of the noise.
    """
    folder = Path(folder)
    table = pd.read_csv(folder / "labels.csv", usecols=["path", "scene", "split"], dtype=str, keep_default_na=False)
    files = pd.read_csv(folder / "georeference.csv", usecols=["path", "land_cover"], dtype=str).set_index("path")
    shares, covered = [], []
    for index, (path, split) in enumerate(zip(table["path"], table["split"], strict=True)):
        with Image.open(folder / files["land_cover"][path]) as image:
            codes = np.asarray(image)
        of_scene, fraction = shares_of(noise.disturb(codes, seed, index) if noise and split != "test" else codes)
        shares.append(of_scene)
        covered.append(fraction > 0)
    keep = np.array(covered)
    if not keep.all():
        logger.info("%s: %d scenes lie over no known land cover and are left out", folder, (~keep).sum())
    kept = table[keep]
    return Samples(
        paths=kept["path"].to_numpy(),
        labels=np.array(shares)[keep],
        label_names=tuple(CLASSES),
        task="proportions",
        root=folder,
        scenes=kept["scene"].to_numpy(),
        splits=kept["split"].to_numpy(),
    )
