"""Whether class maps look where a label is: pointing, energy inside, and what deleting and inserting blocks does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import uniform_filter

BLOCKS = 8
"""Blocks along each side of an image, deleted and inserted as a whole."""


def pointing(class_map: np.ndarray, mask: np.ndarray) -> float:
    """1 where a map's highest place lies on the label, else 0; a flat map points everywhere, by the mask's share.

    Args:
        class_map: `(height, width)`.
        mask: `(height, width)` bool, where the label is.

    Examples:
        >>> pointing(np.eye(2), np.array([[True, False], [False, False]]))
        0.5
    """
    # Over all places that share the maximum, so that ties favour no corner.
    return float(mask[class_map == class_map.max()].mean())


def energy_inside(class_map: np.ndarray, mask: np.ndarray) -> float:
    """The share of a map's sum that lies on the label; of a flat map the mask's own share."""
    total = float(class_map.sum())
    return float(class_map[mask].sum() / total) if total > 0 else float(mask.mean())


def block_order(class_map: np.ndarray, blocks: int = BLOCKS) -> np.ndarray:
    """Numbers of the blocks of an image, those with the greatest sum of the map first."""
    height, width = class_map.shape
    rows, columns = (np.arange(side) * blocks // side for side in (height, width))
    number = rows[:, None] * blocks + columns
    sums = np.bincount(number.ravel(), class_map.ravel(), blocks * blocks)
    return np.argsort(-sums, kind="stable")


def area_under(
    image: np.ndarray, order: np.ndarray, score: Callable[[np.ndarray], np.ndarray], *, insert: bool, steps: int = 8
) -> float:
    """The mean score while blocks are deleted (blurred) in an order, or inserted into the blurred image.

    Low is good for deletion, high for insertion; both are only meaningful beside the same for random blocks, as
    blurred blocks are images that no network was trained on.

    Args:
        image: `(height, width, bands)` of 0 to 255.
        order: Of the blocks, all of them.
        score: From images to the label's probability, `(images,)`.
        insert: Begin with the blurred image.
        steps: Images scored between none and all blocks changed.
    """
    blocks = round(len(order) ** 0.5)
    height, width = image.shape[:2]
    blurred = uniform_filter(image.astype(np.float32), size=(height // 4, width // 4, 1), mode="nearest")
    number = (np.arange(height) * blocks // height)[:, None] * blocks + np.arange(width) * blocks // width
    place = np.empty(len(order), int)
    place[order] = np.arange(len(order))
    counts = np.linspace(0, len(order), steps + 1).round()
    changed = place[number] < counts[:, None, None]
    start, end = (blurred, image) if insert else (image, blurred)
    return float(np.mean(score(np.where(changed[..., None], end, start).astype(np.float32))))
