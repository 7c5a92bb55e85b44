"""What the ground and the things on it are made of: label, land cover, texture, and the colours of a season."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Colour = tuple[int, int, int]

LABELS: tuple[str, ...] = (
    "airplane",
    "bare-soil",
    "buildings",
    "cars",
    "chaparral",
    "court",
    "dock",
    "field",
    "grass",
    "mobile-home",
    "pavement",
    "sand",
    "sea",
    "ship",
    "tanks",
    "trees",
    "water",
)


class Material(NamedTuple):
    """One kind of surface.

    Args:
        label: the label that visible pixels of it stand for, or `None`.
        land_cover: its GlobeLand30 code (255: sea, as in GeoKR).
        mottle: strength of brightness changes over tens of metres.
        grain: strength of brightness changes below a metre.
        tint: strength of slow changes between green and yellow.
        relief: strength of the shading of its height by the sun.
    """

    label: str | None
    land_cover: int
    mottle: float = 0.06
    grain: float = 0.05
    tint: float = 0.0
    relief: float = 0.0


(
    NOTHING,
    GRASS,
    MARSH,
    SOIL,
    SAND,
    FIELD,
    TREE,
    SHRUB,
    WATER,
    SEA,
    PAVEMENT,
    BUILDING,
    MOBILE_HOME,
    CAR,
    SHIP,
    DOCK,
    AIRPLANE,
    TANK,
    COURT,
    POOL,
    FIXTURE,
) = range(21)

MATERIALS: tuple[Material, ...] = (
    Material(None, 0),
    Material("grass", 30, mottle=0.07, grain=0.07, tint=0.035),
    Material("grass", 50, mottle=0.15, grain=0.09, tint=0.07),
    Material("bare-soil", 90, mottle=0.06, grain=0.055, tint=0.01),
    Material("sand", 90, mottle=0.03, grain=0.03, tint=0.006),
    Material("field", 10, mottle=0.035, grain=0.05, tint=0.012),
    Material("trees", 20, mottle=0.08, grain=0.17, tint=0.03, relief=1.0),
    Material("chaparral", 40, mottle=0.08, grain=0.14, tint=0.02, relief=1.0),
    Material("water", 60, mottle=0.05, grain=0.02),
    Material("sea", 255, mottle=0.05, grain=0.03),
    Material("pavement", 80, mottle=0.045, grain=0.03),
    Material("buildings", 80, mottle=0.04, grain=0.035),
    Material("mobile-home", 80, mottle=0.03, grain=0.03),
    Material("cars", 80, mottle=0.0, grain=0.02),
    # A ship hides water: the land cover under it is still water.
    Material("ship", 60, mottle=0.0, grain=0.03),
    Material("dock", 80, mottle=0.04, grain=0.06),
    Material("airplane", 80, mottle=0.0, grain=0.015),
    Material("tanks", 80, mottle=0.04, grain=0.025),
    Material("court", 80, mottle=0.05, grain=0.035),
    # UC Merced does not call a swimming pool water.
    Material(None, 80, mottle=0.02, grain=0.04),
    Material(None, 80, mottle=0.03, grain=0.03),
)


def table(field: str) -> np.ndarray:
    """Returns one texture field of all materials as a float32 array, to be indexed by material."""
    return np.array([getattr(material, field) for material in MATERIALS], np.float32)


LAND_COVER = np.array([material.land_cover for material in MATERIALS], np.uint8)
LABEL_OF = np.array([LABELS.index(m.label) if m.label else len(LABELS) for m in MATERIALS], np.int64)

# The share of the image from which on a label is given. One car is about 0.12 % of a 77 m scene.
VISIBLE = np.full(len(LABELS), 0.004)
for _label, _share in {"cars": 0.0007, "ship": 0.0015, "grass": 0.015, "bare-soil": 0.012, "pavement": 0.012}.items():
    VISIBLE[LABELS.index(_label)] = _share


def shade(colour: Colour, factor: float) -> Colour:
    """Returns the colour, brighter or darker by a factor."""
    red, green, blue = colour
    return (
        max(0, min(255, int(red * factor))),
        max(0, min(255, int(green * factor))),
        max(0, min(255, int(blue * factor))),
    )


def vary(rng: random.Random, colour: Colour, brightness: float = 0.08, hue: float = 0.04) -> Colour:
    """Returns the colour with a random brightness and a little random hue."""
    factor = 1 + rng.uniform(-brightness, brightness)
    red, green, blue = (c * factor * (1 + rng.uniform(-hue, hue)) for c in colour)
    return max(0, min(255, int(red))), max(0, min(255, int(green))), max(0, min(255, int(blue)))


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Returns a colour between two, `share` of the way to the second."""
    return tuple(int(a + (b - a) * share) for a, b in zip(first, second, strict=True))  # type: ignore[return-value]


@dataclass(frozen=True)
class Palette:
    """The colours of one place in one season."""

    climate: str
    grass: Colour
    trees: tuple[Colour, ...]
    shrub: Colour
    soil: Colour
    sand: Colour
    asphalt: Colour
    concrete: Colour
    water: Colour


_GRASS = {"lush": (86, 116, 62), "mild": (110, 122, 82), "dry": (152, 138, 100), "winter": (140, 130, 102)}
_TREES = {
    "lush": ((50, 78, 42), (62, 90, 48), (42, 66, 44), (74, 98, 54)),
    "mild": ((58, 80, 50), (74, 90, 56), (48, 68, 50), (84, 96, 62)),
    "dry": ((76, 86, 54), (92, 96, 62), (66, 80, 56), (102, 96, 66)),
    "winter": ((112, 98, 84), (122, 108, 92), (70, 80, 60), (102, 86, 72)),
}
_SOIL = ((170, 142, 112), (150, 122, 94), (190, 164, 132), (178, 128, 96), (140, 124, 106))
_WATER = ((44, 66, 62), (62, 84, 76), (84, 92, 72), (36, 50, 60), (96, 98, 84), (50, 82, 88))


def season(rng: random.Random) -> Palette:
    """Draws the colours of a place and season."""
    climate = rng.choice(("lush", "lush", "mild", "mild", "dry", "winter"))
    return Palette(
        climate=climate,
        grass=vary(rng, _GRASS[climate], 0.14, 0.06),
        trees=tuple(vary(rng, colour, 0.15, 0.06) for colour in _TREES[climate]),
        shrub=vary(rng, rng.choice(((88, 82, 58), (76, 84, 54), (98, 84, 66), (70, 72, 52))), 0.15, 0.05),
        soil=vary(rng, rng.choice(_SOIL), 0.12, 0.04),
        sand=vary(rng, (216, 202, 174), 0.08, 0.04),
        asphalt=vary(rng, rng.choice(((88, 88, 90), (108, 106, 104), (128, 125, 120), (142, 136, 126))), 0.1, 0.02),
        concrete=vary(rng, (180, 175, 164), 0.1, 0.02),
        water=vary(rng, rng.choice(_WATER), 0.12, 0.05),
    )
