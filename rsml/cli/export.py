"""Export a run and check every file: python -m rsml.export RUN --formats onnx tflite-int8"""

import argparse
import sys

CHOICES = ("savedmodel", "tflite", "tflite-float16", "tflite-int8", "onnx")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m rsml.export",
        description="Write a trained model as SavedModel, TFLite and ONNX, compare each with Keras on real images, "
        "print sizes, differences and times. A file that does not give the same answers is not kept.",
        epilog="Exit code 0: all formats written; 2: bad input; 4: a format failed, the others were written.",
    )
    parser.add_argument("model", metavar="RUN_OR_CHECKPOINT", help="a run folder, or a .keras / .h5 file")
    parser.add_argument(
        "--formats",
        nargs="+",
        default=["all"],
        choices=[*CHOICES, "all"],
        metavar="FORMAT",
        help=f"{', '.join(CHOICES)}, or all (default: all)",
    )
    parser.add_argument("--out", metavar="FOLDER", help="(default: export/ in the run folder or beside the checkpoint)")
    parser.add_argument(
        "--images",
        nargs="+",
        default=["64"],
        metavar="N or IMAGE",
        help="how many images of the run's test part to check on, or images, folders, globs of your own (default: 64)",
    )
    parser.add_argument("--root", metavar="FOLDER", help="where the images of the run lie now, if they were moved")
    parser.add_argument(
        "--batch", type=int, metavar="N", help="fix the batch at N images, as some accelerators ask (default: any)"
    )
    parser.add_argument(
        "--calibration",
        type=int,
        default=128,
        metavar="N",
        help="images that set the ranges of int8: training images of the run, or every other image given "
        "(default: %(default)s)",
    )
    parser.add_argument("--json", dest="as_json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--trust", action="store_true", help="let a model file run the code it carries")
    other = parser.add_argument_group("models that rsml did not train, as for predict.py")
    other.add_argument("--labels", metavar="NAMES", help="names of the model's classes: a,b,c, a file, or a folder")
    other.add_argument(
        "--task", choices=["single-label", "multi-label"], help="where its last layer has no softmax or sigmoid"
    )
    other.add_argument("--preprocess", metavar="MODE", help="how it wants its pixels, where that is not in the file")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    options = vars(parse(arguments))
    if "all" in options["formats"]:
        options["formats"] = list(CHOICES)
    from rsml.cli.faults import run

    return run(lambda: _start(options), log=sys.stderr)


def _start(options: dict) -> int:
    from rsml.data.label_names import read_label_names
    from rsml.export.exporting import export_command

    if options["labels"] is not None:
        options["labels"] = read_label_names(options["labels"])
    return export_command(**options)


if __name__ == "__main__":
    sys.exit(main())
