"""Write a trained model as SavedModel, TFLite and ONNX, each compared with Keras on real images."""

import argparse
import json
import sys
from dataclasses import asdict

from rsml.cli.options import add, batch, out_folder, positive
from rsml.utils.exit_codes import SOME_UNWRITTEN

CHOICES = ("savedmodel", "tflite", "tflite-float16", "tflite-int8", "onnx")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What there is to say."""
    parser.epilog = "A file that does not give the same answers is not kept."
    add(parser, "model")
    parser.add_argument(
        "--formats",
        nargs="+",
        default=["all"],
        choices=[*CHOICES, "all"],
        metavar="FORMAT",
        help=f"{', '.join(CHOICES)}, or all (default: all)",
    )
    add(
        parser,
        "--out",
        type=out_folder,
        metavar="FOLDER",
        help="(default: export/ in the run folder or beside the checkpoint)",
    )
    parser.add_argument(
        "--images",
        nargs="+",
        default=["64"],
        metavar="N or IMAGE",
        help="how many images of the run's test part to check on, or images, folders, globs of your own (default: 64)",
    )
    add(parser, "--root")
    parser.add_argument(
        "--fixed-batch",
        type=batch,
        metavar="N",
        help="fix the batch at N images, as some accelerators ask (default: any)",
    )
    parser.add_argument(
        "--calibration",
        type=positive,
        default=128,
        metavar="N",
        help="images that set the ranges of int8: training images of the run, or every other image given "
        "(default: %(default)s)",
    )
    add(parser, "--json", "--trust")


def run(options: argparse.Namespace) -> int:
    """Exports; 4 if a format failed."""
    from rsml.prediction.find_model import check_images, class_folders, find_model
    from rsml.run import Run
    from rsml.utils.errors import UserError
    from rsml.utils.packages import require
    from rsml.utils.quiet import start_tensorflow
    from rsml.utils.settings import MOST

    formats = list(CHOICES) if "all" in options.formats else options.formats
    counted = len(options.images) == 1 and options.images[0].isdecimal()
    if counted and not 1 <= int(options.images[0][:12]) <= MOST:
        raise UserError(f"--images: expected 1 image or more, up to {MOST}, or images by name")
    if not counted:
        check_images(options.images)
    file, _ = find_model(options.model)
    out_folder(str(options.out or Run(file.parent).files.export))
    if options.formats == ["onnx"]:
        require("tf2onnx", "onnx", "onnxruntime")
    start_tensorflow()
    from rsml.export.exporting import checks_table, export_model

    done = export_model(
        options.model,
        formats,
        out=options.out,
        images=int(options.images[0]) if counted else options.images,
        root=options.root,
        batch=options.fixed_batch,
        calibration=options.calibration,
        trust=options.trust,
        unnamed=None if counted else class_folders(options.images[0]),
    )
    if options.as_json:
        print(json.dumps([asdict(check) for check in done.checks]))
    else:
        print(f"{done.checked_on}\n\n{checks_table(done.checks, done.task)}")
    for name, fault in done.faults.items():
        print(f"error: {name}: {fault}", file=sys.stderr)
    if not options.as_json and len(done.checks) > 1:
        print(f"files, labels.txt and model.json: {done.folder}")
    return SOME_UNWRITTEN if done.faults else 0
