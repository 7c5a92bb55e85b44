"""Compare methods fairly: a grid of variants with several seeds, one table. `python -m rsml.comparison.grid --help`"""

from __future__ import annotations

import argparse
import itertools
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from rsml.config import Experiment

logger = logging.getLogger(__name__)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m rsml.comparison.grid",
        description="Train every variant of one experiment with every seed, and write one table: mean, deviation, "
        "and the difference to the first variant, paired by seed. Interrupted, the same command goes on.",
        epilog="example: python -m rsml.comparison.grid --name heads --seeds 0 1 2 "
        "--variant plain methods=plain --grid methods.signa.heads=1,2,4,6,8",
    )
    parser.add_argument(
        "--config", default="configs/scenes.py", help="the experiment that all variants share (default: %(default)s)"
    )
    parser.add_argument(
        "--arg",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="argument of a config that takes some",
    )
    parser.add_argument(
        "--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help="a setting that all variants share"
    )
    parser.add_argument(
        "--variant",
        action="append",
        nargs="+",
        default=[],
        metavar=("NAME", "KEY=VALUE"),
        help="a variant and the settings that make it; the first one is the baseline",
    )
    parser.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="KEY=VALUE,VALUE,...",
        help="further variants: one for every combination of the values of all --grid options",
    )
    parser.add_argument(
        "--curve",
        metavar="KEY=VALUE,VALUE,...",
        help="train every variant at each value of a numeric setting, compare at equal values, and draw curve.png: "
        "the first metric against the value, a line a variant (e.g. data.train_fraction=0.01,0.05,0.2,1)",
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0, 1, 2], help="seeds of every variant (default: 0 1 2)"
    )
    parser.add_argument("--name", required=True, help="name of the comparison: runs land in checkpoint/<name>/")
    parser.add_argument("--metrics", nargs="+", help="columns of the table (default: the task's headline metrics)")
    parser.add_argument(
        "--part", default="test", choices=["valid", "test"], help="part that is compared (default: %(default)s)"
    )
    parser.add_argument(
        "--retrieval",
        action="store_true",
        help="measure retrieval and the nearest neighbours' votes too: metrics map@5, map@10 ..., knn_samples_f1",
    )
    return parser.parse_args(arguments)


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
    from rsml.utils.errors import UserError

    key, separator, values = axis.partition("=")
    if not separator or not values:
        raise UserError(f"{option} {axis}: expected key=value,value,..., e.g. methods.signa.heads=1,2,4")
    return key, values.split(",")


def _short(key: str, value: str) -> str:
    """A setting as part of a run's name: of a path its last part, of other signs dashes."""
    value = value.rstrip("/").rpartition("/")[2]
    return f"{key.rpartition('.')[2]}={re.sub('[^A-Za-z0-9._+=-]+', '-', value)}"


def compare(
    experiment: Experiment,
    variants: dict[str, Sequence[str]],
    seeds: Sequence[int],
    *,
    root: Path,
    metrics: Sequence[str] | None = None,
    part: str = "test",
    retrieval: bool = False,
    curve: str | None = None,
) -> pd.DataFrame:
    """Trains what is not trained yet and returns one row a variant and seed; writes runs.csv and table.md into `root`.

    With a curve every variant has a row a value, table.md a table a value, and curve.png shows the first metric.

    Args:
        experiment: What all variants share.
        variants: Settings by name; the first is the baseline.
        seeds: Seeds of every variant.
        root: Folder of the comparison's runs.
        metrics: Columns of the table; None takes the task's headline metrics.
        part: "test" or "valid".
        retrieval: Measure each run's retrieval of its training part by its test part too.
        curve: `key=value,value,...`: train every variant at each of the values.
    """
    import keras
    import pandas as pd

    from rsml.config import override
    from rsml.tasks import task
    from rsml.training.loop import train
    from rsml.utils.files import replacing

    # Every variant is checked before the first is trained: a typing fault must not cost a night.
    key, values = axis_of("--curve", curve) if curve else ("", [""])
    planned = []
    for seed, value, (name, settings) in itertools.product(seeds, values, variants.items()):
        at = {key: _number(key, value)} if curve else {}
        full = f"{name}+{_short(key, value)}" if curve else name
        asked = [*settings, *([f"{key}={value}"] if curve else []), f"seed={seed}", f"name={full}-seed{seed}"]
        planned.append(({"variant": name, "seed": seed, **at}, override(experiment, asked)[0]))
    rows = []
    for number, (about, variant) in enumerate(planned, 1):
        logger.info("[%d of %d] %s", number, len(planned), variant.name)
        run = train(variant, root=root)
        rows.append({**about, **run.metrics[part]})
        if retrieval:
            from rsml.retrieval.jobs import measure_run

            rows[-1] |= measure_run(run)
        table = pd.DataFrame(rows)
        with replacing(root / "runs.csv") as beside:
            table.to_csv(beside, index=False)
        _write(root, table, metrics or task(run.evaluation[part]["task"]).headline, key)
        keras.utils.clear_session()
    return table


