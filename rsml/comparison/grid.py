"""Compare methods fairly: a grid of variants with several seeds, one table."""

from __future__ import annotations

import itertools
import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsml.config import Experiment, override
from rsml.run import Run
from rsml.utils.errors import UserError
from rsml.utils.locks import lock
from rsml.utils.settings import nearest

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

Scores = dict[str, Any]
"""What one run scored: "task", and "metrics" by name."""


def grid(axes: Sequence[str]) -> list[list[str]]:
    """Every combination of the values of all axes, as a name and its settings.

    Args:
        axes: `key=value,value,...` each.
    """
    choices = []
    for axis in axes:
        key, values = axis_of("--grid", axis)
        choices.append([(key, value) for value in values])
    return [
        ["+".join(_short(key, value) for key, value in chosen), *(f"{k}={v}" for k, v in chosen)]
        for chosen in itertools.product(*choices)
        if chosen
    ]


def axis_of(option: str, axis: str) -> tuple[str, list[str]]:
    """The key of `key=value,value,...` and its values."""
    key, separator, values = axis.partition("=")
    if not separator or not values:
        raise UserError(f"{option} {axis}: expected key=value,value,..., e.g. methods.signa.heads=1,2,4")
    return key, values.split(",")


def _short(key: str, value: str) -> str:
    """A setting as part of a run's name: of a path its last part, of other signs dashes."""
    value = value.rstrip("/").rpartition("/")[2]
    return f"{key.rpartition('.')[2]}={re.sub('[^A-Za-z0-9._+=-]+', '-', value)}"


@dataclass(frozen=True)
class Comparison:
    """What was trained, and how it did.

    Args:
        runs: One row a variant and seed (and a value of the curve): variant, seed, the metrics.
        metrics: The columns that are shown.
        key: The setting of the curve, or "".
    """

    runs: pd.DataFrame
    metrics: Sequence[str]
    key: str = ""

    def text(self) -> str:
        """The tables, aligned, and what one seed does not say."""
        from rsml.utils.tables import render

        # A difference stays beside its metric.
        text = "\n".join(
            title + render(header, rows, attached=range(3, len(header), 2)) for title, (header, rows) in self._tables()
        )
        if self.runs["seed"].nunique() == 1:
            text += "One seed: differences of this size may be chance; give several, --seeds 0 1 2.\n"
        return text

    def markdown(self) -> str:
        """The tables as Markdown."""
        parts = []
        for title, (header, rows) in self._tables():
            lines = ["| " + " | ".join(row) + " |" for row in [header, *rows]]
            parts.append("\n".join([title + lines[0], "|---" * len(header) + "|", *lines[1:]]) + "\n")
        return "\n".join(parts)

    def _tables(self) -> list[tuple[str, tuple[list[str], list[list[str]]]]]:
        if not self.key:
            return [("", grid_table(self.runs, self.metrics))]
        return [
            (f"{self.key} = {value:g}\n\n", grid_table(rows.drop(columns=self.key), self.metrics))
            for value, rows in self.runs.groupby(self.key)
        ]

    def write(self, root: Path) -> None:
        """Writes runs.csv and table.md, and curve.png of the first metric where there is a curve."""
        from rsml.utils.files import replacing, write_text

        with replacing(root / "runs.csv") as beside:
            self.runs.to_csv(beside, index=False)
        write_text(root / "table.md", self.markdown())
        if self.key:
            from rsml.figures import charts as figures

            figures.save(figures.score_curve(self.runs, self.key, self.metrics[0]), root / "curve.png")


def train_and_measure(experiment: Experiment, root: Path, split: str = "test", retrieval: bool = False) -> Scores:
    """Trains an experiment where that is not done yet, in this process, and returns its scores on a part."""
    from rsml.training.loop import train

    run = train(experiment, root=root)
    scores = _kept(run, split)
    if retrieval:
        from rsml.retrieval.jobs import measure_run

        scores["metrics"] |= measure_run(run)
    return scores


def _is_complete(run: Run) -> bool:
    return run.files.metrics.is_file() and run.fault() is None


def _kept(run: Run, split: str) -> Scores:
    measured = run.evaluation
    if split not in measured:
        raise UserError(f"{run.folder}: its {split} part was not measured; choose another with --split")
    return {"task": measured[split]["task"], "metrics": dict(measured[split]["metrics"])}


