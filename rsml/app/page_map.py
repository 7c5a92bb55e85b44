"""Routes of the Map view: map a raster, and show a mapped one: imagery, one layer a label, cells, downloads.

The page draws imagery and scores itself on one canvas: a raster without coordinates is shown like any other, and no
projection to a world map moves a cell.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from fastapi import APIRouter
from fastapi.responses import FileResponse, Response
from rasterio.enums import Resampling

from rsml.app.page_workspace import Workspace, picture
from rsml.data.images import as_rgb
from rsml.mapping.job import ABOUT, PICTURE, MapOptions
from rsml.mapping.label_map import PROBABILITIES, TILES
from rsml.mapping.qgis import cells_style, label_style
from rsml.mapping.scenes import native_window
from rsml.raster.grid import georeferenced
from rsml.raster.scene import Scene
from rsml.utils.errors import UserError
from rsml.utils.files import write_json
from rsml.utils.guard import read_json

TILE, MOST_CELLS = 256, 2048
NAME = "name.json"


def add_routes(router: APIRouter, workspace: Workspace) -> None:
    """Adds them."""

    def folder_of(name: str) -> Path:
        folder = workspace.maps_folder / name
        if not re.fullmatch(r"[0-9a-f]{16}", name) or not (folder / ABOUT).is_file():
            raise UserError(f"map {name}: there is no such map, or it is not finished; look at the list of maps")
        return folder

    def about_of(name: str) -> dict[str, Any]:
        found: dict[str, Any] = read_json(folder_of(name) / ABOUT, advice="map the raster again")
        return found

    @functools.lru_cache(maxsize=8)
    def scene_of(name: str) -> Scene:
        about = about_of(name)
        made, own = about["made_from"], workspace.model.reading["bands"]
        nodata = float(made["nodata"]) if made["nodata"] is not None else None
        span = tuple(made["value_range"]) if made["value_range"] else None
        return Scene(workspace.uploads / Path(about["scene"]).name, own, span, nodata)

    @router.post("/maps")
    def start(id: str, name: str, window: int = 0, step: int = 0) -> dict[str, Any]:
        """Begins to map an upload; the same upload again is the same map, which goes on."""
        file = workspace.file(id)
        folder = workspace.maps_folder / Path(id).stem.removeprefix("u-")
        side = (window, window) if window else native_window(workspace.model, workspace.run)[0]
        MapOptions(side, (step, step) if step else None)  # refuses what cannot be
        write_json(folder / NAME, {"name": name})
        command = [
            "predict",
            str(workspace.here.folder),
            str(file),
            "--map",
            "--out",
            str(folder),
            "--window",
            str(side[0]),
        ]
        command += ["--step", str(step)] if step else []
        return workspace.jobs.start("map", f"Map of {name}", command, map=folder.name)

    @router.get("/maps")
    def maps() -> list[dict[str, Any]]:
        files = sorted(workspace.maps_folder.glob(f"*/{ABOUT}"), key=lambda file: -file.stat().st_mtime)
        return [{"id": file.parent.name, "name": _name(file.parent)} for file in files]

    @router.get("/maps/{name}")
    def show(name: str) -> dict[str, Any]:
        about, scene, folder = about_of(name), scene_of(name), folder_of(name)
        colours = dict(zip(workspace.model.labels, workspace.colours(), strict=True))
        with rasterio.open(folder / PROBABILITIES) as raster:
            thresholds = [float(raster.tags(band)["threshold"]) for band in raster.indexes]
            task, place = raster.tags()["task"], georeferenced(raster)
            crs = str(raster.crs) if place and raster.crs else None
        return {
            "id": name, "name": _name(folder), "labels": about["labels"], "task": task, "thresholds": thresholds,
            "colours": [colours.get(label, "#8b9097") for label in about["labels"]], "cells": about["cells"],
            "step": about["made_from"]["step"], "window": about["made_from"]["window"], "size": list(scene.size),
            "windows": about["windows"], "cells_with": about["cells_with"], "crs": crs, "tile": TILE,
        }  # fmt: skip

    @router.get("/maps/{name}/imagery/{level}/{across}/{down}")
    def imagery(name: str, level: int, across: int, down: int) -> Response:
        """A tile of the scene; of level n every 2^n-th pixel."""
        scene = scene_of(name)
        side = TILE * 2 ** max(0, min(level, 16))
        top, left = down * side, across * side
        bottom, right = min(top + side, scene.size[0]), min(left + side, scene.size[1])
        if min(top, left) < 0 or top >= bottom or left >= right:
            raise UserError(f"tile {level}/{across}/{down}: lies outside the scene")
        shape = max(1, (bottom - top) * TILE // side), max(1, (right - left) * TILE // side)
        image, missing = scene.read((top, bottom), (left, right), shape)
        return picture(np.where(missing[..., None], 128, as_rgb(image)).astype(np.uint8))

    @router.get("/maps/{name}/scores/{column}")
    def scores(name: str, column: int) -> Response:
        """The scores of a label as a picture: 256 times red and green are 65535 where it is 1; blue: not labelled."""
        with rasterio.open(folder_of(name) / PROBABILITIES) as raster:
            if not 0 <= column < raster.count:
                raise UserError(f"label {column}: the map has {raster.count}, counted from 0")
            factor = max(1.0, max(raster.shape) / MOST_CELLS)
            shape = tuple(max(1, round(side / factor)) for side in raster.shape)
            found = raster.read(column + 1, out_shape=shape, resampling=Resampling.average)
        missing = ~np.isfinite(found)
        values = np.round(np.where(missing, 0, found) * 65535).astype(np.uint16)
        packed = np.stack([values >> 8, values & 255, missing * 255], axis=-1).astype(np.uint8)
        return picture(packed, "PNG")

    @router.get("/maps/{name}/cells/{row}/{column}")
    def cell(name: str, row: int, column: int) -> dict[str, Any]:
        """The scores of a cell."""
        with rasterio.open(folder_of(name) / PROBABILITIES) as raster:
            if not (0 <= row < raster.height and 0 <= column < raster.width):
                raise UserError(f"cell {row}, {column}: the map has {raster.height} x {raster.width}")
            found = raster.read(window=rasterio.windows.Window(column, row, 1, 1))[:, 0, 0]
            x, y = raster.xy(row, column)
        values = found.astype(float).tolist() if np.isfinite(found).all() else None
        return {"row": row, "column": column, "x": x, "y": y, "scores": values}

    @router.post("/maps/{name}/cells/{row}/{column}/tile")
    def tile(name: str, row: int, column: int) -> dict[str, Any]:
        """Cuts out the window around a cell, as an image to be looked at like a dropped one."""
        scene, made = scene_of(name), about_of(name)["made_from"]
        ends = []
        for place, step, window, size in zip((row, column), made["step"], made["window"], scene.size, strict=True):
            first = max(0, min(round((place + 0.5) * step - window / 2), size - window))
            ends.append((first, min(first + window, size)))
        image, _ = scene.read(*ends)
        return {"id": workspace.keep_array(image), "top": ends[0][0], "left": ends[1][0]}

    @router.get("/maps/{name}/files/{which}")
    def download(name: str, which: str, column: int = 0) -> Response:
        """The files of a map, and the QGIS styles that show it in the colours of the page."""
        folder, shown = folder_of(name), show(name)
        stem = re.sub(r"[^\w.-]+", "_", Path(shown["name"]).stem) or "map"
        if which in (TILES, PROBABILITIES, PICTURE):
            return FileResponse(folder / which, filename=f"{stem}-{which}")
        if which == "tiles.qml":
            text = cells_style(shown["labels"], shown["colours"])
        elif which == "probabilities.qml" and 0 <= column < len(shown["labels"]):
            text = label_style(column + 1, *(shown[key][column] for key in ("labels", "colours", "thresholds")))
        else:
            raise UserError(f"{which}: no file of a map; choose {TILES}, {PROBABILITIES}, {PICTURE} or tiles.qml")
        attached = {"Content-Disposition": f'attachment; filename="{stem}-{which}"'}
        return Response(text, media_type="application/xml", headers=attached)


def _name(folder: Path) -> str:
    if not (folder / NAME).is_file():
        return folder.name
    return str(read_json(folder / NAME, advice="map the raster again").get("name", folder.name))
