"""The picture of a map: the scene, its labels in colours, and where the most frequent labels are probable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import rasterio
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from rasterio.enums import Resampling

from rsml.data.images import as_rgb
from rsml.figures.style import DARK, GREY, bare_frame, label_colours, shorten
from rsml.mapping.label_map import top_labels
from rsml.prediction.scene_model import SceneModel
from rsml.raster.scene import Scene
from rsml.tasks import task

_CELLS, _PIXELS = 512, 1000
_LEGEND, _PANELS = 16, 8
_OTHER = "#4d5359"
_ON_TOP = {
    "multi-label": "most probable of the labels decided",
    "single-label": "most probable class",
    "proportions": "class with the largest share",
}


def quicklook(probabilities: Path, scene: Scene, model: SceneModel, span: tuple[float, float]) -> Figure:
    """Draws a finished map.

    Args:
        probabilities: The raster of `rsml.geo.label_map`.
        scene: What was mapped.
        model: Gives the label names and decides.
        span: (height, width) of the raster's pixels altogether, in pixels of the scene: it may reach a little beyond.
    """
    image, missing = scene.overview(_PIXELS)
    image = np.where(missing[..., None], 255, as_rgb(image))
    with rasterio.open(probabilities) as dataset:
        factor = max(1.0, max(dataset.shape) / _CELLS)
        shape = tuple(max(1, round(side / factor)) for side in dataset.shape)
        scores = dataset.read(out_shape=(dataset.count, *shape), resampling=Resampling.average)
    scores = np.moveaxis(scores, 0, -1)
    labelled = np.isfinite(scores).all(axis=-1)
    scores = np.where(labelled[..., None], scores, 0.0)
    decisions = model.decide(scores).astype(bool) & labelled[..., None]
    top = np.where(decisions.any(axis=-1), top_labels(scores, model), -1)
    cells = max(1, int(labelled.sum()))

    frames = _Frames(scene, span)
    shown = _by_share(top, len(model.labels))
    panels = [k for k in np.argsort(-decisions.sum(axis=(0, 1)), kind="stable") if decisions[..., k].any()]
    panels = panels[: _PANELS if task(model.task).thresholds else 0]
    figure, large, small = _layout(frames.aspect, len(panels))
    frames.show(large[0], image)
    large[0].set_title(shorten(Path(scene.path).name, 48), fontsize=10, color=DARK)
    frames.show(large[1], _grey(image))
    colours = _colours(shown, model.labels)
    frames.overlay(large[1], np.dstack([colours[top], np.where(top >= 0, 0.62, 0.0)]))
    large[1].set_title(_ON_TOP[model.task], fontsize=10, color=DARK)
    _legend(large[1], model, shown, colours, top, decisions, cells)
    for axes, label in zip(small, panels, strict=True):
        frames.show(axes, _grey(image), ticks=False)
        heat = matplotlib.colormaps["inferno"](scores[..., label])
        heat[..., 3] = np.where(labelled, 0.15 + 0.7 * scores[..., label], 0.0)
        frames.overlay(axes, heat)
        share = decisions[..., label].sum() / cells
        axes.set_title(f"{shorten(model.labels[label], 22)}  {share:.0%}", fontsize=9, color=DARK)
    return figure


class _Frames:
    """Shows arrays where they lie in the coordinates of the scene."""

    def __init__(self, scene: Scene, span: tuple[float, float]) -> None:
        height, width = scene.size
        to = scene.transform
        # Of a rotated scene only pixels can be shown upright.
        self.upright = to.b == 0 and to.d == 0 and scene.georeferenced
        across, down = (to.a, to.e) if self.upright else (1.0, 1.0)
        left, top = (to.c, to.f) if self.upright else (0.0, 0.0)
        self.image = left, left + width * across, top + height * down, top
        self.cells = left, left + span[1] * across, top + span[0] * down, top
        self.aspect = height * abs(down) / (width * abs(across))
        unit = scene.crs.units_factor[0] if self.upright and scene.crs and scene.crs.is_projected else None
        self.name = "pixels" if not self.upright else unit or "degrees"
        if self.upright and scene.crs:
            code = scene.crs.to_epsg()
            self.name += f", EPSG:{code}" if code else ""

    def show(self, axes: Axes, image: np.ndarray, ticks: bool = True) -> None:
        axes.imshow(image, extent=self.image, interpolation="antialiased")
        bare_frame(axes)
        if ticks:
            left, right, bottom, top = self.image
            axes.set_xticks([left, right], [f"{left:.6g}", f"{right:.6g}"])
            axes.set_yticks([bottom, top], [f"{bottom:.7g}", f"{top:.7g}"], rotation=90)
            axes.tick_params(labelsize=7, colors=_OTHER, length=2, color=GREY)
            for labels, ends in ((axes.get_xticklabels(), "lr"), (axes.get_yticklabels(), "bt")):
                for label, end in zip(labels, ends, strict=True):
                    if end in "lr":
                        label.set_horizontalalignment("left" if end == "l" else "right")
                    else:
                        label.set_verticalalignment("bottom" if end == "b" else "top")
            axes.set_xlabel(self.name, fontsize=7, color=_OTHER, labelpad=-6)

    def overlay(self, axes: Axes, cells: np.ndarray) -> None:
        axes.imshow(cells, extent=self.cells, interpolation="nearest")
        axes.set_xlim(self.image[:2])
        axes.set_ylim(self.image[2:])


def _layout(aspect: float, panels: int) -> tuple[Figure, list[Axes], list[Axes]]:
    """Two large panels with room for a legend at their right, and rows of small ones below.

    The panels of a long strip are wide, and lie below one another.
    """
    beside, columns = (1, 2) if aspect < 0.4 else (2, 4)
    side = (5.2 if beside == 2 else 9.0) / max(1.0, aspect)
    rows = math.ceil(panels / columns)
    width = beside * side + 2.4
    large, small = side * aspect + 0.5, min((width - 0.5) / columns * aspect + 0.3, 3.2)
    heights = [large] * (2 // beside) + [small] * rows
    layout = ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.06)
    figure = Figure(figsize=(width, sum(heights) + 0.2), layout=layout)
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)

    def line(row: int, places: int, filled: int) -> list[Axes]:
        inner = grid[row].subgridspec(1, places)
        return [figure.add_subplot(inner[0, place]) for place in range(filled)]

    first = len(heights) - rows
    pictures = [axes for row in range(first) for axes in line(row, beside, beside)]
    below = [axes for row in range(rows) for axes in line(first + row, columns, min(columns, panels - columns * row))]
    return figure, pictures, below


def _legend(
    axes: Axes,
    model: SceneModel,
    shown: Sequence[int],
    colours: np.ndarray,
    top: np.ndarray,
    decisions: np.ndarray,
    cells: int,
) -> None:
    entries: list[Any] = [
        Patch(color=colours[label], label=f"{shorten(model.labels[label], 22)}  {(top == label).sum() / cells:.0%}")
        for label in shown
    ]
    rest = np.isin(top, [-1, *shown], invert=True).sum()
    if rest:
        entries.append(Patch(color=_OTHER, label=f"other labels  {rest / cells:.0%}"))
    if not decisions.any():
        entries.append(Patch(facecolor="white", edgecolor=GREY, label="no label"))
    axes.legend(
        handles=entries, loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8, frameon=False, borderaxespad=0.0,
        handlelength=1.2, labelcolor=DARK,
    )  # fmt: skip


def _by_share(top: np.ndarray, labels: int) -> list[int]:
    """The labels that are on top somewhere, the most frequent first, as many as a legend can hold."""
    counts = np.bincount(top[top >= 0], minlength=labels)
    return [int(label) for label in np.argsort(-counts, kind="stable") if counts[label]][:_LEGEND]


def _colours(shown: Sequence[int], names: Sequence[str]) -> np.ndarray:
    """`(labels + 1, 3)`; the last row is for no label."""
    colours = np.tile(to_rgb(_OTHER), (len(names) + 1, 1))
    for label, colour in zip(shown, label_colours([names[label] for label in shown]), strict=True):
        colours[label] = colour or to_rgb(_OTHER)
    return colours


def _grey(image: np.ndarray) -> np.ndarray:
    """A pale grey picture, so that colours on it can be told apart."""
    grey = image.astype(np.float32).mean(axis=2, keepdims=True)
    return np.repeat((64 + 0.75 * grey).astype(np.uint8), 3, axis=2)
