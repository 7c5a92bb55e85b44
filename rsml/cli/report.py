"""Write the page of a run, or of several beside each other: one HTML file that needs no server and no network."""

from __future__ import annotations

import argparse

from rsml.cli.options import add


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What there is to say."""
    parser.epilog = "Training writes the page of its run at its end; this writes it again, or compares runs."
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders; the others are compared with the first")
    add(parser, "--root", "--out", help="(default: report.html in the first run's folder)")


def run(options: argparse.Namespace) -> int:
    """Writes the page."""
    from rsml.prediction.find_model import find_model
    from rsml.utils.quiet import start_tensorflow

    for folder in options.runs:
        find_model(folder)
    start_tensorflow()
    from rsml.report.page import write_page

    print(write_page(options.runs, options.out, root=options.root))
    return 0
