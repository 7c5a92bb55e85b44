"""Test whether one run does better than another on the same images, with intervals and probabilities."""

import argparse
import json
import os
from pathlib import Path

from rsml.cli.options import SPLITS, add, picked, whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What there is to say."""
    parser.epilog = "example: rsml test --a checkpoint/ice/ice-seed* --b checkpoint/ice/ce-seed* --metric accuracy"
    parser.add_argument("runs", nargs="*", metavar="RUN", help="two run folders: RUN_A RUN_B")
    for side, text in (("a", "runs of one method, one a seed"), ("b", "runs of the other, paired in this order")):
        parser.add_argument(f"--{side}", nargs="+", default=[], metavar="RUN", help=text)
    add(parser, "--metric")
    add(parser, "--split", choices=SPLITS, default="test")
    parser.add_argument("--resamples", type=whole(1, 100_000), default=2000, metavar="N", help="(default: %(default)s)")
    add(parser, "--root", "--json", "--trust")


def run(options: argparse.Namespace) -> None:
    """Tests."""
    from rsml.comparison.paired import as_plain, compare_runs, table
    from rsml.utils.errors import UserError
    from rsml.utils.text import counted

    a, b = options.a, options.b
    if options.runs and (a or b):
        raise UserError("give two runs, or --a RUN ... --b RUN ..., not both")
    if options.runs:
        if len(options.runs) != 2:
            given = counted(len(options.runs), "run")
            raise UserError(f"{given} given, expected two; with several seeds use --a and --b")
        a, b = options.runs[:1], options.runs[1:]
    kept = all(Path(run, "predictions.csv").is_file() for run in (*a, *b))
    if (options.split != "test" or not kept) and all(map(os.path.isdir, (*a, *b))):
        from rsml.utils.quiet import start_tensorflow

        start_tensorflow()  # their scores will be predicted anew
    given = picked(options, "split", "root", "resamples", "trust")
    found = compare_runs(a, b, metrics=options.metric, **given)
    print(json.dumps(as_plain(*found)) if options.as_json else table(*found))
