"""Which images deserve a look first: probably wrong labels, doubtful scores, runs that disagree, or any."""

from __future__ import annotations

import csv
import functools
import os
from collections.abc import Callable
from typing import Literal

import numpy as np

from rsml.app.page_workspace import Workspace
from rsml.run import Run
from rsml.tasks import task
from rsml.utils.errors import UserError

Kind = Literal["suspects", "uncertain", "disagreements", "random"]
SEED = 0


def scores_of(workspace: Workspace, run: Run) -> np.ndarray | None:
    """`(images, labels)` of the run's images by a run, NaN for unreadable ones; None where they are not scored yet."""
    file = workspace.folder / f"scores-{run.name}.csv"
    if not file.is_file() or file.stat().st_mtime < run.files.best.stat().st_mtime:
        return None
    if any(
        job["kind"] == "scores" and job["state"] == "running" and str(file) in job["command"]
        for job in workspace.jobs.all()
    ):
        return None
    scores = _read(workspace, str(file), file.stat().st_mtime_ns)
    return None if np.isnan(scores).all() else scores


@functools.lru_cache(maxsize=4)
def _read(workspace: Workspace, file: str, stamp: int) -> np.ndarray:
    """The table of scores, read again when it has changed."""
    samples = workspace.samples
    names = samples.label_names
    row_of = {os.path.abspath(path): row for row, path in enumerate(samples.files.tolist())}
    scores = np.full((len(samples), len(names)), np.nan, np.float32)
    with open(file, encoding="utf-8", errors="surrogateescape", newline="") as stream:
        rows = csv.reader(stream)
        head = next(rows, [])
        if missing := [name for name in names if f"score {name}" not in head]:
            raise UserError(f"{file}: that run has no label '{missing[0]}'; choose one with the same labels")
        columns = [head.index(f"score {name}") for name in names]
        for cells in rows:
            row = row_of.get(cells[0]) if len(cells) == len(head) else None
            if row is not None:
                scores[row] = [float(cells[column]) for column in columns]
    return scores


def ranked(
    workspace: Workspace, kind: Kind, scores: np.ndarray | None, other: np.ndarray | None = None
) -> tuple[np.ndarray, Callable[[int], str]]:
    """Rows in the order in which they should be looked at, and what is to be said of each.

    Args:
        workspace: Gives labels and thresholds.
        kind: Which queue.
        scores: `(images, labels)` of the run.
        other: Of the run to compare with.
    """
    samples, names = workspace.samples, workspace.samples.label_names
    if kind == "random" or scores is None:
        return np.random.default_rng(SEED).permutation(len(samples)), lambda row: "Drawn by chance."
    truth, cuts = samples.present > 0, _cuts(workspace, scores)
    # How far a score lies beyond its threshold, from -1 to 1: thresholds are not all at one half.
    sure = np.where(
        scores > cuts, (scores - cuts) / np.maximum(1 - cuts, 1e-6), (scores - cuts) / np.maximum(cuts, 1e-6)
    )
    readable = np.isfinite(scores).all(axis=1)
    if kind == "suspects":
        doubt = np.where(truth, -sure, sure)
        worst = doubt.argmax(axis=1)
        value = doubt.max(axis=1)
        keep = readable & (value > 0)

        def why(row: int) -> str:
            column = int(worst[row])
            given = "is labelled" if truth[row, column] else "is not labelled"
            return f"It {given} {names[column]}, which the model scores {scores[row, column]:.2f}."
    elif kind == "uncertain":
        value = -np.abs(sure).min(axis=1)
        closest, keep = np.abs(sure).argmin(axis=1), readable

        def why(row: int) -> str:
            column = int(closest[row])
            return f"{names[column]}: {scores[row, column]:.2f}, where {cuts[row, column]:.2f} decides."
    else:
        assert other is not None
        apart = task(samples.task).decide(scores, _thresholds(workspace)) != task(samples.task).decide(
            other, _thresholds(workspace)
        )
        gap = np.where(apart, np.abs(scores - other), 0)
        widest, value = gap.argmax(axis=1), gap.max(axis=1)
        keep = readable & np.isfinite(other).all(axis=1) & (value > 0)

        def why(row: int) -> str:
            column = int(widest[row])
            return f"{names[column]}: {scores[row, column]:.2f} by this run, {other[row, column]:.2f} by the other."

    order = np.argsort(-value, kind="stable")
    return order[keep[order]], why


def _thresholds(workspace: Workspace) -> np.ndarray:
    """In the order of the samples' labels."""
    model = workspace.model
    return np.array([model.thresholds[model.labels.index(name)] for name in workspace.samples.label_names])


def _cuts(workspace: Workspace, scores: np.ndarray) -> np.ndarray:
    """The score at which each decision of each image turns; of a single class the best other one's."""
    if task(workspace.samples.task).thresholds:
        return np.broadcast_to(_thresholds(workspace), scores.shape)
    first_two = np.sort(np.nan_to_num(scores), axis=1)[:, ::-1][:, :2]
    is_first = np.arange(scores.shape[1]) == np.nan_to_num(scores).argmax(axis=1)[:, None]
    return np.where(is_first, first_two[:, 1:], first_two[:, :1])
