"""The contact sheet of a search: each query at the left, its neighbours after it, shared labels marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rsml.figures.style import DARK, GREEN, GREY, shorten

OTHER = "#8a9198"
_LINE, _PICTURE, _COLUMN = 0.135, 1.45, 1.62


@dataclass(frozen=True)
class Tile:
    """One picture of the sheet.

    Attributes:
        image: `(height, width, 3)` uint8, or None where it could not be read.
        title: Above it.
        labels: Below it, one a line.
        predicted: Whether the labels are what a model says; they are set in italics.
    """

    image: np.ndarray | None
    title: str
    labels: Sequence[str] = ()
    predicted: bool = False


def contact_sheet(rows: Sequence[tuple[Tile, Sequence[Tile]]], note: str = "") -> Figure:
    """One row a query: the query, then its neighbours; a label a neighbour shares with its query is green and bold.

    A neighbour that shares none has a red frame, one that shares some a green frame; without labels there are none.

    Args:
        rows: Query and neighbours, nearest first.
        note: Below the sheet.
    """
    columns = 1 + max(len(neighbours) for _, neighbours in rows)
    lines = [max(len(tile.labels) for tile in (query, *neighbours)) for query, neighbours in rows]
    heights = [0.24 + _PICTURE + _LINE * count + 0.08 for count in lines]
    width, height = columns * _COLUMN + 0.25, sum(heights) + 0.3
    figure = Figure(figsize=(width, height))
    top = height
    for (query, neighbours), tall in zip(rows, heights, strict=True):
        for column, tile in enumerate((query, *neighbours)):
            # The gap after the query sets it apart from what was found.
            left = 0.05 + column * _COLUMN + (0.2 if column else 0)
            box = (left / width, (top - 0.24 - _PICTURE) / height, _PICTURE / width, _PICTURE / height)
            _draw(figure.add_axes(box), tile, query.labels if column else None)
        top -= tall
    figure.text(0.05 / width, 0.1 / height, note, fontsize=7, color=OTHER, va="bottom")
    return figure


def _draw(axes: Axes, tile: Tile, wanted: Sequence[str] | None) -> None:
    axes.set(xticks=[], yticks=[])
    if tile.image is None:
        axes.text(0.5, 0.5, "not readable", transform=axes.transAxes, ha="center", va="center", fontsize=7, color=OTHER)
    else:
        axes.imshow(tile.image)
    shared = set(tile.labels) & set(wanted or ())
    frame = GREY
    if wanted is None:
        frame = DARK
    elif wanted and tile.labels:
        frame = GREEN if shared else "#c0392b"
    axes.spines[:].set(color=frame, linewidth=2.2 if wanted is None or wanted else 1)
    axes.set_title(
        shorten(tile.title, 26), fontsize=7, color=DARK, pad=3, fontweight="bold" if wanted is None else None
    )
    for line, label in enumerate(sorted(tile.labels, key=lambda label: (label not in shared, label))):
        axes.annotate(
            shorten(label, 24),
            xy=(0, 0),
            xycoords="axes fraction",
            xytext=(0, -3 - 72 * _LINE * line),
            textcoords="offset points",
            va="top",
            fontsize=7,
            color=DARK if wanted is None else GREEN if label in shared else OTHER,
            fontweight="bold" if label in shared else None,
            fontstyle="italic" if tile.predicted else None,
        )
