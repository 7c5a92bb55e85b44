"""Test whether one run does better than another on the same images, and set both beside each other label by label."""

import argparse
import json
import os
from pathlib import Path

from rsml.cli.options import SPLITS, add, out_folder, picked, whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What there is to say."""
    parser.epilog = "example: rsml test --a checkpoint/ice/ice-seed* --b checkpoint/ice/ce-seed* --metric accuracy"
    parser.add_argument("runs", nargs="*", metavar="RUN", help="two run folders: RUN_A RUN_B")
    for side, text in (("a", "runs of one method, one a seed"), ("b", "runs of the other, paired in this order")):
        parser.add_argument(f"--{side}", nargs="+", default=[], metavar="RUN", help=text)
    add(parser, "--metric")
    add(parser, "--split", choices=SPLITS, default="test")
    parser.add_argument("--resamples", type=whole(1, 100_000), default=2000, metavar="N", help="(default: %(default)s)")
    files = "per_label.csv and .md, per_label_gain.png, panel.jpg, feature_maps.png"
    add(
        parser,
        "--out",
        type=out_folder,
        metavar="FOLDER",
        help=f"where {files} go (default: test-A-B beside the first run)",
    )
    parser.add_argument("--show", action="store_true", help="print the table of labels too")
    parser.add_argument(
        "--no-figures", dest="figures", action="store_false", help="draw nothing, which needs neither images nor models"
    )
    add(parser, "--root", "--json", "--trust")


def run(options: argparse.Namespace) -> None:
    """Tests."""
    from rsml.comparison.beside import set_beside
    from rsml.comparison.paired import as_plain, compare_runs, tests_table
    from rsml.utils.errors import UserError
    from rsml.utils.quiet import start_tensorflow
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
        start_tensorflow()  # their scores will be predicted anew
    given = picked(options, "split", "root", "resamples", "trust")
    tests, side_a, side_b = compare_runs(a, b, metrics=options.metric, **given)
    beside = set_beside(side_a, side_b, **picked(options, "split", "root"))
    folder = Path(options.out) if options.out else beside.folder
    if options.as_json:
        print(json.dumps({**as_plain(tests, side_a, side_b), **beside.plain(), "folder": str(folder)}))
    else:
        print(tests_table(tests, side_a, side_b))
        if options.show:
            print(f"\n{beside.text()}")
    beside.write(folder)
    if options.figures:
        start_tensorflow()  # the maps of features
        beside.draw(folder, options.trust)
    if not options.as_json:
        print(f"\nlabels and pictures: {folder}")
