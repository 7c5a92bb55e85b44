"""A model that answers many callers at once: a bounded queue, batches of what waits, a model that can change."""

from __future__ import annotations

import gc
import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from rsml.data.images import decode_bytes
from rsml.explain.class_maps import ClassMaps
from rsml.layers.scene_predictions import predictions_layer
from rsml.prediction.find_model import find_model
from rsml.prediction.scene_model import SceneModel, open_model
from rsml.retrieval.embedding import Embedder
from rsml.run import Run
from rsml.utils.errors import UserError

logger = logging.getLogger(__name__)
Kind = Literal["scores", "embedding", "maps"]
_READERS = os.cpu_count() or 1


class Full(Exception):
    """The queue has no place for a request.

    Args:
        retry_after: Seconds after which there should be some.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_after} s")
        self.retry_after = retry_after


class Served:
    """One state of a model, ready to answer.

    Args:
        scene_model: The model.
        run: Its run, if it has one.
        source: Where it came from.
    """

    def __init__(self, scene_model: SceneModel, run: Run | None, source: Path) -> None:
        self.scene_model, self.run, self.source = scene_model, run, source
        self.name = run.name if run else source.stem
        model = scene_model.model
        last = predictions_layer(model)
        self.calibration = last.calibration if last else None
        self.promise = last.promise if last else None
        self.fingerprint = scene_model.fingerprint
        # One graph for any number of images; `predict` would make one for each.
        self._shape = (None, *model.input_shape[1:])
        self._scores = self._graph(scene_model.predictor)

    def _graph(self, model: Any) -> Callable[[Any], Any]:
        signature = [tf.TensorSpec(self._shape, tf.float32)]
        return tf.function(lambda images: model(images, training=False), input_signature=signature)

    @cached_property
    def embedder(self) -> Embedder:
        """Cut where `rsml retrieve` cuts, so that its indexes fit."""
        return Embedder(self.scene_model, str(self.source))

    @cached_property
    def _embeddings(self) -> Callable[[Any], Any]:
        return self._graph(self.embedder.model)

    @cached_property
    def class_maps(self) -> ClassMaps:
        """Grad-CAM at the deepest map of 7 x 7 or more."""
        return ClassMaps(self.scene_model.model)

    def read(self, data: bytes, name: str, max_pixels: int) -> np.ndarray:
        """A file's content as this model takes it, `(height, width, bands)` uint8, read as `rsml predict` reads it."""
        reading = self.scene_model.reading
        image = decode_bytes(data, reading["bands"], reading["value_range"], name, max_pixels)
        return self.scene_model.fit(image)

    def answer(self, kind: Kind, images: np.ndarray, columns: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
        """One array an image: `(labels,)` scores, a `(width,)` embedding, or the `(columns, h, w)` maps asked for."""
        images = images.astype(np.float32)
        if kind == "maps":
            return [self._maps(image, which) for image, which in zip(images, columns, strict=True)]
        values = self._scores(images) if kind == "scores" else self._embeddings(images)[0]
        values = np.asarray(values, np.float32)
        if not np.isfinite(values).all():
            raise UserError(f"{self.name}: the model gives NaN or infinity; it has diverged")
        return list(values)

    def _maps(self, image: np.ndarray, which: tuple[int, ...]) -> np.ndarray:
        # Filled up to a power of two: each number of labels is a graph of its own.
        filled = 1 << (len(which) - 1).bit_length()
        return self.class_maps(image[None], [*which, *which[:1] * (filled - len(which))])[0, : len(which)]


@dataclass
class _Item:
    served: Served
    kind: Kind
    columns: tuple[int, ...]
    read: Callable[[], bytes]
    name: str
    future: Future[np.ndarray] = field(default_factory=Future)
    image: np.ndarray | None = None


class Engine:
    """Loads a run's best model, answers from a bounded queue, and takes up the next best one when it is written.

    A batch is what came while the one before it ran, so that nobody waits for company. Batches are powers of two, so
    that the network meets few sizes, all of which it has seen before the first caller comes.

    Args:
        source: A run folder or checkpoint file; None is the newest run.
        trust: Let a model file run the code it carries.
        views: Score the mean over so many views; None is what the run was measured with.
        batch_size: Images a step at most. Larger ones only pay on a GPU.
        queue: Images in work at most, those that are being decoded included.
        max_pixels: Declared pixels of an image at most.
        watch: Seconds between looks at the model's file; None keeps the model.

    Example:
        ```python
        with Engine("checkpoint/scenes") as engine:
            (answer,) = engine.ask("scores", [("a.png", Path("a.png").read_bytes)])
            print(engine.served.scene_model.decide(answer.result()))
        ```
    """

    def __init__(
        self,
        source: str | Path | None = None,
        *,
        trust: bool = False,
        views: int | None = None,
        batch_size: int = 16,
        queue: int = 256,
        max_pixels: int = 2**25,
        watch: float | None = 5.0,
    ) -> None:
        self._file, run = find_model(source)
        self._source, self._trust, self._views = run.folder if run else self._file, trust, views
        self.sizes = sorted({*(1 << n for n in range(batch_size.bit_length())), batch_size}, reverse=True)
        self.queue, self.max_pixels = queue, max_pixels
        self.in_work = self.swaps = self.failed_swaps = 0
        self.seconds_an_image = 0.0
        self.on_batch: Callable[[str, int, float], None] = lambda kind, images, seconds: None
        self._seen = _stamp(self._file)
        self.served = self._load()
        self._waiting: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._readers = ThreadPoolExecutor(_READERS, "rsml-read")
        self._threads = [threading.Thread(target=self._answer_all, name="rsml-answer", daemon=True)]
        if watch is not None:
            self._threads.append(threading.Thread(target=self._watch, args=(watch,), name="rsml-watch", daemon=True))
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether questions are answered."""
        return self._threads[0].is_alive() and not self._closing.is_set()

    def ask(
        self,
        kind: Kind,
        images: Sequence[tuple[str, Callable[[], bytes]]],
        *,
        served: Served | None = None,
        columns: Sequence[tuple[int, ...]] | None = None,
    ) -> list[Future[np.ndarray]]:
        """Takes all of some images into the queue, or none.

        Args:
            kind: What is wanted; see `Served.answer`.
            images: A name, for errors, and what gives the file's content, called in a thread that decodes.
            served: The model to ask, where questions belong together; None is the one in force.
            columns: Of each image, the labels whose maps are wanted.

        Returns:
            A future an image, which fails alone. Cancel it where nobody waits any more.

        Raises:
            Full: There is no place for so many.
        """
        served = served or self.served
        wanted = columns or [()] * len(images)
        with self._changed:
            if self._closing.is_set() or self.in_work + len(images) > self.queue:
                raise Full(max(1, math.ceil(self.in_work * self.seconds_an_image)))
            items = [_Item(served, kind, which, read, name) for (name, read), which in zip(images, wanted, strict=True)]
            self.in_work += len(items)
            for item in items:  # within the lock, so that the readers are not shut down in between
                self._readers.submit(self._prepare, item)
        return [item.future for item in items]

    def close(self) -> None:
        """Answers what is accepted, then ends."""
        with self._changed:
            self._closing.set()
        self._readers.shutdown()
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def swap(self) -> None:
        """Loads the model anew and puts it into force; what was asked of the old one is still answered by it."""
        self.served = self._load()
        self.swaps += 1
        gc.collect()
        logger.info("%s: a new model is in force (%s)", self.served.name, self.served.fingerprint)

    def _load(self) -> Served:
        model, run = open_model(self._source, self._trust)
        served = Served(replace(model, views=self._views) if self._views else model, run, self._file)
        for size in self.sizes:
            images = np.zeros((size, *model.model.input_shape[1:]), np.uint8)
            served.answer("scores", images, [()] * size)
        return served

    def _watch(self, seconds: float) -> None:
        while not self._closing.wait(seconds):
            stamp = _stamp(self._file)
            if stamp in (None, self._seen):
                continue
            self._seen = stamp
            try:
                self.swap()
            except Exception as fault:  # whatever is wrong with the new one, the old one goes on
                self.failed_swaps += 1
                logger.warning("%s: cannot be loaded, the model before it stays: %s", self._file, fault)

    def _prepare(self, item: _Item) -> None:
        try:
            item.image = None if item.future.cancelled() else item.served.read(item.read(), item.name, self.max_pixels)
        except Exception as fault:
            self._finish(item, fault)
            return
        with self._changed:
            self._waiting.append(item)
            self._changed.notify()

    def _finish(self, item: _Item, answer: np.ndarray | Exception) -> None:
        with self._changed:
            self.in_work -= 1
        if not item.future.running() and not item.future.set_running_or_notify_cancel():
            return
        if isinstance(answer, Exception):
            item.future.set_exception(answer)
        else:
            item.future.set_result(answer)

    def _answer_all(self) -> None:
        while batch := self._next_batch():
            begun = time.monotonic()
            self._answer(batch)
            seconds = time.monotonic() - begun
            self.on_batch(batch[0].kind, len(batch), seconds)
            share = seconds / len(batch)
            self.seconds_an_image = 0.9 * self.seconds_an_image + 0.1 * share if self.seconds_an_image else share

    def _next_batch(self) -> list[_Item]:
        """The oldest question and others like it; none when all is done and the engine closes."""
        while True:
            with self._changed:
                # What readers still decode comes too, also when closing.
                while not self._waiting and not (self._closing.is_set() and self.in_work == 0):
                    self._changed.wait()
                if not self._waiting:
                    return []
                first = self._waiting[0]
                alike = [item for item in self._waiting if (item.served, item.kind) == (first.served, first.kind)]
                batch = alike[: next(size for size in self.sizes if size <= len(alike))]
                taken = set(map(id, batch))
                self._waiting = deque(item for item in self._waiting if id(item) not in taken)
            asked = [item for item in batch if item.future.set_running_or_notify_cancel()]
            with self._changed:
                self.in_work -= len(batch) - len(asked)
            if asked:
                return asked

    def _answer(self, batch: list[_Item]) -> None:
        served, kind = batch[0].served, batch[0].kind
        try:
            images = np.stack([item.image for item in batch if item.image is not None])
            answers: Sequence[Any] = served.answer(kind, images, [item.columns for item in batch])
        except Exception as fault:
            # One question, or too little memory for so many at once: the halves are tried alone.
            if len(batch) > 1:
                self._answer(batch[: len(batch) // 2])
                self._answer(batch[len(batch) // 2 :])
                return
            answers = [fault]
        for item, answer in zip(batch, answers, strict=True):
            self._finish(item, answer)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        about = os.stat(file)
    except OSError:
        return None  # between two states, or gone: the model in force stays
    return about.st_mtime_ns, about.st_size, about.st_ino
