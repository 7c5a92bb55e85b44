"""Embed an archive into an index folder: streaming, resumable at any moment, and later brought up to date."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rsml.data.samples import Samples
from rsml.retrieval import approximate
from rsml.retrieval.index import ABOUT, BUILDING, JOB, Index, Metric, check_metric, clear, read_job, write_index
from rsml.utils.errors import UserError
from rsml.utils.files import remove, replacing, write_json
from rsml.utils.guard import Damaged, read_npz
from rsml.utils.locks import lock
from rsml.utils.progress import progress_bar

logger = logging.getLogger(__name__)


class Embeds(Protocol):
    """What makes embeddings; `rsml.retrieval.embedding.Embedder` for a trained model."""

    fingerprint: str
    about: dict[str, Any]

    def stream(self, files: list[str], bad: list, batch_size: int) -> Iterator[tuple[list[str], np.ndarray]]:
        """Yields the files of a batch and `(batch, width)` embeddings; unreadable images go into `bad`."""


def build_index(
    folder: str | Path,
    embedder: Embeds,
    images: Samples | Iterable[str | Path],
    *,
    metric: Metric = "cosine",
    kind: approximate.Kind | None = None,
    fresh: bool = False,
    batch_size: int = 32,
    part_images: int = 4096,
    part_seconds: float = 10.0,
) -> tuple[Index, list]:
    """Embeds images into an index, or those that an index lacks.

    What is embedded is kept in parts in `building/`, at least every `part_seconds`; the same call goes on after the
    last whole part. Called for an index that is whole, it embeds only images that are new or have changed since.

    Args:
        folder: The index folder.
        embedder: Makes the embeddings.
        images: A table (its labels are kept), or paths. An image named twice counts once.
        metric: "cosine" or "l2".
        kind: "hnsw" or "ivf" for an approximate index beside the exact one.
        fresh: Start over.
        batch_size: Images a step.
        part_images: Images a part.
        part_seconds: Seconds a part.

    Returns:
        The index, and the faults of the images that could not be read and are not in it.
    """
    folder = Path(folder)
    check_metric(metric)
    samples = _distinct(images if isinstance(images, Samples) else unlabelled(images))
    if not len(samples):
        raise UserError(f"{folder}: no image to embed; name images or folders, or another part of the data")
    if kind is not None:
        approximate.check(kind, len(samples))
    with lock(folder, "an index build"):
        if fresh:
            clear(folder)
        return _build(folder, embedder, samples, metric, kind, batch_size, part_images, part_seconds)


def _build(
    folder: Path,
    embedder: Embeds,
    samples: Samples,
    metric: Metric,
    kind: approximate.Kind | None,
    batch_size: int,
    part_images: int,
    part_seconds: float,
) -> tuple[Index, list]:
    old = Index.open(folder) if (folder / ABOUT).is_file() else None
    model = {"fingerprint": embedder.fingerprint, **embedder.about}
    _check_same(folder, old.about if old else None, model, metric)
    _check_same(folder, read_job(folder), model, metric)

    files = [os.path.abspath(file) for file in samples.files]
    row_of = {file: row for row, file in enumerate(files)}
    stamps = np.array([_stamp(file) for file in files], np.int64)
    parts = _Parts(folder / BUILDING, old)
    # For each image, the part and the row in it that hold its embedding.
    where = np.full((len(files), 2), -1, np.int64)
    for number, names, kept in parts.read():
        for position, (name, stamp) in enumerate(zip(names, kept.tolist(), strict=True)):
            row = row_of.get(name)
            if row is not None and stamps[row] == stamp:
                where[row] = number, position
    missing = np.flatnonzero(where[:, 0] < 0)
    bad: list = []
    if len(missing):
        if len(missing) < len(files):
            logger.info("%s: %d of %d images are embedded already", folder, len(files) - len(missing), len(files))
        write_json(folder / BUILDING / JOB, {"images": len(files), "metric": metric, "model": model})
        with parts.writer(files, stamps, row_of, where, part_images, part_seconds) as add:
            begun = time.monotonic()
            stream = embedder.stream([files[row] for row in missing], bad, batch_size)
            with progress_bar(title="embedding", unit="images", total=len(missing)) as progress:
                for names, vectors in stream:
                    add(names, vectors)
                    progress.update(len(names))
        rate = (len(missing) - len(bad)) / max(time.monotonic() - begun, 1e-9)
        logger.info("%s: %d images embedded (%.0f/s)", folder, len(missing) - len(bad), rate)
    readable = np.flatnonzero(where[:, 0] >= 0)
    if not len(readable):
        raise UserError(f"{folder}: none of {len(files)} images could be read, the first: {bad[0]}")
    if old is not None and not _changed(old, samples.select(readable), stamps[readable], kind):
        remove(folder / BUILDING)
        return old, bad
    index = write_index(
        folder,
        samples.select(readable),
        stamps[readable],
        parts.fill(where[readable]),
        parts.width(where[readable]),
        metric=metric,
        model=model,
        kind=kind,
    )
    remove(folder / BUILDING)
    return index, bad


def unlabelled(paths: Iterable[str | Path]) -> Samples:
    """A table of images without labels, relative to the folder they have in common."""
    files = [os.path.abspath(path) for path in paths]
    root = os.path.dirname(files[0]) if len(set(files)) == 1 else os.path.commonpath(files) if files else os.curdir
    relative = [Path(os.path.relpath(file, root)).as_posix() for file in files]
    return Samples(np.array(relative, np.str_), np.zeros((len(files), 0), np.uint8), (), "multi-label", Path(root))


def is_of_another(folder: str | Path, fingerprint: str, metric: Metric) -> bool:
    """Whether a folder holds an index, whole or begun, of another model or metric, or one that cannot be read."""
    try:
        whole = Index.open(folder).about if (Path(folder) / ABOUT).is_file() else None
        known = [about for about in (whole, read_job(Path(folder))) if about is not None]
    except UserError:
        return True
    return any((about["model"]["fingerprint"], about["metric"]) != (fingerprint, metric) for about in known)


class _Parts:
    """What is embedded so far: the parts in `building/`, and an old index as part 0."""

    def __init__(self, folder: Path, old: Index | None) -> None:
        self.folder, self.old = folder, old
        self.last = 0

    def file(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}.npz"

    def read(self) -> Iterator[tuple[int, list[str], np.ndarray]]:
        """Number, files and stamps of each part; a damaged one is removed, its images are embedded again."""
        if self.old is not None:
            yield 0, [os.path.abspath(file) for file in self.old.samples.files], self.old.stamps
        for file in sorted(self.folder.glob("part-*.npz")):
            number = int(file.stem.partition("-")[2])
            self.last = max(self.last, number)
            try:
                part = read_npz(file, ("files", "stamps"))
                names = part["files"].tobytes().decode("utf-8", "surrogateescape").split("\0")
                if part["stamps"].shape != (len(names),):
                    raise Damaged(f"{file}: {len(names)} files, {part['stamps'].shape} stamps")
                yield number, names, part["stamps"]
            except Damaged:
                logger.info("%s: damaged; its images are embedded again", file)
                remove(file)

    def vectors(self, number: int) -> np.ndarray:
        if number == 0 and self.old is not None:
            return self.old.vectors
        return read_npz(self.file(number), ("vectors",), advice="make the index again with --fresh")["vectors"]

    def width(self, where: np.ndarray) -> int:
        return self.vectors(int(where[0, 0])).shape[1]

    def fill(self, where: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows of the index and their embeddings, part by part."""
        for number in np.unique(where[:, 0]):
            rows = np.flatnonzero(where[:, 0] == number)
            yield rows, self.vectors(int(number))[where[rows, 1]]

    @contextlib.contextmanager
    def writer(
        self,
        files: list[str],
        stamps: np.ndarray,
        row_of: dict[str, int],
        where: np.ndarray,
        part_images: int,
        part_seconds: float,
    ) -> Iterator[Any]:
        """Takes batches and writes parts; what is in hand when it ends, by Ctrl-C too, is written."""
        rows: list[int] = []
        vectors: list[np.ndarray] = []
        begun = time.monotonic()

        def flush() -> None:
            nonlocal begun
            if rows:
                self.last += 1
                names = "\0".join(files[row] for row in rows).encode("utf-8", "surrogateescape")
                with replacing(self.file(self.last)) as beside:
                    np.savez(
                        beside,
                        files=np.frombuffer(names, np.uint8),
                        stamps=stamps[rows],
                        vectors=np.concatenate(vectors),
                    )
                where[rows] = np.stack([np.full(len(rows), self.last), np.arange(len(rows))], axis=1)
                rows.clear()
                vectors.clear()
            begun = time.monotonic()

        def add(names: list[str], batch: np.ndarray) -> None:
            batch = np.asarray(batch, np.float32)
            wrong = ~np.isfinite(batch).all(axis=1)
            if wrong.any():
                raise UserError(
                    f"{names[int(wrong.argmax())]}: its embedding holds NaN or infinity; the model has diverged"
                )
            rows.extend(row_of[name] for name in names)
            vectors.append(batch)
            if len(rows) >= part_images or time.monotonic() - begun > part_seconds:
                flush()

        try:
            yield add
        finally:
            flush()


