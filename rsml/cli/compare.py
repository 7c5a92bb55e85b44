"""Train every variant of an experiment with every seed, and write one table of differences paired by seed."""

import argparse

from rsml.cli.options import RUNS_FOLDER, add, key_value, out_folder, seed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What there is to say."""
    parser.epilog = (
        "Interrupted, the same command goes on. example: rsml compare --name heads --seeds 0 1 2 "
        "--variant plain methods=plain --grid methods.signa.heads=1,2,4,6,8"
    )
    add(parser, "--config", "--set", help="a setting that all variants share")
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
        type=key_value,
        default=[],
        metavar="KEY=VALUE,VALUE,...",
        help="further variants: one for every combination of the values of all --grid options",
    )
    parser.add_argument(
        "--curve",
        type=key_value,
        metavar="KEY=VALUE,VALUE,...",
        help="train every variant at each value of a numeric setting, compare at equal values, and draw curve.png: "
        "the first metric against the value, a line a variant (e.g. data.train_fraction=0.01,0.05,0.2,1)",
    )
    parser.add_argument("--seeds", nargs="+", type=seed, default=[0, 1, 2], metavar="N", help="(default: 0 1 2)")
    add(parser, "--name", required=True, help="name of the comparison: runs land in checkpoint/<name>/")
    add(parser, "--out", **RUNS_FOLDER)
    add(parser, "--metric")
    add(parser, "--split", choices=["valid", "test"], default="test")
    parser.add_argument(
        "--retrieval",
        action="store_true",
        help="measure retrieval and the nearest neighbours' votes too: metrics map@5, map@10 ..., knn_samples_f1",
    )


def run(options: argparse.Namespace) -> None:
    """Compares."""
    from pathlib import Path

    from rsml.comparison.grid import compare, grid
    from rsml.config_files import read_experiment
    from rsml.utils.errors import UserError

    named = [*options.variant, *grid(options.grid)]
    variants = {name: settings for name, *settings in named}
    if len(variants) < len(named):
        raise UserError("--variant: two variants have one name; give each its own")
    if not variants:
        raise UserError("nothing to compare; give --variant NAME KEY=VALUE ... or --grid KEY=VALUE,VALUE,...")
    root = Path(options.out) / options.name
    out_folder(str(root))
    text = compare(
        lambda settings: read_experiment(options.config, [*options.set, *settings])[0],
        variants,
        options.seeds,
        root=root,
        metrics=options.metric,
        split=options.split,
        retrieval=options.retrieval,
        curve=options.curve,
    ).text()
    print(f"\n{text}\nruns and table: {root}")
