"""Does one run do better than another on the same images?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rsml.run import Run
from rsml.tasks import Task
from rsml.utils.errors import UserError
from rsml.utils.text import counted

if TYPE_CHECKING:
    import numpy as np

    from rsml.evaluation import Interval, SeedsTest


@dataclass(frozen=True)
class Scored:
    """A run's answers on one part.

    Args:
        run: The run.
        task: Of its labels.
        paths: `(images,)`, as the run's samples.csv has them.
        label_names: In column order.
        labels: `(images, labels)`.
        scores: `(images, labels)`.
        thresholds: `(labels,)`.
        seed: The run's.
    """

    run: Run
    task: Task
    paths: np.ndarray
    label_names: tuple[str, ...]
    labels: np.ndarray
    scores: np.ndarray
    thresholds: np.ndarray
    seed: int


def read_scored(folder: str, split: str, root: str | None = None, trust: bool = False) -> Scored:
    """A run's scores on a part: from its predictions.csv if that is of this part, else predicted anew."""
    run = Run.open(folder)
    for file in (run.files.samples, run.files.origin):
        if not file.is_file():
            raise UserError(f"{run.folder}: no {file.name}, so its images are not known; run rsml train again")
    samples = run.read_samples(root).part(split)
    if not len(samples):
        raise UserError(f"{run.folder}: its {split} part is empty; choose another with --split")
    names = samples.label_names
    scores = kept_scores(run, samples.paths, names)
    thresholds = kept_thresholds(run, split, names)
    if scores is None or thresholds is None:
        from rsml.prediction.scene_model import open_model

        model = open_model(run.folder, trust)[0]
        order = [model.labels.index(name) for name in names]
        scores, thresholds = model.scores(samples)[:, order], model.thresholds[order]
    return Scored(run, samples.task, samples.paths, names, samples.labels, scores, thresholds, run.experiment.seed)


def matched(first: Scored, other: Scored) -> Scored:
    """The other run's answers in the first one's order of images and labels; refused if they are of other ones."""
    import numpy as np

    pair = f"{first.run.folder} and {other.run.folder}"
    if first.task != other.task:
        raise UserError(f"{pair}: one is {first.task}, the other {other.task}; compare runs of one task")
    if set(first.label_names) != set(other.label_names):
        alone = sorted(set(first.label_names) ^ set(other.label_names))
        raise UserError(
            f"{pair}: their labels differ (only one has {', '.join(alone[:3])}); compare runs of one data set"
        )
    rows = {path: row for row, path in enumerate(other.paths.tolist())}
    missing = [path for path in first.paths.tolist() if path not in rows]
    if missing or len(rows) != len(first.paths):
        alone = missing or sorted(set(rows) - set(first.paths.tolist()))
        raise UserError(
            f"{pair}: their images differ ({len(first.paths)} and {len(rows)}, {alone[0]} is in one only); "
            "compare runs with the same division"
        )
    order = np.array([rows[path] for path in first.paths.tolist()])
    columns = [other.label_names.index(name) for name in first.label_names]
    labels = other.labels[order][:, columns]
    differing = np.flatnonzero((labels != first.labels).any(axis=1))
    if len(differing):
        raise UserError(
            f"{pair}: {len(differing)} images have other labels there, {first.paths[differing[0]]} the first; "
            "compare runs of the same labels"
        )
    return Scored(
        other.run, other.task, first.paths, first.label_names, labels,
        other.scores[order][:, columns], other.thresholds[columns], other.seed,
    )  # fmt: skip


def compare_runs(
    a: Sequence[str],
    b: Sequence[str],
    *,
    metrics: Sequence[str] = (),
    split: str = "test",
    root: str | None = None,
    resamples: int = 2000,
    trust: bool = False,
) -> tuple[list[SeedsTest], list[Scored], list[Scored]]:
    """Tests runs a against runs b, paired in order, and returns one test a metric, and the runs of each side.

    Args:
        a: Run folders.
        b: As many.
        metrics: Names; the task's headline metrics if there are none.
        split: Part of the data.
        root: Where the images lie now.
        resamples: Of the bootstrap.
        trust: Let a model file run the code it carries.
    """
    from rsml.evaluation import paired_seeds_test
    from rsml.tasks import task

    if not a or len(a) != len(b):
        raise UserError(f"runs are compared in pairs, found {len(a)} against {len(b)}; give as many to --a as to --b")
    read = [read_scored(folder, split, root, trust) for folder in (*a, *b)]
    read = [read[0], *(matched(read[0], other) for other in read[1:])]
    side_a, side_b = read[: len(a)], read[len(a) :]
    first = read[0]
    truth = first.labels.argmax(axis=1) if task(first.task).one_class else first.labels
    tests = [
        paired_seeds_test(
            metric,
            truth,
            [scored.scores for scored in side_a],
            [scored.scores for scored in side_b],
            thresholds_a=[scored.thresholds for scored in side_a],
            thresholds_b=[scored.thresholds for scored in side_b],
            task=first.task,
            resamples=resamples,
        )
        for metric in metrics or task(first.task).headline
    ]
    return tests, side_a, side_b


