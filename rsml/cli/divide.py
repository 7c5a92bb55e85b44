"""Divide a data set into train, valid and test: stratified, reproducible, equal images never on two sides."""

import argparse

from rsml.cli.options import SPLITS, add, out_folder, percent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What there is to say."""
    parser.epilog = "Without SOURCE and DEST, both and what else is set there are taken from configs/divide.py."
    parser.add_argument("source", nargs="?", metavar="SOURCE", help="a folder of images, or a label file beside them")
    parser.add_argument("dest", nargs="?", type=out_folder, metavar="DEST", help="a new folder for the division")
    add(parser, "--config", default=None, help="file that sets `division` (default: configs/divide.py, if no SOURCE)")
    add(parser, "--labels")
    add(parser, "--task", default=None)
    for part in SPLITS:
        default = {"train": 70, "valid": 10, "test": 20}[part]
        parser.add_argument(
            f"--{part}",
            metavar="PERCENT",
            type=percent,
            help=f"share of {part} (default: {default}, or 0 where another share is given)",
        )
    add(parser, "--seed", default=None, help="another seed, another division (default: 0)")
    parser.add_argument(
        "--how",
        choices=["copy", "link", "table"],
        help="copy the images, link to them, or write only the table that points at them (default: copy)",
    )
    parser.add_argument(
        "--png", action="store_true", default=None, help="write the copies as 8-bit RGB PNG, whatever the source has"
    )
    parser.add_argument(
        "--split-files",
        nargs="+",
        metavar="FILE",
        help="published files that say what is TRAIN, VALID and TEST (or TRAIN and TEST), instead of shares",
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        default=None,
        help="leave out images without labels and labels without an image",
    )
    parser.add_argument(
        "--groups",
        metavar="HOW",
        help="images that stay on one side, besides equal ones: column:NAME of the label file, pattern:REGEX on the "
        "path, numbers:N (runs of N neighbouring file numbers), found (same ground, or borders that go on)",
    )


def run(options: argparse.Namespace) -> None:
    """Divides, and prints how many images of each label are where."""
    from rsml.config_files import read_division
    from rsml.data.options import Division

    given = {key: getattr(options, key) for key in Division.model_fields}
    given = {key: value for key, value in given.items() if value is not None}
    config = options.config or ("divide" if options.source is None else None)
    division = read_division(config, given)
    out_folder(division.dest)
    from rsml.data.divide import divide

    print(divide(**division.arguments()))
