"""Predict with a run: python predict.py checkpoint/<name> IMAGES"""

import argparse
import sys


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Label images with a trained model, or measure it on labelled data (or its run's test part).",
        epilog="Exit code 0: all is well; 2: bad input; 3: some images could not be read, all others were predicted.",
    )
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="RUN_OR_CHECKPOINT | IMAGE",
        help="first, optionally, a run folder or a .keras / .h5 file (default: the newest run); "
        "then images, folders, globs, @list.txt, or - for a list on stdin",
    )
    parser.add_argument("--data", metavar="SOURCE", help="labelled data to measure on: a folder or a CSV file")
    parser.add_argument("--labels", metavar="FILE", help="label file of --data")
    parser.add_argument(
        "--root", metavar="FOLDER", help="where the images of the run's own data lie now, if they were moved"
    )
    parser.add_argument(
        "--split",
        choices=["train", "valid", "test", "all"],
        help="part to measure on (default: test, or valid where there is no test part)",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="where scores and decisions go (default: predictions.csv here, or in the run folder)",
    )
    parser.add_argument(
        "--json",
        dest="as_json",
        action="store_true",
        help="print JSON instead of tables: one line an image, or one object of metrics",
    )
    parser.add_argument("--batch-size", type=int, default=32, help="images a step (default: %(default)s)")
    parser.add_argument("--trust", action="store_true", help="let a model file run the code it carries")
    return parser.parse_args(arguments)


def main() -> int:
    """Runs the command line."""
    options = parse()
    from rsml.command import run

    return run(lambda: _predict(options))


def _predict(options: argparse.Namespace) -> int:
    from rsml import prediction

    source, images = prediction.split_inputs(options.inputs)
    if images and options.data:
        from rsml.errors import UserError

        raise UserError(f"{images[0]}: images and --data are two different jobs; give one of them")
    job = prediction.label_images if images else prediction.measure_split
    return job(source, images=images, **{key: value for key, value in vars(options).items() if key != "inputs"})


if __name__ == "__main__":
    sys.exit(main())
