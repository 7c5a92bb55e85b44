"""The facts that a run's page shows, read from its folder: numbers, names and rows, no markup."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import resource
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import rsml
from rsml.comparison.paired import Scored
from rsml.config import Experiment
from rsml.data.samples import Samples
from rsml.evaluation.report import RARE
from rsml.evaluation.scalars import LOWER_IS_BETTER, scale_of
from rsml.figures.panels import Mistake, confident_mistakes
from rsml.graph import conditional_probabilities, cooccurrence, threshold_graph
from rsml.methods.base import graph_threshold
from rsml.run import Run
from rsml.tasks import TaskRow, task
from rsml.utils.errors import UserError
from rsml.utils.files import write_json
from rsml.utils.manifest import digest

logger = logging.getLogger(__name__)
STEPS = 100
"""Places of a threshold slider."""


@dataclass(frozen=True)
class Facts:
    """One run on its measured part.

    Attributes:
        run: Its folder.
        part: "test", or "valid" where there is no test part.
        samples: Its images of that part.
        everything: All its images, divided.
        scores: `(images, labels)`.
        thresholds: `(labels,)`.
        evaluation: What was measured on the part.
    """

    run: Run
    part: str
    samples: Samples
    everything: Samples
    scores: np.ndarray
    thresholds: np.ndarray
    evaluation: dict[str, Any]

    @classmethod
    def read(cls, folder: str | Path, root: str | Path | None = None) -> Facts:
        """Reads a finished run with kept scores; what is missing is named."""
        from rsml.comparison.paired import kept_scores, kept_thresholds

        run = Run.open(folder)
        measured = run.evaluation
        part = next((name for name in ("test", "valid") if name in measured), None)
        if part is None:
            raise UserError(f"{run.folder}: was measured on no part, so there is nothing to report")
        everything = run.read_samples(root)
        samples = everything.part(part)
        scores = kept_scores(run, samples.paths, samples.label_names)
        thresholds = kept_thresholds(run, part, samples.label_names)
        if scores is None or thresholds is None:
            raise UserError(
                f"{run.folder}: no scores of its {part} part are kept in predictions.csv; "
                f"write them again with `rsml predict {run.folder}`"
            )
        return cls(run, part, samples, everything, scores, thresholds, measured[part])

    @cached_property
    def choices(self) -> dict[str, Any]:
        """Bands and values of the images, as `picture` takes them."""
        return self.run.experiment.data.choices()

    @property
    def row(self) -> TaskRow:
        """Of its task."""
        return task(self.samples.task)

    @property
    def truth(self) -> np.ndarray:
        """`(images, labels)` bool: what an image counts for."""
        return self.samples.present > 0

    @property
    def given(self) -> np.ndarray:
        """`(images, labels)` bool: what the model decides."""
        return self.row.decide(self.scores, self.thresholds) > 0

    def scored(self) -> Scored:
        """The same as paired tests take it."""
        part = self.samples
        about = part.task, part.paths, part.label_names, part.labels
        return Scored(self.run, *about, self.scores, self.thresholds, self.run.experiment.seed)

    def headlines(self) -> list[dict[str, Any]]:
        """The task's first metrics with their intervals."""
        ends = self.evaluation.get("intervals", {}).get("metrics", {})
        shown = dict.fromkeys([*self.row.headline, *(name for _, name in self.row.titles)])
        return [
            {"name": self.title(name), "value": self.evaluation["metrics"][name],
             "interval": ends.get(name), "scale": scale_of(name)}
            for name in shown if self.evaluation["metrics"].get(name) is not None
        ][:6]  # fmt: skip

    def title(self, metric: str) -> str:
        """What a metric is called."""
        titles = {name: title for title, name in self.row.titles}
        return titles.get(metric, metric.replace("_", " ").replace("f1", "F1").removesuffix(" over seen labels"))

    def head(self) -> list[tuple[str, str]]:
        """Name and value of what a run is."""
        experiment, made = self.run.experiment, made_with(self.run)
        counts = Counter(self.everything.splits.tolist())
        same = _same_files(self.everything)
        versions = ", ".join(f"{name} {number}" for name, number in made.get("versions", {}).items())
        best = self.best_epoch()
        rows = [
            ("Task", f"{self.samples.task}, {len(self.samples.label_names)} {self.row.noun}"),
            ("Method", " + ".join(method.kind for method in experiment.methods) or "plain"),
            ("Backbone", f"{experiment.model.backbone}, {experiment.model.weights or 'random start'}"),
            ("Images", f"{len(self.everything):,} of {experiment.data.source} at {experiment.data.image_size} px"),
            ("Division", ", ".join(f"{counts[name]:,} {name}" for name in ("train", "valid", "test") if counts[name])),
            ("Duplicates", same),
            ("Epochs", f"{len(self.run.history)}, the {_ordinal(best)} was chosen" if best else "not known"),
            ("Time, memory", _cost(made)),
            ("Versions", versions or "not kept"),
            ("Command", made.get("command") or f"rsml train --name {self.run.name}"),
        ]
        return [(name, value) for name, value in rows if value]

    def config(self) -> list[dict[str, Any]]:
        """Every option, those that differ from their defaults first."""
        own = _flat(self.run.experiment.dump())
        usual = dict(_flat(Experiment(name=self.run.name).dump()))
        rows = [{"key": key, "value": json.dumps(value), "changed": usual.get(key) != value} for key, value in own]
        return sorted(rows, key=lambda row: not row["changed"])

    def best_epoch(self) -> int | None:
        """The epoch whose model was kept."""
        history = self.run.history
        monitor = self.run.experiment.training.monitor or self.row.monitor
        if f"val_{monitor}" not in history:
            return int(history["epoch"].iloc[-1]) if len(history) else None
        values = history[f"val_{monitor}"]
        return int(history["epoch"][values.idxmin() if monitor in LOWER_IS_BETTER else values.idxmax()])

    def curves(self) -> list[dict[str, Any]]:
        """Series of each chart over the epochs."""
        history, monitor = self.run.history, self.run.experiment.training.monitor or self.row.monitor
        charts = [
            ("Loss", {"training": "loss", "validation": "val_loss"}),
            (self.title(monitor), {"training": monitor, "validation": f"val_{monitor}"}),
            ("Learning rate", {"rate": "learning_rate"}),
        ]
        shown = []
        for title, columns in charts:
            series = {name: history[column].tolist() for name, column in columns.items() if column in history}
            if any(np.isfinite(values).any() for values in series.values()):
                shown.append({"title": title, "series": series, "epochs": history["epoch"].tolist()})
        return shown

    def labels(self) -> list[dict[str, Any]]:
        """One row a label: its measures, support, warnings, and counts at every place of its slider."""
        rows = []
        for column, entry in enumerate(self.evaluation["per_label"]):
            few = [f"only {entry['support']} {self.part} images"] if entry["support"] < RARE else []
            if entry.get("valid") is not None and entry["valid"] < RARE:
                few.append(f"only {entry['valid']} validation images")
            rows.append({**entry, "warning": ", ".join(few), **(self._counts(column) if self.row.thresholds else {})})
        return rows

    def _counts(self, column: int) -> dict[str, list[int]]:
        true = self.truth[:, column]
        cuts = np.append(np.arange(STEPS + 1) / STEPS, self.thresholds[column])
        # Scores are kept with six decimals, so that one may lie on a threshold by rounding alone.
        given = self.scores[:, column, None] > cuts
        return {"hits": (given & true[:, None]).sum(0).tolist(), "named": given.sum(0).tolist()}

    def mistakes(self, most: int) -> list[Mistake]:
        """The surest wrong decisions."""
        truth = self.truth.argmax(axis=1) if not self.row.thresholds else self.truth
        return confident_mistakes(truth, self.scores, most, self.thresholds)

    def confusion(self) -> dict[str, Any]:
        """Counts `(rows, columns)` with the images of each cell: classes against classes, or mistakes that go together.

        Multi-label: rows are missed labels, columns labels wrongly named in the same image; the last of either stands
        for none.
        """
        names = list(self.samples.label_names)
        missed, wrong = self.truth & ~self.given, self.given & ~self.truth
        if not self.row.thresholds:
            rows, columns = self.truth, self.given
        else:
            bad = (missed | wrong).any(axis=1)
            rows, columns = (np.column_stack([part, bad & ~part.any(axis=1)]) for part in (missed, wrong))
            names = [*names, "nothing"]
        cells = {
            f"{i}-{j}": np.flatnonzero(rows[:, i] & columns[:, j]).tolist()
            for i, j in np.argwhere(rows.astype(int).T @ columns.astype(int))
        }
        return {"names": names, "cells": cells, "single": not self.row.thresholds}

    def graph(self, most: int = 90) -> dict[str, Any] | None:
        """The label graph of the training part: nodes in an order that keeps neighbours close, edges by strength."""
        if not self.row.thresholds or len(self.samples.label_names) < 2:
            return None
        threshold = graph_threshold(self.run.experiment.methods)
        counts = cooccurrence(self.everything.part("train").labels)
        shares = conditional_probabilities(counts)
        graph = threshold_graph(counts, threshold)
        weights = graph + graph.T
        # The second vector of the graph's Laplacian: labels with strong edges come to lie side by side.
        order = np.argsort(np.linalg.eigh(np.diag(weights.sum(1)) - weights)[1][:, 1], kind="stable")
        edges = [(int(i), int(j), float(shares[i, j])) for i, j in np.argwhere(graph > 0)]
        edges = sorted(edges, key=lambda edge: -edge[2])
        support = self.everything.part("train").labels.sum(axis=0).tolist()
        names, left_out = list(self.samples.label_names), max(0, len(edges) - most)
        return {"order": order.tolist(), "edges": edges[:most], "left_out": left_out, "threshold": threshold,
                "support": support, "names": names}  # fmt: skip


