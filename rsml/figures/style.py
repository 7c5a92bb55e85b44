"""What the figures share: canvases, colours, axes with names, and names that find a free place beside their points."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from rsml.utils.files import replacing

BLUE, ORANGE, GREEN, GREY, DARK = "#2468a8", "#d9722e", "#4a9a63", "#b9bec4", "#2b2f33"

LAND_COVER = (
    ({"water", "lake", "river", "pond"}, "#3b82d0"),
    ({"wetland", "wetlands", "marsh"}, "#5fb3a3"),
    ({"mangroves", "mangrove"}, "#1d8f7a"),
    ({"sea", "ocean"}, "#1b3f8b"),
    ({"trees", "tree", "forest", "woodland"}, "#1f6b34"),
    ({"grass", "meadow", "grassland", "pasture", "herbaceous"}, "#93cf62"),
    ({"field", "agricultural", "crop", "crops", "cropland", "farmland", "cultivated"}, "#f0c93a"),
    ({"chaparral", "shrub", "shrubland", "bushes"}, "#9a9a3c"),
    ({"sand", "beach", "desert"}, "#f6e3a8"),
    ({"soil", "bare", "barren", "bareland"}, "#b0743f"),
    ({"buildings", "building", "residential", "developed", "built", "artificial"}, "#d7372f"),
    ({"pavement", "road", "freeway", "runway", "impervious"}, "#8d8f96"),
    ({"tundra", "moss", "lichen"}, "#9a8fb5"),
    ({"snow", "ice", "glacier"}, "#e6f4fa"),
)
"""What maps have accustomed people to: words of a label's name, and its colour."""


def save(figure: Figure, path: str | Path, dpi: int = 150) -> Path:
    """Writes a figure whole or not at all; the suffix chooses the format (.png, .pdf, .svg, .jpg for photographs)."""
    path = Path(path)
    options: dict[str, Any] = {"pil_kwargs": {"quality": 88}} if path.suffix == ".jpg" else {}
    with replacing(path) as beside:
        figure.savefig(beside, dpi=dpi, facecolor="white", bbox_inches="tight", pad_inches=0.08, **options)
    return path


def shorten(name: str, width: int) -> str:
    """The name, cut in its middle where it is longer than `width` letters."""
    if len(name) <= width:
        return name
    tail = (width - 1) // 2
    return f"{name[: width - 1 - tail]}…{name[len(name) - tail :]}"


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure with one axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def small_multiples(
    count: int, *, columns: int, width: float, height: float, share: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` equal panels in rows of `columns`."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(columns * width + 0.4, rows * height + 0.3), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share).ravel()
    for axes in grid[count:]:
        axes.remove()
    if share and count < rows * columns:
        for axes in grid[count - columns : (rows - 1) * columns]:
            axes.tick_params(labelbottom=True)
    return figure, list(grid[:count])


def colours(count: int) -> list[Any]:
    """So many colours that can be told apart."""
    own = [BLUE, ORANGE, GREEN]
    return own[:count] if count <= 3 else [matplotlib.colormaps["tab10"](place % 10) for place in range(count)]


def label_colours(names: Sequence[str], most: int = 20) -> list[tuple[float, float, float] | None]:
    """A colour for each label: that of land-cover maps where its name is known, else one that is left.

    Args:
        names: Of the labels, the most important first: of several with one usual colour the first gets it.
        most: Labels beyond that many colours get None.
    """
    # The ten strong colours first, then their pale twins.
    twenty: Any = cast(ListedColormap, matplotlib.colormaps["tab20"]).colors
    strong, pale = (twenty[first::2] for first in (0, 1))
    usual = list(LAND_COVER)
    found: list[tuple[float, float, float] | None] = [None] * len(names)
    for place, name in enumerate(names):
        words = set(re.split(r"[^a-z]+", name.lower()))
        for entry in usual:
            if words & entry[0]:
                found[place] = to_rgb(entry[1])
                usual.remove(entry)
                break
    taken = [colour for colour in found if colour is not None]
    free = [
        colour for colour in (*strong, *pale) if all(np.linalg.norm(np.subtract(colour, own)) > 0.35 for own in taken)
    ][: max(0, most - len(taken))]
    return [colour if colour is not None else free.pop(0) if free else None for colour in found]


def open_frame(axes: Axes) -> None:
    """Leaves the left and lower side of the frame."""
    axes.spines[["top", "right"]].set_visible(False)


def bare_frame(axes: Axes) -> None:
    """A pale frame without ticks."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_color(GREY)


def name_rows(axes: Axes, names: Sequence[str], invert: bool = True) -> None:
    """Names at the left, the first on top."""
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.tick_params(axis="y", length=0)
    if invert:
        axes.set_ylim(len(names) - 0.4, -0.6)
        open_frame(axes)


def name_columns(axes: Axes, names: Sequence[str]) -> None:
    """Names below, upright."""
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.tick_params(axis="x", length=0)


def grid_cells(axes: Axes, width: int) -> None:
    """Fine lines between the cells of a matrix."""
    axes.set_xticks(np.arange(width + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(width + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#e6e8ea", linewidth=0.5)
    axes.tick_params(which="minor", length=0)


def annotate(
    figure: Figure,
    axes: Axes,
    across: np.ndarray,
    up: np.ndarray,
    names: Sequence[str],
    colours: Sequence[Any] | None = None,
    on_top: bool = False,
) -> None:
    """Writes each name at the first free place near its point, going outwards; a name without one is left out.

    A place is free when it lies within the axes and covers no other name, nor a point unless `on_top`.
    """
    backend = FigureCanvasAgg(figure)
    backend.draw()
    renderer = backend.get_renderer()
    pixels = axes.transData.transform(np.column_stack([across, up]).astype(float))
    frame = axes.get_window_extent(renderer)
    scale = figure.dpi / 72
    radii = (0, 8, 16, 26, 38, 50) if on_top else (5, 9, 14, 20, 28, 38, 50, 64, 80)
    angles = np.radians((0, 180, 30, -30, 150, -150, 60, -60, 90, -90, 120, -120))
    taken: list[tuple[float, float, float, float]] = []
    for place in np.argsort(-np.asarray(up, dtype=float), kind="stable"):
        text = axes.annotate(
            names[place],
            (across[place], up[place]),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=9 if on_top else 8,
            fontweight="bold" if on_top else "normal",
            color=colours[place] if colours is not None else DARK,
            va="center",
            ha="left",
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3},
            zorder=5,
        )
        if on_top:
            text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
        box = text.get_window_extent(renderer)
        for radius, angle in ((radius, angle) for radius in radii for angle in angles):
            # The side of the name that faces the point is `radius` away from it.
            back = 0.5 if on_top else 0.5 - 0.5 * math.cos(angle)
            dx, dy = radius * math.cos(angle) - back * box.width / scale, radius * math.sin(angle)
            left, middle = pixels[place] + np.array([dx, dy]) * scale
            corners = (left, middle - box.height / 2, left + box.width, middle + box.height / 2)
            inside = frame.x0 <= left and corners[2] <= frame.x1 and frame.y0 <= corners[1] and corners[3] <= frame.y1
            near = (pixels > np.array(corners[:2]) - 3) & (pixels < np.array(corners[2:]) + 3)
            covers = not on_top and near.all(axis=1).any()
            if inside and not covers and not any(_overlap(corners, other) for other in taken):
                taken.append(corners)
                text.set_position((dx, dy))
                if text.arrow_patch is not None:
                    text.arrow_patch.set_visible(radius > 10)
                break
        else:
            text.remove()


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