def compare(
    make: Experiment | Callable[[Sequence[str]], Experiment],
    variants: dict[str, Sequence[str]],
    seeds: Sequence[int],
    *,
    root: Path,
    metrics: Sequence[str] = (),
    split: str = "test",
    retrieval: bool = False,
    curve: str | None = None,
    measure: Callable[..., Scores] | None = None,
) -> Comparison:
    """Trains what is not trained yet, and writes runs.csv and table.md into `root` after each run.

    With a curve every variant has a row a value, table.md a table a value, and curve.png shows the first metric.

    Args:
        make: What all variants share, or a function that makes an experiment of settings.
        variants: Settings by name; the first is the baseline.
        seeds: Seeds of every variant.
        root: Folder of the comparison's runs.
        metrics: Columns of the table; none takes the task's headline metrics.
        split: "test" or "valid".
        retrieval: Measure each run's retrieval of its training part by its test part too.
        curve: `key=value,value,...`: train every variant at each of the values.
        measure: Does one run, as `train_and_measure` does; None does each in a process of its own, whose memory is
            given back.
    """
    if measure is None:
        from rsml.comparison.apart import measure_apart

        measure = measure_apart
    # Every variant is checked before the first is trained: a typing fault must not cost a night.
    planned = _plan(make, variants, seeds, curve, root)
    if not planned:
        raise UserError("nothing to compare; give one variant and one seed at least")
    import pandas as pd

    from rsml.tasks import task

    key = axis_of("--curve", curve)[0] if curve else ""
    rows: list[dict[str, Any]] = []
    taken: list[float] = []
    to_do = [retrieval or not _is_complete(Run(root / variant.name)) for _, variant in planned]
    with lock(root, "a comparison"):
        for number, (about, variant) in enumerate(planned, 1):
            left = sum(to_do[number - 1 :]) * sum(taken) / max(1, len(taken))
            estimate = f", about {_duration(left)} left" if taken else ""
            logger.info("[%d of %d%s] %s", number, len(planned), estimate, variant.name)
            if to_do[number - 1]:
                begun = time.monotonic()
                scores = measure(variant, root, split, retrieval)
                taken.append(time.monotonic() - begun)
            else:
                scores = _kept(Run(root / variant.name), split)
            rows.append({**about, **scores["metrics"]})
            done = Comparison(pd.DataFrame(rows), metrics or task(scores["task"]).headline, key)
            if to_do[number - 1] or number == len(planned):
                done.write(root)
    return done


def _plan(
    make: Experiment | Callable[[Sequence[str]], Experiment],
    variants: dict[str, Sequence[str]],
    seeds: Sequence[int],
    curve: str | None,
    root: Path,
) -> list[tuple[dict[str, Any], Experiment]]:
    """Every run: the columns that say which it is, and its experiment."""
    if isinstance(make, Experiment):
        shared = make

        def make(settings: Sequence[str]) -> Experiment:
            return override(shared, settings)[0]

    key, values = axis_of("--curve", curve) if curve else ("", [""])
    planned = []
    for seed, value, (name, settings) in itertools.product(dict.fromkeys(seeds), values, variants.items()):
        at = {key: _number(key, value)} if curve else {}
        full = f"{name}+{_short(key, value)}" if curve else name
        asked = [*settings, *([f"{key}={value}"] if curve else []), f"seed={seed}", f"name={full}-seed{seed}"]
        experiment = make(asked)
        Run.of(experiment, root)  # refuses the folder of another one
        planned.append(({"variant": name, "seed": seed, **at}, experiment))
    return planned


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(1, minutes)} min"


def _number(key: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UserError(f"--curve {key}: expected numbers, found '{value}'; use --grid for other values") from None


def grid_table(runs: pd.DataFrame, metrics: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: of each variant mean and deviation over seeds, and the difference to the first, paired by seed.

    Args:
        runs: One row a variant and seed.
        metrics: Columns.
    """
    from rsml.evaluation.scalars import scale_of

    for metric in metrics:
        if metric not in runs:
            raise UserError(f"--metric {metric}: not measured{nearest(metric, runs.columns[2:])}")
    by_variant = {name: rows.set_index("seed") for name, rows in runs.groupby("variant", sort=False)}
    baseline = next(iter(by_variant))
    header = ["variant", "seeds"]
    for metric in metrics:
        header += [metric, f"vs {baseline}"]
    rows = []
    for name, own in by_variant.items():
        cells = [str(name), str(len(own))]
        for metric in metrics:
            scale = scale_of(metric)
            difference = (own[metric] - by_variant[baseline][metric]).dropna()
            cells += [_mean(scale * own[metric]), "" if name == baseline else _mean(scale * difference, sign=True)]
        rows.append(cells)
    return header, rows


def _mean(values: pd.Series[float], sign: bool = False) -> str:
    if values.empty:
        return "-"
    spread = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
    return f"{values.mean():{'+' if sign else ''}.2f}{spread}"
