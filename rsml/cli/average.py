"""Join several runs into one model: the mean of their weights or of their answers, whichever validates better."""

import argparse

from rsml.cli.options import RUNS_FOLDER, add

LOG = "stdout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What there is to say."""
    parser.epilog = "example: rsml average checkpoint/strong-ucm-seed* --name strong-ucm"
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders of the same division, one a seed")
    add(parser, "--name", required=True, help="name of the new run folder")
    parser.add_argument(
        "--how",
        choices=("best", "soup", "ensemble"),
        default="best",
        help="mean of the weights (as quick as one run), mean of the answers, or the better one (default: %(default)s)",
    )
    add(parser, "--out", **RUNS_FOLDER)
    add(parser, "--fresh", help="write over a run of that name")


def run(options: argparse.Namespace) -> None:
    """Averages, and prints the table of the test part."""
    from rsml.run import Run

    for folder in options.runs:
        Run.open(folder)
    from rsml.utils.quiet import start_tensorflow

    start_tensorflow()
    from rsml.comparison.average import average_runs
    from rsml.training.finish import report

    made = average_runs(options.runs, options.name, how=options.how, root=options.out, fresh=options.fresh)
    print(report(made))
