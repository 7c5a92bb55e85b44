"""Natural-looking noise, cut from a few tiles that every process makes once.

All arithmetic on the tiles is in integers (Pillow resizes 8-bit images in fixed point): equal on every machine.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image

TILE = 512


@lru_cache(maxsize=8)
def tile(wavelength: int) -> Image.Image:
    """Returns a seamless 8-bit tile, laid 2 x 2, whose largest spots are `wavelength` pixels apart."""
    draw = np.random.Generator(np.random.PCG64(7_000 + wavelength))
    total = np.zeros((TILE, TILE), np.int64)
    weight, cells = 64, TILE // wavelength
    while cells <= TILE // 2 and weight >= 6:
        grid = np.pad(draw.integers(0, 256, (cells, cells), np.uint8), 3, mode="wrap")
        image = Image.fromarray(grid).resize((TILE, TILE), Image.Resampling.BICUBIC, box=(3, 3, 3 + cells, 3 + cells))
        total += weight * (np.asarray(image, np.int64) - 128)
        weight, cells = weight * 5 // 8, cells * 2
    # A fixed spread (in integers) makes every tile equally strong: about 1 standard deviation = 50 grey levels.
    spread = max(1, int(np.abs(total).sum()) // total.size)
    levels = np.clip(128 + total * 40 // spread, 0, 255).astype(np.uint8)
    return Image.fromarray(np.tile(levels, (2, 2)))


def window(extent: float, feature: float, offset: tuple[float, float], width: int) -> Image.Image:
    """Cuts a square of noise.

    Args:
        extent: side of the square, metres.
        feature: distance between the largest spots, metres.
        offset: where to cut, both numbers in 0..1.
        width: side of the result in pixels.

    Returns:
        An 8-bit image around 128.
    """
    for wavelength in (64, 16, 4):
        side = extent * wavelength / feature
        if side <= TILE:
            break
    side = min(side, float(TILE))
    left, top = offset[0] * (TILE - 1), offset[1] * (TILE - 1)
    box = (left, top, left + side, top + side)
    # Fine noise needs no smoothing (it is averaged later, with everything else); picking pixels is ten times faster.
    method = Image.Resampling.BILINEAR if side < 0.8 * width else Image.Resampling.NEAREST
    return tile(wavelength).resize((width, width), method, box=box)


@lru_cache(maxsize=4)
def lookup(wavelength: int) -> np.ndarray:
    """Returns one seamless tile as int8 around 0, for reading at any coordinates modulo its side."""
    levels = np.asarray(tile(wavelength))[:TILE, :TILE].astype(np.int16) - 128
    return np.clip(levels, -128, 127).astype(np.int8)


@lru_cache(maxsize=4096)
def crown(variant: int, radius: int, canvas: int, trunk: bool) -> tuple[Image.Image, Image.Image]:
    """Returns the outline and the height of a tree or shrub of `radius` pixels on a canvas of `canvas` pixels.

    The outline is a one-bit mask; heights are in the canvas's units of 1/400 of its side.
    """
    side = 2 * radius + 3
    axis = (np.arange(side) - (side - 1) / 2) / max(radius, 1)
    distance = axis[:, None] ** 2 + axis[None, :] ** 2
    lumps, leaves = lookup(64), lookup(16)
    # The same piece of noise for every radius, so that a tree keeps its form when the image size changes.
    spots = (np.arange(side) * 160 // side) + 1
    row, column = (variant * 97) % 300, (variant * 57) % 300
    edge = 1 + lumps[np.ix_(spots + row, spots + column)].astype(np.float64) / 320
    depth = 1 - distance / (edge * edge)
    mask = depth > 0.02
    dome = np.sqrt(np.maximum(depth, 0))
    clumps = leaves[np.ix_(spots // 2 + column, spots // 2 + row)].astype(np.float64) / 128
    unit = radius * 400 / canvas
    height = (9 if trunk else 1) + unit * (0.9 if trunk else 0.6) * dome * (1.1 + 0.45 * clumps)
    height = np.where(mask, np.clip(height, 1, 255), 0).astype(np.uint8)
    return Image.fromarray(mask), Image.fromarray(height)
