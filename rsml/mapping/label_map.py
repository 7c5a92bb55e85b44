"""From the scores of windows to a map: a raster of mean probabilities, and polygons with the labels decided."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.transform import Affine
from rasterio.windows import Window

from rsml.mapping.geopackage import PolygonLayer
from rsml.mapping.window_scores import Status, not_written
from rsml.prediction.scene_model import SceneModel
from rsml.raster.grid import apply, scaled
from rsml.raster.scene import Scene
from rsml.raster.windows import WindowGrid
from rsml.utils.files import replacing

PROBABILITIES, TILES = "probabilities.tif", "tiles.gpkg"
_TILE = 256
_SMALLEST_OVERVIEW = 128


@dataclass(frozen=True)
class Means:
    """A part of the map.

    Args:
        rows: Cells from top to bottom.
        columns: Cells from left to right.
        windows: `(rows, columns)` how many windows each mean is of; 0 where none was labelled.
        scores: `(rows, columns, labels)`, NaN where no window was labelled.
    """

    rows: slice
    columns: slice
    windows: np.ndarray
    scores: np.ndarray


def means(grid: WindowGrid, records: np.ndarray) -> Iterator[Means]:
    """The mean over the windows that hold the centre of a cell, for all cells, one tile of the map after another."""
    for row in range(0, grid.cells[0], _TILE):
        for column in range(0, grid.cells[1], _TILE):
            rows = slice(row, min(row + _TILE, grid.cells[0]))
            columns = slice(column, min(column + _TILE, grid.cells[1]))
            window_rows, down = grid.down.covering(rows)
            window_columns, across = grid.across.covering(columns)
            down, across = down.astype(np.float64), across.astype(np.float64)
            found = records[grid.numbers(_range(window_rows)[:, None], _range(window_columns))]
            labelled = found["status"] == Status.LABELLED
            scores = np.where(labelled[..., None], found["scores"], 0.0)
            # (cells down, windows down) . (windows down, windows across, labels) . (windows across, cells across)
            sums = np.einsum("iw,wvl,jv->ijl", down, scores, across, optimize=True)
            counts = down @ labelled @ across.T
            with np.errstate(invalid="ignore"):
                yield Means(rows, columns, counts.astype(np.int64), (sums / counts[..., None]).astype(np.float32))


def cell_transform(scene: Scene, grid: WindowGrid) -> Affine:
    """From (column, row) of a cell to coordinates."""
    return scaled(scene.transform, *grid.step)


def write_map(folder: Path, scene: Scene, grid: WindowGrid, records: np.ndarray, model: SceneModel) -> dict[str, int]:
    """Writes the raster and the polygons, each whole or not at all.

    Args:
        folder: Where.
        scene: Gives the coordinates.
        grid: Its windows.
        records: What is known of every window; see `rsml.geo.window_scores`.
        model: Gives the label names and decides.

    Returns:
        For each label, in how many cells it was decided.
    """
    decided = np.zeros(len(model.labels), np.int64)
    with _naming_faults(folder), replacing(folder / PROBABILITIES) as raster, replacing(folder / TILES) as tiles:
        with (
            _new_raster(raster, scene, grid, model) as dataset,
            PolygonLayer(tiles, "tiles", scene.crs, _columns(model)) as layer,
        ):
            for part in means(grid, records):
                window = Window.from_slices(_pair(part.rows), _pair(part.columns))
                dataset.write(np.moveaxis(part.scores, -1, 0), window=window)
                decided += _add_tiles(layer, part, scene, grid, model)
            factors = [2**power for power in range(1, 12) if max(grid.cells) >= _SMALLEST_OVERVIEW * 2**power]
            if factors:
                dataset.build_overviews(factors, Resampling.average)
        _check_readable(raster)
    return dict(zip(model.labels, decided.tolist(), strict=True))


def _new_raster(file: Path, scene: Scene, grid: WindowGrid, model: SceneModel) -> rasterio.io.DatasetWriter:
    dataset = rasterio.open(
        file,
        "w",
        driver="GTiff",
        height=grid.cells[0],
        width=grid.cells[1],
        count=len(model.labels),
        dtype="float32",
        crs=scene.crs,
        transform=cell_transform(scene, grid),
        nodata=np.nan,
        tiled=True,
        blockxsize=_TILE,
        blockysize=_TILE,
        interleave="band",
        compress="deflate",
        predictor=3,
        bigtiff="if_safer",
    )
    for band, label in enumerate(model.labels, start=1):
        dataset.set_band_description(band, label)
        dataset.update_tags(band, threshold=f"{model.thresholds[band - 1]:g}")
    dataset.update_tags(
        task=model.task, scene=Path(scene.path).name, window=f"{grid.window[1]} x {grid.window[0]} pixels of the scene"
    )
    return dataset


def _columns(model: SceneModel) -> list[tuple[str, str]]:
    fixed = [("row", "INTEGER"), ("column", "INTEGER"), ("windows", "INTEGER")]
    decision = [("labels", "TEXT"), ("top", "TEXT"), ("top score", "REAL")]
    return [*fixed, *decision, *((f"score {label}", "REAL") for label in model.labels)]


def _add_tiles(layer: PolygonLayer, part: Means, scene: Scene, grid: WindowGrid, model: SceneModel) -> np.ndarray:
    """Adds the cells of a part that were labelled; returns how many have each label."""
    rows, columns = np.nonzero(part.windows)
    scores = part.scores[rows, columns]
    decisions = model.decide(scores)
    top = top_labels(scores, model)
    row, column = rows + part.rows.start, columns + part.columns.start
    upper, lower = grid.down.edges[row], grid.down.edges[row + 1]
    left, right = grid.across.edges[column], grid.across.edges[column + 1]
    corners = np.stack([[left, right, right, left], [upper, upper, lower, lower]]).astype(float)
    across, down = apply(scene.transform, *corners)
    layer.add(
        np.stack([across, down], axis=-1).transpose(1, 0, 2),
        (
            (
                int(upper[i]),
                int(left[i]),
                int(part.windows[rows[i], columns[i]]),
                ", ".join(model.labels[k] for k in np.flatnonzero(decisions[i])),
                model.labels[top[i]],
                float(scores[i, top[i]]),
                *scores[i].tolist(),
            )
            for i in range(len(rows))
        ),
    )
    return decisions.sum(axis=0, dtype=np.int64)


def top_labels(scores: np.ndarray, model: SceneModel) -> np.ndarray:
    """The label of `(..., labels)` scores that stands out: the highest, among those decided where there are any."""
    return np.where(model.decide(scores).astype(bool), scores + 1, scores).argmax(axis=-1)


@contextlib.contextmanager
def _naming_faults(folder: Path) -> Iterator[None]:
    """Makes what GDAL and SQLite raise, at a full disk say, one line that names the file."""
    try:
        yield
    except RasterioError as error:
        raise not_written(folder / PROBABILITIES, error) from None
    except sqlite3.Error as error:
        raise not_written(folder / TILES, error) from None


def _check_readable(raster: Path) -> None:
    """Reads what was written: GDAL does not always tell that the last blocks found no room."""
    with rasterio.open(raster) as dataset:
        for _, window in dataset.block_windows(1):
            dataset.read(window=window)


def _range(places: slice) -> np.ndarray:
    return np.arange(places.start, places.stop)


def _pair(places: slice) -> tuple[int, int]:
    return places.start, places.stop
