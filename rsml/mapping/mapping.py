"""Map the labels of rasters of any size: windows slide over them, in flat memory, and a killed run goes on."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rsml.mapping.job import MapJob, MapOptions
from rsml.mapping.window_scores import Status
from rsml.prediction.scene_model import SceneModel
from rsml.raster.opening import environment
from rsml.raster.scene import Scene
from rsml.utils.errors import UserError
from rsml.utils.locks import lock
from rsml.utils.progress import Bar, progress_bar

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SceneMap:
    """A finished map.

    Attributes:
        folder: Where it is.
        about: What its `map.json` says.
    """

    folder: Path
    about: dict[str, Any]

    @property
    def unreadable(self) -> int:
        """Windows that lie on damaged parts of the scene."""
        return self.about["windows"]["unreadable"]


def map_scenes(
    model: SceneModel, scenes: Sequence[str | Path], folders: Sequence[Path], options: MapOptions
) -> tuple[list[SceneMap], list[UserError]]:
    """Maps scenes, each into a folder of its own.

    The state of a map that is not finished is in `building/` in its folder; the same call goes on there. A map that is
    finished is not made again. State or map of another model, of other options or of a scene that has changed are
    refused, unless `fresh`.

    Args:
        model: The classifier.
        scenes: Rasters.
        folders: For each scene.
        options: How.

    Returns:
        The maps, and why the other scenes cannot be mapped. (If it is the only scene, that is raised.)
    """
    identity = {"model": model.fingerprint}
    jobs, bad = [], []
    for path, folder in zip(scenes, folders, strict=True):
        try:
            scene = Scene(
                path,
                options.bands or model.reading["bands"],
                options.value_range or model.reading["value_range"],
                options.nodata,
            )
            jobs.append(MapJob(scene, folder, model, options, identity))
        except UserError as fault:
            if len(scenes) == 1:
                raise
            bad.append(fault)
    # One shape for all batches, those of an interrupted run too; but few windows need not fill a large one.
    batch_size = min(options.batch_size, sum(len(job.grid) for job in jobs))
    with ExitStack() as held:
        for job in jobs:
            held.enter_context(lock(job.folder, "a map"))
            job.begin(batch_size)
        todo = [job for job in jobs if not job.finished]
        if todo:
            _label(model, todo, batch_size)
    return [SceneMap(job.folder, job.finished or {}) for job in jobs], bad


class _Batches:
    """Fills batches over the ends of rows, blocks and scenes, and hands the scores to the scenes they are of."""

    def __init__(self, model: SceneModel, batch_size: int, progress: Bar) -> None:
        self.model, self.progress = model, progress
        self._images = np.zeros((batch_size, *model.model.input_shape[1:]), np.float32)
        self._filled = 0
        self._waiting: list[tuple[MapJob, np.ndarray]] = []

    def add(self, job: MapJob, statuses: np.ndarray, images: np.ndarray) -> None:
        while len(statuses):
            labelled = np.flatnonzero(statuses == Status.LABELLED)
            count = min(len(labelled), len(self._images) - self._filled)
            end = labelled[count - 1] + 1 if count < len(labelled) else len(statuses)
            self._images[self._filled : self._filled + count] = images[:count]
            self._filled += count
            self._waiting.append((job, statuses[:end]))
            if self._filled in (0, len(self._images)):
                self.flush()
            statuses, images = statuses[end:], images[count:]

    def flush(self) -> None:
        """Labels what there is; a smaller last batch is filled up, since for another shape TensorFlow traces anew."""
        scores: np.ndarray = np.zeros((0, len(self.model.labels)), np.float32)
        if self._filled:
            self._images[self._filled :] = 0
            scores = np.asarray(self.model.predictor.predict_on_batch(self._images), np.float32)[: self._filled]
            if not np.isfinite(scores).all():
                raise UserError("the model says NaN or infinity; it has diverged, choose another checkpoint")
        at = 0
        for job, statuses in self._waiting:
            labelled = statuses == Status.LABELLED
            own = np.full((len(statuses), scores.shape[1]), np.nan, np.float32)
            own[labelled] = scores[at : at + labelled.sum()]
            at += labelled.sum()
            job.records.append(statuses, own)
            job.done += len(statuses)
            self.progress.update(len(statuses))
        complete = [job for job, _ in self._waiting if job.done == len(job.grid)]
        self._filled, self._waiting = 0, []
        for job in dict.fromkeys(complete):
            job.finish()


def _label(model: SceneModel, jobs: list[MapJob], batch_size: int) -> None:
    begun = time.monotonic()
    total, before = sum(len(job.grid) for job in jobs), sum(job.done for job in jobs)
    cache = max(job.scene.reader.cache_bytes(job.grid.window[0]) for job in jobs)
    # GDAL would keep decoded pixels until a twentieth of the memory is full.
    with (
        environment(GDAL_CACHEMAX=cache),
        progress_bar(title="mapping", unit="windows", total=total, initial=before) as progress,
    ):
        batches = _Batches(model, batch_size, progress)
        for job in jobs:
            if job.done == len(job.grid):
                job.finish()
        for job, (statuses, images) in _prefetched(jobs):
            batches.add(job, statuses, images)
        batches.flush()
    seconds = max(time.monotonic() - begun, 1e-9)
    logger.info("%d windows in %.0f s (%.1f/s)", total - before, seconds, (total - before) / seconds)


def _prefetched(jobs: list[MapJob]) -> Iterator[tuple[MapJob, tuple[np.ndarray, np.ndarray]]]:
    """What `read` gives for all blocks that are not done, in order, read on some threads while others are labelled."""
    threads = min(4, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(threads)
    waiting: deque[tuple[MapJob, Future]] = deque()
    try:
        for job in jobs:
            start = job.done
            for block in job.grid.blocks(start):
                waiting.append((job, pool.submit(job.read, block, start)))
                if len(waiting) > threads:
                    first, result = waiting.popleft()
                    yield first, result.result()
        while waiting:
            first, result = waiting.popleft()
            yield first, result.result()
    finally:
        pool.shutdown(cancel_futures=True)