def _number(key: str, value: str) -> float:
    from rsml.utils.errors import UserError

    try:
        return float(value)
    except ValueError:
        raise UserError(f"--curve {key}: expected numbers, found '{value}'; use --grid for other values") from None


def _write(root: Path, table: pd.DataFrame, metrics: Sequence[str], key: str) -> None:
    """Writes the table, and with a key a table for each of its values and the curve."""
    from rsml.utils.files import write_text

    if not key:
        write_text(root / "table.md", markdown(table, metrics))
        return
    by_value = [
        f"{key} = {value:g}\n\n{markdown(rows.drop(columns=key), metrics)}" for value, rows in table.groupby(key)
    ]
    write_text(root / "table.md", "\n".join(by_value))
    from rsml.figures import charts as figures

    figures.save(figures.score_curve(table, key, metrics[0]), root / "curve.png")


def markdown(runs: pd.DataFrame, metrics: Sequence[str]) -> str:
    """One row a variant: mean and deviation over seeds, and the difference to the first variant, paired by seed."""
    from rsml.evaluation.scalars import scale_of
    from rsml.utils.errors import UserError
    from rsml.utils.settings import nearest

    for metric in metrics:
        if metric not in runs:
            raise UserError(f"--metrics {metric}: not measured{nearest(metric, runs.columns[2:])}")
    by_variant = {name: rows.set_index("seed") for name, rows in runs.groupby("variant", sort=False)}
    baseline = next(iter(by_variant))
    lines = [
        "| variant | seeds | " + " | ".join(f"{metric} | vs {baseline}" for metric in metrics) + " |",
        "|---" * (2 + 2 * len(metrics)) + "|",
    ]
    for name, rows in by_variant.items():
        cells = [name, str(len(rows))]
        for metric in metrics:
            scale = scale_of(metric)
            cells.append(_mean(scale * rows[metric]))
            difference = (rows[metric] - by_variant[baseline][metric]).dropna()
            cells.append("" if name == baseline else _mean(scale * difference, sign=True))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _mean(values: pd.Series, sign: bool = False) -> str:
    if values.empty:
        return "-"
    spread = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
    return f"{values.mean():{'+' if sign else ''}.2f}{spread}"


def main() -> int:
    """Runs the command line."""
    options = parse()
    from rsml.cli.faults import run

    return run(lambda: _compare(options))


def _compare(options: argparse.Namespace) -> int:
    from rsml.config import load_config, override
    from rsml.run import ROOT
    from rsml.utils.errors import UserError

    named = [*options.variant, *grid(options.grid)]
    variants = {name: settings for name, *settings in named}
    if len(variants) < len(named):
        raise UserError("--variant: two variants have one name; give each its own")
    if not variants:
        raise UserError("nothing to compare; give --variant NAME KEY=VALUE ... or --grid KEY=VALUE,VALUE,...")
    experiment, _ = override(load_config(options.config, options.arg), options.set)
    root = ROOT / options.name
    compare(
        experiment,
        variants,
        options.seeds,
        root=root,
        metrics=options.metrics,
        part=options.part,
        retrieval=options.retrieval,
        curve=options.curve,
    )
    print((root / "table.md").read_text(encoding="utf-8") + f"runs and table: {root}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
