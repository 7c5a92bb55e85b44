"""The papers' protocol: queries of one part of the data against the archive of another, measured at R, and the KNN."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rsml.data.samples import Samples
from rsml.evaluation import multilabel_metrics, singlelabel_metrics
from rsml.evaluation.neighbors import check_count, knn_scores
from rsml.retrieval.building import Embeds, build_index, is_of_another
from rsml.retrieval.index import Index, Metric
from rsml.retrieval.measures import AT, MEASURES, check_depths, retrieval_metrics
from rsml.tasks import task
from rsml.utils.errors import UserError

PERCENT = {"map", "ndcg", "precision", "hamming_loss"}
"""Measures between 0 and 1; the gains (WMAP, ACG) count labels."""


def measure_retrieval(
    folder: str | Path,
    embedder: Embeds,
    queries: Samples,
    archive: Samples,
    *,
    at: Sequence[int] | None = None,
    k: int = 10,
    metric: Metric = "cosine",
    fresh: bool = False,
    batch_size: int = 32,
) -> tuple[dict[str, Any], list]:
    """Embeds both parts (resumable, kept in `folder`) and measures the archive's ranking for every query.

    An image that is in both parts is passed over in its own ranking. Of land-cover shares the dominant class is the
    label. Embeddings in `folder` that are of another model
    are thrown away: the folder is ours.

    Args:
        folder: Holds the index folders `queries` and `archive`.
        embedder: Makes the embeddings.
        queries: The images that ask, the test part of a run.
        archive: The images that answer, the training part.
        at: Depths R; None is 5, 10, 20 and 50, as far as the archive reaches.
        k: Neighbours that vote.
        metric: "cosine" or "l2".
        fresh: Embed all anew.
        batch_size: Images a step.

    Returns:
        JSON values, and the faults of images that could not be read.
    """
    if queries.label_names != archive.label_names:
        raise UserError(f"{queries.root}: labels other than the archive's; queries and archive need the same")
    if not queries.label_names:
        raise UserError(f"{queries.root}: no labels, so nothing can be measured; give labelled data")
    queries, archive = queries.by_dominant_class(), archive.by_dominant_class()
    # Before hours of embedding rather than after.
    check_count(k)
    if at is not None:
        check_depths(at)
        _check_reach(at, len(archive))
    indexes, bad = {}, []
    for name, part in (("archive", archive), ("queries", queries)):
        place = Path(folder) / name
        anew = fresh or is_of_another(place, embedder.fingerprint, metric)
        indexes[name], faults = build_index(place, embedder, part, metric=metric, fresh=anew, batch_size=batch_size)
        bad += faults
    asked, answering = indexes["queries"], indexes["archive"]
    own = _own_rows(asked, answering)
    reach = len(answering) - bool((own >= 0).any())
    if at is None:
        at = [depth for depth in AT if depth <= reach] or [reach]
    _check_reach(at, reach)
    rows, _ = answering.search(asked.vectors, max(at), own=own)
    truth = asked.samples.labels
    measured = retrieval_metrics(truth, rows, answering.samples.labels, at)
    scores = knn_scores(answering.vectors, answering.samples.labels, asked.vectors, k, own=own)
    knn = {"k": k, "samples_f1": multilabel_metrics(truth, scores)["samples_f1"]}
    if task(queries.task).one_class:
        knn["accuracy"] = singlelabel_metrics(truth, scores)["accuracy"]
    answerable = (truth.astype(np.float32) @ answering.samples.labels.any(0)) > 0
    return {
        "model": dict(answering.about["model"]),
        "metric": metric,
        "queries": len(asked),
        "queries_without_relevant_image": int((~answerable).sum()),
        "archive": len(answering),
        "at": {str(depth): {name: measured[f"{name}@{depth}"] for name in MEASURES} for depth in at},
        "knn": knn,
    }, bad


def measures_table(measured: dict[str, Any]) -> str:
    """The measures as a Markdown table: shares in percent, gains in labels."""
    heads = {"map": "MAP", "wmap": "WMAP", "ndcg": "NDCG", "acg": "ACG", "precision": "precision"}
    lines = [
        "| R | " + " | ".join(heads.get(name, "Hamming loss") for name in MEASURES) + " |",
        "|---:" * (1 + len(MEASURES)) + "|",
    ]
    for depth, values in measured["at"].items():
        cells = [f"{100 * values[n]:.2f}" if n in PERCENT else f"{values[n]:.3f}" for n in MEASURES]
        lines.append(f"| {depth} | " + " | ".join(cells) + " |")
    knn = measured["knn"]
    accuracy = f", accuracy {100 * knn['accuracy']:.2f}" if "accuracy" in knn else ""
    lines += ["", f"KNN ({knn['k']} neighbours): sample-averaged F1 {100 * knn['samples_f1']:.2f}{accuracy}"]
    return "\n".join(lines)


def _check_reach(at: Sequence[int], reach: int) -> None:
    if max(at) > reach:
        raise UserError(f"--at {max(at)}: the archive has {reach} images for a query; lower it, or enlarge the archive")


def _own_rows(queries: Index, archive: Index) -> np.ndarray:
    row_of = {file: row for row, file in enumerate(archive.samples.files.tolist())}
    return np.array([row_of.get(file, -1) for file in queries.samples.files.tolist()], np.int64)