def _check_same(folder: Path, other: dict[str, Any] | None, model: dict[str, Any], metric: str) -> None:
    if other is None:
        return
    if other["model"]["fingerprint"] != model["fingerprint"]:
        raise UserError(
            f"{folder}: an index made by another model ({other['model'].get('source')}, "
            f"{other['model']['fingerprint']}) than {model.get('source')} ({model['fingerprint']}); "
            "choose another folder, or start it over with --fresh"
        )
    if other["metric"] != metric:
        raise UserError(
            f"{folder}: an index for {other['metric']}, not {metric}; choose another folder, or start over with --fresh"
        )


def _changed(old: Index, samples: Samples, stamps: np.ndarray, kind: str | None) -> bool:
    same_kind = kind is None or (old.about["approximate"] or {}).get("kind") == kind
    same_root = os.path.abspath(old.about["root"]) == os.path.abspath(samples.root)
    same_images = old.samples.fingerprint() == samples.fingerprint() and np.array_equal(old.stamps, stamps)
    return not (same_kind and same_root and same_images)


def _distinct(samples: Samples) -> Samples:
    samples = replace(samples, root=Path(os.path.abspath(samples.root)))
    first: dict[str, int] = {}
    for row, file in enumerate(samples.files.tolist()):
        first.setdefault(os.path.abspath(file), row)
    if len(first) == len(samples):
        return samples
    logger.info("%d images are named more than once and count once", len(samples) - len(first))
    return samples.select(list(first.values()))


def _stamp(file: str) -> int:
    try:
        return os.stat(file).st_mtime_ns
    except OSError:
        return -1  # it will be named as unreadable when its turn comes
