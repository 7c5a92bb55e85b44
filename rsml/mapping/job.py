"""One scene on its way to a map: its windows, what is known of them so far, and what is written in the end."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.errors import RasterioError

from rsml.figures.quicklook import quicklook
from rsml.figures.style import save
from rsml.mapping.label_map import PROBABILITIES, TILES, write_map
from rsml.mapping.window_scores import Status, WindowScores
from rsml.prediction.scene_model import SceneModel
from rsml.raster.scene import Scene
from rsml.raster.windows import Block, WindowGrid, check_count
from rsml.utils.errors import UserError
from rsml.utils.files import remove, write_json
from rsml.utils.guard import read_json

logger = logging.getLogger(__name__)

ABOUT, BUILDING, JOB, PICTURE = "map.json", "building", "job.json", "quicklook.png"
FORMAT = 1
_NAMED = 100


@dataclass(frozen=True)
class MapOptions:
    """How scenes are mapped.

    Args:
        window: (height, width) of a window in pixels of the scene; it is resized to the model's input.
        step: (down, across) from one window to the next, and size of a cell of the map. None: half a window.
        batch_size: Windows a step.
        skip_nodata: A window is left out when at least this share of it is missing.
        bands: Of the scene, counted from 1. None: those the model was trained on.
        value_range: Values that become 0 and 255. None: those of the training, or else of each scene its own.
        nodata: The value of missing pixels, where a scene does not say.
        fresh: Start over.
    """

    window: tuple[int, int]
    step: tuple[int, int] | None = None
    batch_size: int = 32
    skip_nodata: float = 0.5
    bands: tuple[int, ...] | None = None
    value_range: tuple[float, float] | None = None
    nodata: float | None = None
    fresh: bool = False

    def __post_init__(self) -> None:
        if min(self.window) < 1:
            raise UserError(f"--window is {self.window[0]}; expected 1 pixel or more")
        if any(not 1 <= step <= window for step, window in zip(self.steps, self.window, strict=True)):
            raise UserError(
                f"--step is {self.steps[0]}; expected 1 to {min(self.window)} pixels, the window: more leaves gaps"
            )
        if self.batch_size < 1:
            raise UserError(f"--batch-size is {self.batch_size}; expected 1 or more")
        if not 0 < self.skip_nodata <= 1:
            raise UserError(f"--skip-nodata is {self.skip_nodata:g}; expected a share above 0, up to 1")

    @property
    def steps(self) -> tuple[int, int]:
        """(down, across)."""
        return self.step or (max(1, self.window[0] // 2), max(1, self.window[1] // 2))


class MapJob:
    """One scene on its way to a map.

    Args:
        scene: What is mapped.
        folder: Where its map goes.
        model: The classifier.
        options: How it is mapped.
        identity: What tells the model from others.

    Attributes:
        grid: Its windows.
        records: What is known of them.
        done: How many are recorded.
        finished: What `map.json` says of the finished map, or None.
    """

    def __init__(
        self, scene: Scene, folder: Path, model: SceneModel, options: MapOptions, identity: dict[str, Any]
    ) -> None:
        self.scene, self.folder, self.model, self.options = scene, folder, model, options
        channels = model.model.input_shape[-1]
        if scene.channels != channels:
            raise UserError(
                f"{scene.path}: gives {scene.channels} bands, the model takes {channels}; choose as many with --bands"
            )
        check_count(scene.path, scene.size, options.window, options.steps)
        self.grid = WindowGrid(scene.size, options.window, options.steps, scene.reader.strips)
        self.records = WindowScores(folder / BUILDING / "windows.bin", len(self.grid), len(model.labels))
        state = os.stat(scene.path) if os.path.exists(scene.path) else None
        self.identity = {
            **identity,
            "scene": {
                "file": Path(scene.path).name,
                "size": list(scene.size),
                "bytes": state and state.st_size,
                "changed": state and state.st_mtime_ns,
            },
            "bands": scene.bands,
            "value_range": scene.value_range and list(scene.value_range),
            "nodata": scene.nodata if scene.nodata == scene.nodata else "nan",
            "window": list(options.window),
            "step": list(options.steps),
            "skip_nodata": options.skip_nodata,
            "block": list(self.grid.block),
        }
        scene.close()
        self.done = 0
        self.finished: dict[str, Any] | None = None

    def begin(self, batch_size: int) -> None:
        """Finds what is done already, and starts over if that is wanted."""
        if self.options.fresh:
            for name in (ABOUT, BUILDING, PROBABILITIES, TILES, PICTURE):
                remove(self.folder / name)
        finished, begun = _read(self.folder / ABOUT), _read(self.folder / BUILDING / JOB)
        for kept in (finished and finished.get("made_from"), begun):
            if kept is not None:
                self._check_same(kept)
        if finished:
            self.finished = finished
            logger.info("%s: mapped already, in %s", self.scene.path, self.folder)
            return
        self.done = self.records.done(batch_size)
        self.records.check_room(self.folder)
        if not self.done:
            self.scene.warn_if_constant()
        write_json(self.folder / BUILDING / JOB, self.identity)
        self.records.keep(self.done)
        if self.done:
            logger.info("%s: goes on after %d of %d windows", self.scene.path, self.done, len(self.grid))

    def _check_same(self, kept: dict[str, Any]) -> None:
        differing = [key for key in self.identity if kept.get(key) != self.identity[key]]
        if not differing:
            return
        way_out = "give another folder with --out, or start over with --fresh"
        if "scene" in differing:
            raise UserError(f"{self.folder}: a map of another scene, or {self.scene.path} has changed since; {way_out}")
        if "model" in differing:
            raise UserError(f"{self.folder}: a map by another model, or one trained further; {way_out}")
        changed = ", ".join(f"{key}: {kept.get(key)} there, {self.identity[key]} now" for key in differing)
        raise UserError(f"{self.folder}: a map made with other options ({changed}); {way_out}")

    def read(self, block: Block, start: int) -> tuple[np.ndarray, np.ndarray]:
        """The statuses of a block's windows from number `start` on, and the images of those that can be labelled."""
        height, width = self.grid.window
        origins = self.grid.origins(block)
        top, left = origins[0]
        bottom, right = origins[-1][0] + height, origins[-1][1] + width
        try:
            pixels, missing = self.scene.read((top, bottom), (left, right))
        except RasterioError:
            pixels = None  # Some of it is damaged; the windows beside that can be read one by one.
        statuses, images = [], []
        for row, column in origins[max(0, start - block.first) :]:
            if pixels is not None:
                rows, columns = slice(row - top, row - top + height), slice(column - left, column - left + width)
                image, empty = pixels[rows, columns], missing[rows, columns]
            else:
                try:
                    image, empty = self.scene.read((row, row + height), (column, column + width))
                except RasterioError:
                    statuses.append(Status.UNREADABLE)
                    continue
            if empty.mean() >= self.options.skip_nodata:
                statuses.append(Status.NODATA)
            else:
                statuses.append(Status.LABELLED)
                images.append(self.model.fit(image))
        size = (0, *self.model.model.input_shape[1:])
        return np.array(statuses, np.uint8), np.stack(images) if images else np.zeros(size, np.uint8)

    def finish(self) -> None:
        """Writes the map from what is known of all windows."""
        records = self.records.read()
        status = np.asarray(records["status"])
        decided = write_map(self.folder, self.scene, self.grid, records, self.model)
        span = self.grid.cells[0] * self.grid.step[0], self.grid.cells[1] * self.grid.step[1]
        save(quicklook(self.folder / PROBABILITIES, self.scene, self.model, span), self.folder / PICTURE)
        self.scene.close()
        about = {
            "format": FORMAT,
            "scene": self.scene.path,
            "labels": list(self.model.labels),
            "windows": {kind.name.lower(): int((status == kind).sum()) for kind in Status},
            "unreadable_at": self._places(np.flatnonzero(status == Status.UNREADABLE)[:_NAMED]),
            "cells": list(self.grid.cells),
            "cells_with": decided,
            "made_from": self.identity,
        }
        write_json(self.folder / ABOUT, about)
        self.finished = about
        remove(self.folder / BUILDING)

    def _places(self, numbers: np.ndarray) -> list[list[int]]:
        """(row, column) of the first pixel of windows."""
        places = []
        for block in self.grid.blocks():
            inside = numbers[(numbers >= block.first) & (numbers < block.first + len(block))]
            if len(inside):
                origins = self.grid.origins(block)
                places += [list(origins[number - block.first]) for number in inside]
        return places


def _read(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    kept: dict[str, Any] = read_json(file, advice="start the map over with --fresh")
    return kept