def tests_table(tests: Sequence[SeedsTest], side_a: Sequence[Scored], side_b: Sequence[Scored]) -> str:
    """The tests as text: one line a metric, then one a pair of runs, then who is right alone."""
    from rsml.evaluation.bootstrap import format_interval, format_p
    from rsml.evaluation.scalars import scale_of
    from rsml.utils.tables import render

    def cell(interval: Interval, metric: str) -> str:
        return format_interval(interval.value, interval.low, interval.high, scale=scale_of(metric))

    def signed(interval: Interval, metric: str) -> str:
        value, low, high = (f"{scale_of(metric) * end:+.2f}" for end in (interval.value, interval.low, interval.high))
        return f"{value} [{low}, {high}]"

    several = len(side_a) > 1
    drawn = "images and seeds" if several else "images"
    resamples, level = len(tests[0].difference.samples), 100 * tests[0].difference.level
    lines = [
        "a: " + " ".join(str(scored.run.folder) for scored in side_a),
        "b: " + " ".join(str(scored.run.folder) for scored in side_b),
        f"{counted(len(side_a[0].paths), 'image')}; [{level:g} % interval over {drawn}, {resamples} resamples]",
        "",
    ]
    header = ["%", "a", "b", "a - b", *(["deviation over pairs"] if several else []), "no difference"]
    rows = []
    for test in tests:
        deviation = [f"{scale_of(test.metric) * test.deviation:.2f}"] if several else []
        cells = [cell(test.a, test.metric), cell(test.b, test.metric), signed(test.difference, test.metric)]
        rows.append([test.metric, *cells, *deviation, format_p(test.p_value)])
    lines.append(render(header, rows))
    if several:
        header = [f"{tests[0].metric}, seeds", "a", "b", "a - b", "no difference"]
        rows = [
            [
                f"{left.seed}" if left.seed == right.seed else f"{left.seed} : {right.seed}",
                cell(pair.a, pair.metric),
                cell(pair.b, pair.metric),
                signed(pair.difference, pair.metric),
                format_p(pair.p_value),
            ]
            for pair, left, right in zip(tests[0].pairs, side_a, side_b, strict=True)
        ]
        lines.append(render(header, rows))
    for pair, left in zip(tests[0].pairs, side_a, strict=True):
        if pair.mcnemar_p is not None:
            seed = f"seed {left.seed}: " if several else ""
            lines.append(
                f"{seed}right alone {pair.only_a_right} : {pair.only_b_right}, McNemar {format_p(pair.mcnemar_p)}"
            )
    return "\n".join(lines)


def as_plain(tests: Sequence[SeedsTest], side_a: Sequence[Scored], side_b: Sequence[Scored]) -> dict[str, Any]:
    """The tests ready for JSON, as fractions."""

    def ends(interval: Interval) -> dict[str, float]:
        return {"value": float(interval.value), "low": float(interval.low), "high": float(interval.high)}

    def sides(test: Any) -> dict[str, Any]:
        return {
            "a": ends(test.a), "b": ends(test.b), "difference": ends(test.difference), "p_value": float(test.p_value)
        }  # fmt: skip

    return {
        "a": [str(scored.run.folder) for scored in side_a],
        "b": [str(scored.run.folder) for scored in side_b],
        "task": side_a[0].task,
        "images": len(side_a[0].paths),
        "resamples": len(tests[0].difference.samples),
        "level": tests[0].difference.level,
        "metrics": {
            test.metric: {
                **sides(test),
                "pairs": [
                    {
                        **sides(pair),
                        "seeds": [left.seed, right.seed],
                        "only_a_right": pair.only_a_right,
                        "only_b_right": pair.only_b_right,
                        "mcnemar_p": pair.mcnemar_p,
                    }
                    for pair, left, right in zip(test.pairs, side_a, side_b, strict=True)
                ],
            }
            for test in tests
        },
    }


def kept_scores(run: Run, paths: np.ndarray, names: Sequence[str]) -> np.ndarray | None:
    """The scores in predictions.csv, if they are of just these images and labels."""
    import pandas as pd

    try:
        with open(run.files.predictions, encoding="utf-8", errors="surrogateescape", newline="") as file:
            kept = pd.read_csv(file, dtype={"path": str}, keep_default_na=False)
    except (OSError, ValueError):
        return None
    columns = [f"score {name}" for name in names]
    if not {"path", *columns} <= set(kept.columns) or kept["path"].tolist() != paths.tolist():
        return None
    return kept[columns].to_numpy(dtype=float)


def kept_thresholds(run: Run, split: str, names: Sequence[str]) -> np.ndarray | None:
    """The thresholds the run was measured with; 0.5 where its task has none."""
    import numpy as np

    try:
        rows = run.evaluation[split]["per_label"]
        by_name = {row["label"]: row.get("threshold", 0.5) for row in rows}
        return np.array([by_name[name] for name in names], dtype=float)
    except (UserError, KeyError, TypeError):
        return None
