"""A picture of a scene, the land cover under it, and its tiles, side by side."""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections import Counter
from pathlib import Path

import matplotlib
import numpy as np
import rasterio
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.warp import reproject

from rsml.data.images import as_rgb
from rsml.figures.style import DARK, GREY, bare_frame, label_colours, save
from rsml.geo.classes import IGNORED, Classes, read_classes
from rsml.geo.crop import CropOptions, open_source
from rsml.geo.land_cover import LandCoverMap
from rsml.geo.scene_record import NOTE
from rsml.geo.scene_record import TABLE as TILES
from rsml.geo.supervise import LEFT_OUT
from rsml.geo.supervise import TABLE as PROPORTIONS
from rsml.geo.tiles import KEPT, limits_of, stretch
from rsml.raster.grid import Grid, apply, crs_name, parse_crs, scaled
from rsml.raster.opening import environment, find_rasters, open_raster, words
from rsml.utils.errors import UserError
from rsml.utils.settings import nearest

UNKNOWN, LOST = "#ffffff", "#b02020"

_LONGEST = 900
_DRAWN_SHARES = 400


def draw(
    file: str | Path,
    tiles: list[str],
    land_cover: list[str],
    classes: str,
    folder: Path,
    scene: str | None = None,
    nodata: int | None = None,
    crs: str | None = None,
) -> Path:
    """Draws one scene of a folder that `crop` wrote and `supervise` counted.

    Args:
        file: Where to; the suffix chooses the format.
        tiles: What was supervised: one folder of `crop`.
        land_cover: The maps.
        classes: What their codes mean.
        folder: Where `supervise` wrote its tables.
        scene: Which scene; None takes the first.
        nodata: As in `supervise`.
        crs: As in `supervise`.
    """
    cut = Path(tiles[0])
    if len(tiles) != 1 or not (cut / TILES).is_file() or not land_cover:
        raise UserError(
            "--picture: expected one folder that crop wrote, and maps; it draws scenes, their map and tiles"
        )
    scenes = sorted(note.parent.name for note in cut.glob(f"*/{NOTE}"))
    if scene is not None and scene not in scenes:
        raise UserError(f"--picture-scene {scene}: no such scene in {cut}{nearest(scene, scenes)}")
    scene = scene or scenes[0]
    meaning = read_classes(classes)
    with environment():
        image, grid, factor = _scene(cut / scene)
        codes = _cover(grid, find_rasters(land_cover), meaning, nodata, crs)
    figure = _figure(grid)
    left, middle, right = figure.subplots(1, 3)
    names = meaning.counted()
    palette = _palette(names)
    _show(left, image, "scene", grid)
    _scale_bar(left, grid)
    _show(middle, palette[codes], "land cover", grid)
    _legend(figure, codes, names, palette)
    _tiles(right, image, grid, factor, cut / scene, folder, meaning, palette)
    figure.suptitle(f"{scene}   {crs_name(grid.crs)}   land cover: {classes}", fontsize=10, color=DARK)
    return save(figure, file)


def _figure(grid: Grid) -> Figure:
    width = 4.6
    height = min(9.0, max(2.0, width * grid.height / grid.width)) + 1.3
    return Figure(figsize=(3 * width, height), layout="constrained")


def _scene(folder: Path) -> tuple[np.ndarray, Grid, int]:
    """The scene as its tiles see it, every n-th pixel: (height, width, 3), its grid, and n."""
    note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
    options = CropOptions.model_validate(note["options"])
    with open_source(note["files"], options) as bands, bands.reading(options.tile):
        values, valid = bands.overview(_LONGEST)
        whole = bands.grid
    limits = note["limits"] or limits_of(values, valid, options.percentiles, each_band=False)
    image = np.moveaxis(stretch(values, valid, limits), 0, -1)
    image = as_rgb(image)
    image[~valid] = 255
    factor = math.ceil(max(whole.height, whole.width) / _LONGEST)
    return image, Grid(whole.crs, scaled(whole.transform, factor, factor), *image.shape[:2]), factor


