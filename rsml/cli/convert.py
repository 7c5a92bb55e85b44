"""Write a classifier of another hand as an rsml model, which then knows what is given here."""

import argparse

from rsml.cli.options import add, out_file, picked, pixels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What there is to say."""
    parser.epilog = "example: rsml convert ice.h5 ice.keras --class-names data/UCMerced/train; see docs/checkpoints.md"
    parser.add_argument("file", metavar="FILE", help="a .keras or .h5 file that holds a whole model")
    parser.add_argument("out", type=out_file, metavar="OUT", help="the file to write: .keras or .h5")
    parser.add_argument(
        "--class-names",
        metavar="NAMES",
        help="names of its classes in its order: a,b,c, a text, CSV or JSON file, or the folder of class folders that "
        "it learned from",
    )
    add(parser, "--task", help="where its last layer has no softmax or sigmoid")
    parser.add_argument("--preprocess", metavar="MODE", help="how it wants its pixels, where that is not in the file")
    parser.add_argument(
        "--image-size", type=sides, metavar="N or HxW", help="image size, where it takes images of any size"
    )
    add(parser, "--trust")


def sides(text: str) -> tuple[int, int]:
    """An image size: `256`, or height and width, `256x320`."""
    try:
        found = [pixels(side) for side in text.lower().split("x")]
    except argparse.ArgumentTypeError:
        found = []
    if len(found) not in (1, 2):
        raise argparse.ArgumentTypeError(f"'{text}': expected a size in pixels, e.g. 224 or 224x320")
    return found[0], found[-1]


def run(options: argparse.Namespace) -> None:
    """Converts."""
    from rsml.prediction.find_model import check_file, check_model_name
    from rsml.utils.quiet import start_tensorflow

    check_file(options.file)
    check_model_name(options.out)
    from rsml.data.label_names import read_label_names

    names = None if options.class_names is None else read_label_names(options.class_names)
    start_tensorflow()
    from rsml.prediction.scene_model import SceneModel

    model = SceneModel.load(
        options.file, options.trust, labels=names, **picked(options, "task", "preprocess", "image_size")
    )
    model.save(options.out)
    print(f"{options.out}: {model.task}, {len(model.labels)} labels: {', '.join(model.labels)}")
