"""From (seed, index) to a finished scene: layout, light, sensor, labels, land cover and georeference."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import ImageFilter

from rsml.scenes import nature, roads, settlements, sport, transport
from rsml.scenes.canvas import Canvas
from rsml.scenes.materials import LABEL_OF, LABELS, LAND_COVER, VISIBLE, season
from rsml.utils.errors import UserError

# How each scene class is laid out, and the side of its scenes in metres (least, most).
_LAYOUTS: dict[str, tuple[Callable[[Canvas], None], float, float]] = {
    "agricultural": (nature.agricultural, 55, 110),
    "airplane": (transport.airplane, 58, 88),
    "baseballdiamond": (sport.baseballdiamond, 68, 110),
    "beach": (nature.beach, 70, 110),
    "buildings": (settlements.buildings, 65, 100),
    "chaparral": (nature.chaparral, 50, 85),
    "denseresidential": (settlements.denseresidential, 60, 90),
    "forest": (nature.forest, 50, 85),
    "freeway": (roads.freeway, 58, 90),
    "golfcourse": (nature.golfcourse, 70, 105),
    "harbor": (transport.harbor, 48, 76),
    "intersection": (roads.intersection, 58, 85),
    "mediumresidential": (settlements.mediumresidential, 68, 95),
    "mobilehomepark": (settlements.mobilehomepark, 60, 88),
    "overpass": (roads.overpass, 62, 95),
    "parkinglot": (settlements.parkinglot, 50, 75),
    "river": (nature.river, 65, 105),
    "runway": (transport.runway, 60, 95),
    "sparseresidential": (nature.sparseresidential, 62, 90),
    "storagetanks": (transport.storagetanks, 62, 95),
    "tenniscourt": (sport.tenniscourt, 55, 85),
}

SCENES: tuple[str, ...] = tuple(_LAYOUTS)

SMALLEST = 32


@dataclass(frozen=True, eq=False)
class Scene:
    """One drawn aerial scene.

    Args:
        image: `(size, size, 3)` uint8 RGB.
        labels: `(17,)` uint8, 1 for each of `LABELS` that is to be seen in the image.
        scene: the scene class, one of `SCENES`.
        land_cover: `(size, size)` uint8 GlobeLand30 codes (255: sea).
        transform: `(a, b, c, d, e, f)` of the affine map from (column, row) to metres, in rasterio's order.
        crs: the coordinate system of these metres.
        ground_sampling: side of a pixel in metres.
        materials: `(finer * size, finer * size)` uint8, what the sheet is made of that the image was taken of, at a
            whole number of samples a pixel; numbers of `rsml.scenes.materials.MATERIALS`.

    Examples:
        >>> scene = draw(10, size=64)
        >>> scene.scene, scene.mask("ship").shape
        ('harbor', (64, 64))
    """

    image: np.ndarray
    labels: np.ndarray
    scene: str
    land_cover: np.ndarray
    transform: tuple[float, float, float, float, float, float]
    crs: str
    ground_sampling: float
    materials: np.ndarray

    def coverage(self, label: str) -> np.ndarray:
        """The share of each pixel that one label covers, `(size, size)` float32.

        Its mean is what decides on the label: it is given from `rsml.scenes.materials.VISIBLE` on.
        """
        if label not in LABELS:
            raise UserError(f"label: expected one of {', '.join(LABELS)}; found {label!r}.")
        size = len(self.image)
        finer = len(self.materials) // size
        found = np.equal(LABEL_OF, LABELS.index(label))[self.materials]
        return found.reshape(size, finer, size, finer).mean((1, 3), dtype=np.float32)

    def mask(self, label: str) -> np.ndarray:
        """Where one label is to be seen, `(size, size)` bool: pixels of which any part is covered by it."""
        return self.coverage(label) > 0


def draw(index: int, *, seed: int = 0, size: int = 128, scene: str | None = None) -> Scene:
    """Draws one scene; the same arguments give the same scene on any machine and in any order.

    Args:
        index: number of the scene. Its class is `SCENES[index % len(SCENES)]`.
        seed: another seed gives another set of scenes.
        size: side of the image in pixels, at least 32. The layout does not depend on it.
        scene: draw this class instead.

    Returns:
        The scene with its labels, land cover and georeference.
    """
    if size < SMALLEST:
        raise UserError(f"size: scenes are drawn from {SMALLEST} pixels on, found {size}; give a larger size.")
    if index < 0:
        raise UserError(f"index: expected 0 or more, found {index}.")
    scene = scene or SCENES[index % len(SCENES)]
    if scene not in _LAYOUTS:
        raise UserError(f"scene: expected one of {', '.join(SCENES)}; found {scene!r}.")
    key = hashlib.sha256(f"rsml scene {seed} {index} {scene}".encode()).digest()
    rng = random.Random(int.from_bytes(key[:16], "little"))
    layout, least, most = _LAYOUTS[scene]
    extent = rng.uniform(least, most)
    # At least twice the image's resolution, so that edges are smooth and small things keep their form.
    finer = 2 if size >= 96 else 3 if size >= 64 else 5
    sensor = random.Random(int.from_bytes(key[16:], "little"))
    canvas = Canvas(rng, finer * size, extent, season(rng))
    layout(canvas)
    image = _photograph(canvas, size, finer, sensor)
    material = canvas.materials()
    sampling = extent / size
    # Scenes lie one beside the other in a grid of 2 km within UTM zone 12 north.
    place = int.from_bytes(key[:4], "little")
    east, north = 300_000.0 + 2_000.0 * (place % 200), 4_000_000.0 + 2_000.0 * (place // 200 % 200)
    return Scene(
        image=image,
        labels=_visible(material),
        scene=scene,
        land_cover=LAND_COVER[material[finer // 2 :: finer, finer // 2 :: finer]],
        transform=(sampling, 0.0, east, 0.0, -sampling, north),
        crs="EPSG:32612",
        ground_sampling=sampling,
        materials=material,
    )


def _visible(material: np.ndarray) -> np.ndarray:
    """Returns the labels of what covers enough of the picture."""
    pixels = np.bincount(material.ravel(), minlength=len(LABEL_OF))
    shares = np.bincount(LABEL_OF, weights=pixels, minlength=len(LABELS) + 1)[: len(LABELS)] / material.size
    return (shares >= VISIBLE).astype(np.uint8)


def _photograph(canvas: Canvas, size: int, finer: int, rng: random.Random) -> np.ndarray:
    """Takes the picture: sunlight, haze, white balance, the lens's blur and the sensor's noise."""
    dark = rng.uniform(0.42, 0.72)
    bands = canvas.finish((dark * 1.03, dark, dark * 0.88))
    light = rng.uniform(0.72, 1.2)
    contrast, haze = rng.uniform(0.8, 1.15), rng.uniform(0, 34)
    warmth, tint = rng.uniform(-0.09, 0.09), rng.uniform(-0.05, 0.05)
    gains = (1 + warmth, 1 + tint, 1 - warmth)
    air = (0.92, 1.0, 1.08)
    saturation = rng.uniform(0.5, 1.1)
    bands = [band.reduce(finer) for band in bands]
    blur = rng.uniform(0.0, 0.6) * size / 128
    if blur > 0.3:
        bands = [band.filter(ImageFilter.BoxBlur(blur)) for band in bands]
    red, green, blue = pixels = [np.asarray(band).astype(np.float32) for band in bands]
    grey = red * np.float32(0.3) + green * np.float32(0.59) + blue * np.float32(0.11)
    grey *= np.float32(1 - saturation)
    # The sum of three uniform bytes comes close to a normal law, and is an integer: equal on every machine.
    strength = rng.uniform(1.0, 5.0)
    noise = np.random.Generator(np.random.PCG64(rng.getrandbits(64))).integers(0, 256, (3, 3, size, size), np.uint8)
    result = np.empty((size, size, 3), np.uint8)
    for band, (gain, part) in enumerate(zip(gains, air, strict=True)):
        grain = noise[band, 0].astype(np.float32)
        grain += noise[band, 1]
        grain += noise[band, 2]
        grain *= np.float32(strength / 128)
        grain += (pixels[band] * np.float32(saturation) + grey) * np.float32(contrast * light * gain)
        grain += np.float32(118 * light * gain * (1 - contrast) + haze * part - 382.5 * strength / 128)
        result[..., band] = np.clip(grain, 0, 255)
    return result