def keep_made_with(run: Run, started: float) -> None:
    """Writes how a run came to be: command, versions, seconds, peak memory; those of a resumed run add up.

    Args:
        run: The run.
        started: `time.time()` of the beginning.
    """
    kept, peak = made_with(run), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    versions = {name: _version(name) for name in ("tensorflow", "keras", "numpy", "scikit-learn")}
    write_json(
        run.files.made_with,
        {
            "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "versions": {"rsml": rsml.__version__, "python": sys.version.split()[0], **versions},
            "seconds": kept.get("seconds", 0.0) + time.time() - started,
            "peak_bytes": peak * (1 if sys.platform == "darwin" else 1024),  # Linux counts in KiB, macOS in bytes
        },
    )


def made_with(run: Run) -> dict[str, Any]:
    """What `keep_made_with` kept; empty for a run from before."""
    try:
        found: dict[str, Any] = json.loads(run.files.made_with.read_text(encoding="utf-8"))
        return found
    except (OSError, ValueError):
        return {}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "?"


def _cost(made: dict[str, Any]) -> str:
    if not made:
        return "not kept"
    minutes, seconds = divmod(round(made["seconds"]), 60)
    return f"{f'{minutes} min ' if minutes else ''}{seconds} s, {made['peak_bytes'] / 2**30:.1f} GiB at most"