def _cover(grid: Grid, paths: list[str], meaning: Classes, nodata: int | None, crs: str | None) -> np.ndarray:
    """(height, width) number of the class at every pixel of the grid; the number after the last where there is none."""
    names = meaning.counted()
    result = np.full((grid.height, grid.width), len(names))
    for path in paths:
        land_cover = LandCoverMap(path, nodata, crs=parse_crs(crs) if crs else None)
        missing = meaning.missing(land_cover.nodata)
        # A value that no map holds marks what lies outside of this one.
        found = np.full(result.shape, np.iinfo(np.int32).min, np.int32)
        with open_raster(path) as dataset:
            try:
                reproject(
                    rasterio.band(dataset, 1),
                    found,
                    src_transform=land_cover.grid.transform,
                    src_crs=land_cover.grid.crs,
                    dst_transform=grid.transform,
                    dst_crs=grid.crs,
                    dst_nodata=np.iinfo(np.int32).min,
                    init_dest_nodata=True,
                    resampling=Resampling.nearest,
                )
            except RasterioError as error:
                raise UserError(f"{path}: cannot be drawn, a part of it is damaged ({words(error)})") from None
        for code in np.unique(found):
            name = meaning.meaning.get(int(code), IGNORED)
            if int(code) not in missing and name in names:
                result[(found == code) & (result == len(names))] = names.index(name)
    return result


def _palette(names: list[str]) -> np.ndarray:
    """(classes + 1, 3) uint8; the last is what has no class."""
    spare = itertools.cycle(matplotlib.colormaps["tab20"](number)[:3] for number in range(20))
    chosen = [colour or next(spare) for colour in label_colours(names)]
    return np.round(255 * np.array([*chosen, matplotlib.colors.to_rgb(UNKNOWN)])).astype(np.uint8)


def _show(axes: Axes, image: np.ndarray, title: str, grid: Grid) -> None:
    # Pixels of geographic systems are not square on the ground; this makes them so in the middle.
    square = abs(grid.transform.e) / abs(grid.transform.a) if grid.transform.a and grid.transform.e else 1
    if grid.crs.is_geographic:
        latitude = apply(grid.transform, grid.width / 2, grid.height / 2)[1]
        square /= max(0.05, math.cos(math.radians(latitude)))
    axes.imshow(image, interpolation="nearest", extent=(0, grid.width, grid.height, 0), aspect=square)
    axes.set_title(title, fontsize=9, color=DARK)
    bare_frame(axes)


def _scale_bar(axes: Axes, grid: Grid) -> None:
    """A bar of a round length, where the system says what its unit is."""
    metres = math.hypot(grid.transform.a, grid.transform.d)
    if grid.crs.is_geographic:
        latitude = apply(grid.transform, grid.width / 2, grid.height / 2)[1]
        metres *= 111_320 * max(0.05, math.cos(math.radians(latitude)))
    else:
        metres *= grid.crs.linear_units_factor[1]
    about = 0.25 * grid.width * metres
    power = 10 ** math.floor(math.log10(about))
    length = power * max(step for step in (1, 2, 5) if step * power <= about)
    pixels, x, y = length / metres, 0.04 * grid.width, 0.965 * grid.height
    high = 0.008 * grid.height
    axes.add_patch(
        Rectangle((0.02 * grid.width, y - 7 * high), pixels + 0.04 * grid.width, 10 * high, color="white", alpha=0.8)
    )
    axes.add_patch(Rectangle((x, y), pixels, high, color=DARK))
    text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    axes.text(x + pixels / 2, y - high, text, ha="center", va="bottom", fontsize=8, color=DARK)


def _legend(figure: Figure, codes: np.ndarray, names: list[str], palette: np.ndarray) -> None:
    """Classes by their share of what is under the scene; those that are not there are left out."""
    pixels = np.bincount(codes.ravel(), minlength=len(names) + 1)
    shares = pixels / pixels.sum()
    order = [place for place in np.argsort(-shares[:-1], kind="stable") if pixels[place]]
    handles = [
        Patch(facecolor=palette[place] / 255, edgecolor=GREY, label=f"{names[place]} {_percent(shares[place])}")
        for place in order
    ]
    if pixels[-1]:
        handles.append(Patch(facecolor=UNKNOWN, edgecolor=GREY, label=f"no class {_percent(shares[-1])}"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 9), fontsize=8, frameon=False)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else "< 0.1 %"


