"""Verify the files of a run, an index or a division, and say what can be repaired."""

from __future__ import annotations

import argparse

LOG = "stdout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What there is to say."""
    parser.epilog = "Exit code 0: all is whole; 2: something is damaged. Nothing is changed."
    parser.add_argument("folders", nargs="+", metavar="RUN | INDEX | DIVISION", help="a folder that rsml wrote")


def run(options: argparse.Namespace) -> int:
    """Verifies."""
    from rsml.verify import verify

    damaged = 0
    for folder in options.folders:
        kind, found = verify(folder)
        damaged += len(found)
        for finding in found:
            print(finding.text())
        print(f"{folder}: {kind}, {'whole' if not found else f'{len(found)} faults'}")
    return 2 if damaged else 0