def _same_files(samples: Samples, most: int = 20_000) -> str:
    """Whether any file occurs twice, and across parts."""
    if len(samples) > most:
        return f"not looked for among more than {most:,} images"
    found: dict[str, list[str]] = {}
    try:
        sizes = [os.path.getsize(file) for file in samples.files]
        as_large = Counter(sizes)
        for file, size, split in zip(samples.files, sizes, samples.splits, strict=True):
            if as_large[size] > 1:
                found.setdefault(digest(file), []).append(split)
    except OSError:
        return "not looked for: the images lie elsewhere now"
    twice = [splits for splits in found.values() if len(splits) > 1]
    across = sum(len(set(splits)) > 1 for splits in twice)
    if not twice:
        return "no file occurs twice"
    return f"{sum(map(len, twice)) - len(twice)} files occur again, {across} of them in another part"


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _flat(values: Any, prefix: str = "") -> Any:
    """Paths and values of nested options."""
    rows: Iterable[tuple[str, Any]] = values.items() if isinstance(values, dict) else ()
    found: list[tuple[str, Any]] = []
    for key, value in rows:
        inner = dict(enumerate(value)) if isinstance(value, list) and value and isinstance(value[0], dict) else value
        found += _flat(inner, f"{prefix}{key}.") if isinstance(inner, dict) and inner else [(f"{prefix}{key}", value)]
    return found
