"""Divide a data set into train, valid and test: python divide_dataset.py SOURCE DEST"""

import argparse
import sys


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Divide a data set into train, valid and test: stratified, reproducible, "
        "pixel-identical images never on two sides.",
        epilog="Exit code 0: divided, or divided so before; 2: bad input; 130: interrupted (run it again to finish).",
    )
    parser.add_argument("source", metavar="SOURCE", help="a folder of images, or a label file beside its images")
    parser.add_argument("dest", metavar="DEST", help="a new folder for the division")
    parser.add_argument("--labels", metavar="FILE", help="label file, where it is not in its usual place in SOURCE")
    parser.add_argument("--task", choices=["multi-label", "single-label"], help="default: what the files say")
    for name, default in (("train", 70), ("valid", 10), ("test", 20)):
        parser.add_argument(
            f"--{name}",
            metavar="PERCENT",
            type=float,
            help=f"share of {name} (default: {default}, or 0 where another share is given)",
        )
    parser.add_argument("--seed", type=int, default=0, help="another seed, another division (default: %(default)s)")
    parser.add_argument(
        "--how",
        choices=["copy", "link", "table"],
        default="copy",
        help="copy the images, link to them, or write only the table that points at them (default: %(default)s)",
    )
    parser.add_argument("--png", action="store_true", help="write the copies as 8-bit RGB PNG, whatever the source has")
    parser.add_argument(
        "--split-files",
        nargs="+",
        metavar="FILE",
        help="published files that say what is TRAIN, VALID and TEST (or TRAIN and TEST), instead of shares",
    )
    parser.add_argument(
        "--allow-missing", action="store_true", help="leave out images without labels and labels without an image"
    )
    return parser.parse_args(arguments)


def main() -> int:
    """Runs the command line."""
    options = parse()
    from rsml.cli.faults import run

    return run(lambda: _divide(options))


def _divide(options: argparse.Namespace) -> int:
    import logging

    from rsml.data.divide import divide

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    shares = {name: getattr(options, name) for name in ("train", "valid", "test")}
    shares = {name: share for name, share in shares.items() if share is not None}
    table = divide(
        options.source,
        options.dest,
        labels=options.labels,
        task=options.task,
        shares=shares or None,
        seed=options.seed,
        how=options.how,
        png=options.png,
        split_files=options.split_files,
        allow_missing=options.allow_missing,
    )
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