def _tiles(
    axes: Axes,
    image: np.ndarray,
    grid: Grid,
    factor: int,
    cut: Path,
    folder: Path,
    meaning: Classes,
    palette: np.ndarray,
) -> None:
    """Outlines of the tiles over the pale scene: in each its proportions, or a cross and the reason there are none."""
    _show(axes, (image * 0.45 + 255 * 0.55).astype(np.uint8), "", grid)
    side = json.loads((cut / NOTE).read_text(encoding="utf-8"))["options"]["tile"] / factor
    rows = _rows(cut / TILES)
    shares = {(folder / row["path"]).resolve(): row for row in _rows(folder / PROPORTIONS)}
    without = {(folder / row["path"]).resolve(): row["reason"] for row in _rows(folder / LEFT_OUT)}
    # A tile that was moved back inside lies closer to the one before it.
    wide, high = (_room([int(row[name]) / factor for row in rows], side) for name in ("column", "row"))
    lost: Counter = Counter()
    for row in rows:
        left, top = int(row["column"]) / factor, int(row["row"]) / factor
        path = (cut.parent / row["path"]).resolve()
        if row["reason"] == KEPT and path in shares:
            found = np.array([float(shares[path][name]) for name in meaning.names])
            axes.add_patch(Rectangle((left, top), side, side, fill=False, edgecolor=DARK, linewidth=0.6))
            box = left + (side - wide[left]) / 2, top + (side - high[top]) / 2, wide[left], high[top]
            _proportions(axes, box, found, palette, len(rows) <= _DRAWN_SHARES)
            continue
        reason = without.get(path, "not counted") if row["reason"] == KEPT else row["reason"]
        lost[reason] += 1
        axes.add_patch(Rectangle((left, top), side, side, fill=False, edgecolor=LOST, linewidth=0.6, linestyle=":"))
        if len(rows) <= _DRAWN_SHARES:
            middle = left + side / 2, top + side / 2
            axes.plot(*middle, marker="x", color=LOST, markersize=7, markeredgewidth=1.2)
            axes.text(middle[0], middle[1] + 0.13 * side, reason, ha="center", va="top", fontsize=5.5, color=LOST)
    reasons = ", ".join(f"{number} {reason}" for reason, number in lost.most_common())
    title = f"{len(rows) - sum(lost.values())} tiles with proportions"
    axes.set_title(f"{title}; without: {reasons}" if lost else title, fontsize=9, color=DARK)


def _room(starts: list[float], side: float) -> dict[float, float]:
    """How wide the square in the middle of a tile may be, by where the tile starts."""
    places = sorted(set(starts))
    gaps = [second - first for first, second in itertools.pairwise(places)]
    nearest_gap = [min(pair) for pair in zip([side, *gaps], [*gaps, side], strict=True)]
    return {place: min(0.5 * side, 0.9 * gap) for place, gap in zip(places, nearest_gap, strict=True)}


def _proportions(
    axes: Axes, box: tuple[float, float, float, float], found: np.ndarray, palette: np.ndarray, whole: bool
) -> None:
    """A square divided by the proportions, or in the colour of the greatest."""
    left, top, wide, high = box
    y = top
    for place in np.argsort(-found, kind="stable") if whole else [found.argmax()]:
        part = high * (found[place] if whole else 1)
        axes.add_patch(Rectangle((left, y), wide, part, facecolor=palette[place] / 255, linewidth=0))
        y += part
    axes.add_patch(Rectangle((left, top), wide, high, fill=False, edgecolor=DARK, linewidth=0.5))


def _rows(file: Path) -> list[dict[str, str]]:
    with open(file, encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))
