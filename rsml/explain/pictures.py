"""Class maps as people see them: laid over their images, in rows with scores and what was right or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from rsml.explain.class_maps import resized
from rsml.figures.panels import MISSED, RIGHT, WRONG
from rsml.figures.style import shorten


@dataclass(frozen=True)
class Shown:
    """One label of one image as one model sees it.

    Attributes:
        name: The label.
        score: Its probability.
        rank: 1 for the label that scores highest in the image.
        given: Whether the model names it.
        true: Whether it is true; None where nobody knows.
        map: `(h, w)` from 0 to 1.
    """

    name: str
    score: float
    rank: int
    given: bool
    true: bool | None
    map: np.ndarray

    @property
    def verdict(self) -> str:
        """One of "right", "wrong", "missed", "absent" (rightly not named); "" where the truth is not known."""
        if self.true is None:
            return ""
        if self.given:
            return "right" if self.true else "wrong"
        return "missed" if self.true else "absent"


def overlay(image: np.ndarray, class_map: np.ndarray, strength: float = 0.72) -> np.ndarray:
    """A map laid over its image, dark where nothing speaks for the label and glowing where much does.

    Args:
        image: `(height, width, 3)` uint8.
        class_map: `(h, w)` from 0 to 1, of any size.
        strength: How far the map's colours cover the image where it is 1.

    Examples:
        >>> overlay(np.zeros((64, 64, 3), np.uint8), np.eye(8)).shape
        (64, 64, 3)
    """
    heat = np.clip(resized(np.asarray(class_map, np.float32)[None], image.shape[:2])[0], 0, 1)[..., None]
    grey = image.mean(axis=2, keepdims=True)
    faded = 0.75 * grey + 0.25 * image
    colour = matplotlib.colormaps["inferno"](0.25 + 0.7 * heat[..., 0])[..., :3] * 255
    share = strength * heat
    return np.clip((1 - share) * faded + share * colour, 0, 255).astype(np.uint8)


def row_figure(image: np.ndarray, rows: Sequence[tuple[str, Sequence[Shown]]], title: str = "") -> Figure:
    """An image and its class maps, one row a model, the labels below each other.

    Args:
        image: `(height, width, 3)` uint8.
        rows: A name and its labels for each model; the same labels in each.
        title: A line above, such as the file's name.
    """
    columns = 1 + max(len(shown) for _, shown in rows)
    figure = Figure(figsize=(1.75 * columns + 0.3, 2.2 * len(rows) + 0.35), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for (name, shown), line in zip(rows, grid, strict=True):
        line[0].imshow(image)
        line[0].set_title(shorten(name, 22), fontsize=9, color=RIGHT, fontweight="bold")
        for axes, one in zip(line[1:], shown, strict=False):
            axes.imshow(overlay(image, one.map))
            colour = {"wrong": WRONG, "missed": MISSED}.get(one.verdict, RIGHT)
            verdict = f", {one.verdict}" if one.verdict else ""
            text = f"{shorten(one.name, 18)}\n{one.score:.2f}, rank {one.rank}{verdict}"
            axes.set_title(text, fontsize=8, color=colour)
    if title:
        figure.suptitle(shorten(title, 24 * columns), fontsize=9, color=RIGHT)
    return figure
