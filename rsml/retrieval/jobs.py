"""The three jobs of retrieval: make an index, search it, measure a run."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rsml.data.find_images import find_images
from rsml.data.images import ImageError, picture
from rsml.data.readers import read_samples
from rsml.data.samples import Samples
from rsml.prediction.labelling import align
from rsml.prediction.scene_model import SceneModel, open_model
from rsml.retrieval.building import build_index
from rsml.retrieval.embedding import Embedder
from rsml.retrieval.index import Index
from rsml.retrieval.protocol import measure_retrieval
from rsml.run import Run
from rsml.utils.errors import UserError
from rsml.utils.files import replacing, write_json

SHEET_QUERIES, SHEET_NEIGHBOURS = 12, 10
Distance = Literal["cosine", "l2"]


def make_index(
    model: str,
    out: str | Path,
    *,
    images: Sequence[str] = (),
    data: str | None = None,
    labels: str | None = None,
    root: str | None = None,
    split: str = "all",
    metric: Distance = "cosine",
    approximate: Literal["hnsw", "ivf"] | None = None,
    layer: str | None = None,
    fresh: bool = False,
    batch_size: int = 32,
    trust: bool = False,
) -> tuple[Index, int, str, list[ImageError]]:
    """Embeds images, labelled data or the run's own images into an index folder.

    Returns:
        The index, the width of its vectors, the layer they come from, and the images that could not be read.
    """
    scene_model, run = open_model(model, trust)
    archive: Samples | list[str] = list(find_images(images)) if images else _data(scene_model, run, data, labels, root)
    if isinstance(archive, Samples) and split != "all":
        archive = _part(archive, split, "--split")
    embedder = Embedder(scene_model, os.path.abspath(model), layer)
    index, bad = build_index(
        out, embedder, archive, metric=metric, kind=approximate, fresh=fresh, batch_size=batch_size
    )
    return index, embedder.width, embedder.layer.name, bad


@dataclass(frozen=True)
class Query:
    """One question to an index.

    Attributes:
        name: What the user called it.
        file: The image.
        vector: `(width,)` embedding.
        labels: Its labels as a row of the index's columns, or None.
        labels_from: "index" or "run" for known ones, "model" for predicted ones, "" for none.
        row: Its own row in the index, -1 if it is not there.
    """

    name: str
    file: str
    vector: np.ndarray
    labels: np.ndarray | None
    labels_from: str
    row: int


@dataclass(frozen=True)
class Answers:
    """What an index answers.

    Attributes:
        index: The index that was asked.
        samples: Its images.
        queries: The questions, in order.
        rows: `(queries, k)` rows of the index, nearest first; -1 where an approximate search found no more.
        values: `(queries, k)` similarities or distances.
        seconds: Time of the search alone.
        bad: Queries that could not be read.
    """

    index: Index
    samples: Samples
    queries: list[Query]
    rows: np.ndarray
    values: np.ndarray
    seconds: float
    bad: list[ImageError]

    def each(self) -> list[tuple[Query, list[tuple[int, float]]]]:
        """Every query with its neighbours: row and value."""
        found = [
            [(int(row), float(value)) for row, value in zip(rows, values, strict=True) if row >= 0]
            for rows, values in zip(self.rows, self.values, strict=True)
        ]
        return list(zip(self.queries, found, strict=True))


def search_index(
    folder: str | Path,
    *,
    images: Sequence[str] = (),
    rows: Sequence[int] = (),
    model: str | None = None,
    root: str | None = None,
    k: int = 10,
    exact: bool = False,
    keep_self: bool = False,
    batch_size: int = 32,
    trust: bool = False,
) -> Answers:
    """Finds the neighbours of images or of rows of an index."""
    index = Index.open(folder)
    samples = index.samples if root is None else replace(index.samples, root=Path(root))
    bad: list[ImageError] = []
    queries = [_row_query(index, samples, row) for row in rows]
    if images:
        queries += _image_queries(index, samples, list(find_images(images)), model, batch_size, trust, bad)
    begun = time.perf_counter()
    own = None if keep_self else np.array([query.row for query in queries])
    found, values = index.search(
        np.stack([query.vector for query in queries]), k, own=own, exact=True if exact else None
    )
    return Answers(index, samples, queries, found, values, time.perf_counter() - begun, bad)


def measure(
    model: str,
    *,
    data: str | None = None,
    labels: str | None = None,
    root: str | None = None,
    queries: str = "test",
    archive: str = "train",
    at: Sequence[int] | None = None,
    k: int = 10,
    out: str | None = None,
    metric: Distance = "cosine",
    layer: str | None = None,
    fresh: bool = False,
    batch_size: int = 32,
    trust: bool = False,
) -> tuple[dict[str, Any], Path, list[ImageError]]:
    """Measures the retrieval of one part of the data from another; writes `retrieval.json` into the run folder.

    Returns:
        The measures, the file they are kept in, and the images that could not be read.
    """
    if out is not None and Path(out).suffix != ".json":
        raise UserError(f"--out {out}: expected a file ending in .json (its embeddings are kept beside it)")
    scene_model, run = open_model(model, trust)
    samples = _data(scene_model, run, data, labels, root)
    asking, answering = _part(samples, queries, "--queries"), _part(samples, archive, "--archive")
    file = Path(out) if out else run.files.retrieval_metrics if run and not data else Path("retrieval.json")
    embedder = Embedder(scene_model, os.path.abspath(model), layer)
    measured, bad = measure_retrieval(
        file.with_suffix(""),
        embedder,
        asking,
        answering,
        at=at,
        k=k,
        metric=metric,
        fresh=fresh,
        batch_size=batch_size,
    )
    measured = {"run": run.name if run else None, "parts": {"queries": queries, "archive": archive}, **measured}
    write_json(file, measured)
    return measured, file, bad


def measure_run(run: Run) -> dict[str, float]:
    """A run's retrieval of its training part by its test part, and the KNN's F1, as flat metrics for a comparison."""
    scene_model = open_model(run.folder)[0]
    samples = run.read_samples()
    embedder = Embedder(scene_model, os.path.abspath(run.folder))
    asking, answering = _part(samples, "test", "--queries"), _part(samples, "train", "--archive")
    measured, _ = measure_retrieval(run.files.retrieval, embedder, asking, answering)
    flat = {f"{name}@{depth}": value for depth, values in measured["at"].items() for name, value in values.items()}
    return {**flat, "knn_samples_f1": measured["knn"]["samples_f1"]}


def _data(scene_model: SceneModel, run: Run | None, data: str | None, labels: str | None, root: str | None) -> Samples:
    if data is not None:
        return align(read_samples(data, labels=labels), scene_model)
    if run is None:
        raise UserError("a checkpoint file alone knows no data; give images, or labelled data with --data")
    return run.read_samples(root)


def _part(samples: Samples, split: str, option: str) -> Samples:
    part = samples if split == "all" else samples.part(split)
    if not len(part):
        raise UserError(f"{samples.root}: its {split} part is empty; choose another with {option}")
    return part


def _row_query(index: Index, samples: Samples, row: int) -> Query:
    if not 0 <= row < len(index):
        raise UserError(f"--row {row}: {index.folder} has the rows 0 to {len(index) - 1}")
    labels = samples.labels[row] if samples.label_names else None
    known = "" if labels is None else "index"
    return Query(str(samples.paths[row]), str(samples.files[row]), index.vectors[row], labels, known, row)


def _image_queries(
    index: Index,
    samples: Samples,
    files: list[str],
    source: str | None,
    batch_size: int,
    trust: bool,
    bad: list[ImageError],
) -> list[Query]:
    source = source or index.about["model"]["source"]
    if not os.path.exists(source):
        raise UserError(f"{source}: the model of {index.folder} is not there any more; name it with --model")
    scene_model, run = open_model(source, trust)
    embedder = Embedder(scene_model, source, index.about["model"]["layer"])
    index.check_model(embedder.fingerprint, source)
    row_of = _row_of(samples)
    comparable = bool(samples.label_names) and samples.label_names == tuple(scene_model.labels)
    trained = run.read_samples() if comparable and run is not None and run.files.samples.is_file() else None
    trained_row = {} if trained is None else _row_of(trained)
    queries = []
    for names, vectors, scores in embedder.stream_labels(files, bad, batch_size):
        decided = scene_model.decide(scores)
        for position, name in enumerate(names):
            file = os.path.abspath(name)
            row = row_of.get(file, -1)
            labels, labels_from = None, ""
            if row >= 0 and samples.label_names:
                labels, labels_from = samples.labels[row], "index"
            elif trained and file in trained_row and trained.label_names == samples.label_names:
                labels, labels_from = trained.labels[trained_row[file]], "run"
            elif comparable:
                labels, labels_from = decided[position], "model"
            queries.append(Query(name, name, vectors[position], labels, labels_from, row))
    if not queries:
        raise UserError(f"none of the {len(files)} queries could be read, the first: {bad[0]}")
    return queries


def _row_of(samples: Samples) -> dict[str, int]:
    return {os.path.abspath(file): row for row, file in enumerate(samples.files.tolist())}


def _names(samples: Samples, labels: np.ndarray | None) -> list[str]:
    return [] if labels is None else [samples.label_names[column] for column in np.flatnonzero(labels)]


def write_table(out: str | Path, answers: Answers) -> None:
    """Writes a row for every neighbour of every query."""
    samples = answers.samples
    value = "similarity" if answers.index.metric == "cosine" else "distance"
    with replacing(out) as beside, open(beside, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(
            ["query", "query_labels", "labels_from", "rank", "row", "path", value, "labels", "shared", "shared_labels"]
        )
        for query, neighbours in answers.each():
            own = _names(samples, query.labels)
            for rank, (row, number) in enumerate(neighbours, 1):
                labels = _names(samples, samples.labels[row])
                shared = [name for name in labels if name in own]
                count = "" if query.labels is None else len(shared)
                asked = [query.name, "; ".join(own), query.labels_from]
                answer = [rank, row, samples.paths[row], f"{number:.6f}"]
                rows.writerow([*asked, *answer, "; ".join(labels), count, "; ".join(shared)])


def draw_sheet(out: str | Path, answers: Answers) -> None:
    """Draws the first queries with their first neighbours."""
    from rsml.figures.retrieval import Tile, contact_sheet
    from rsml.figures.style import save

    def seen(file: str) -> np.ndarray | None:
        try:
            return picture(file)
        except ImageError:
            return None

    samples, rows = answers.samples, []
    files = samples.files
    for query, neighbours in answers.each()[:SHEET_QUERIES]:
        tiles = [
            Tile(
                seen(str(files[row])),
                f"{rank}  {value:.3f}  {Path(str(samples.paths[row])).stem}",
                _names(samples, samples.labels[row]),
            )
            for rank, (row, value) in enumerate(neighbours[:SHEET_NEIGHBOURS], 1)
        ]
        asked = Tile(
            seen(query.file),
            f"query: {Path(query.file).stem}",
            _names(samples, query.labels),
            query.labels_from == "model",
        )
        rows.append((asked, tiles))
    count = len(answers.queries)
    shown = f", the first {len(rows)} of {count} queries" if len(rows) < count else ""
    predicted = "; italic: predicted labels" if any(asked.predicted for asked, _ in rows) else ""
    value = "cosine similarity" if answers.index.metric == "cosine" else "distance"
    save(contact_sheet(rows, f"rank, {value}, image; green: labels shared with the query{predicted}{shown}"), out)
