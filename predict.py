"""Predict with a run: python predict.py checkpoint/<name> IMAGES"""

import argparse
import sys


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Label images with a trained model, or measure it on labelled data (or its run's test part).",
        epilog="Exit code 0: all is well; 2: bad input; 3: some images, scenes or parts of scenes could not be "
        "read, all others were predicted.",
    )
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="RUN_OR_CHECKPOINT | IMAGE",
        help="first, optionally, a run folder or a .keras / .h5 file (default: the newest run); "
        "then images, folders, globs, @list.txt, or - for a list on stdin",
    )
    parser.add_argument("--data", metavar="SOURCE", help="labelled data to measure on: a folder or a CSV file")
    parser.add_argument("--label-file", metavar="FILE", help="label file of --data, where it is not in its usual place")
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
        help="where scores and decisions go (default: predictions.csv here, or in the run folder); of maps, a folder",
    )
    parser.add_argument(
        "--json",
        dest="as_json",
        action="store_true",
        help="print JSON instead of tables: one line an image, or one object of metrics",
    )
    parser.add_argument(
        "--plain", action="store_true", help="print 'Image 1 = beach' for each image, in order; before the tables"
    )
    parser.add_argument("--batch-size", type=int, default=32, help="images a step (default: %(default)s)")
    parser.add_argument("--trust", action="store_true", help="let a model file run the code it carries")
    maps = parser.add_argument_group(
        "maps (docs/rasters.md)",
        "A large georeferenced raster is mapped: a window slides over it, and the labels of all windows become a "
        "raster of probabilities, polygons and a picture in the folder SCENE-labels, or --out. Killed, the same "
        "command goes on.",
    )
    which = maps.add_mutually_exclusive_group()
    which.add_argument("--map", dest="map_all", action="store_true", help="map every file named, whatever its size")
    which.add_argument("--whole", action="store_true", help="label every file named as one image, whatever its size")
    maps.add_argument(
        "--window", type=int, metavar="PIXELS", help="side of a window (default: of the training images, if known)"
    )
    maps.add_argument(
        "--step", type=int, metavar="PIXELS", help="from window to window, and size of a cell (default: half a window)"
    )
    maps.add_argument(
        "--skip-nodata",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="leave out windows of which so much is missing (default: %(default)s; 1: only empty ones)",
    )
    maps.add_argument("--nodata", type=float, metavar="VALUE", help="of missing pixels, where the file does not say")
    maps.add_argument("--bands", metavar="N,N,N", help="bands of the scenes, counted from 1, in the model's order")
    maps.add_argument("--value-range", metavar="LOW,HIGH", help="values of the scenes that become 0 and 255")
    maps.add_argument("--fresh", action="store_true", help="map again what is mapped or begun")
    other = parser.add_argument_group("models that rsml did not train (docs/checkpoints.md)")
    other.add_argument(
        "--labels",
        metavar="NAMES",
        help="names of the model's classes in its order: a,b,c, a text, CSV or JSON file, or the folder of class "
        "folders that it learned from",
    )
    other.add_argument(
        "--task", choices=["single-label", "multi-label"], help="where its last layer has no softmax or sigmoid"
    )
    other.add_argument("--preprocess", metavar="MODE", help="how it wants its pixels, where that is not in the file")
    other.add_argument(
        "--image-size", type=_sides, metavar="N or HxW", help="image size, where it takes images of any size"
    )
    other.add_argument(
        "--save", metavar="FILE", help="write it as an rsml model (.keras, .h5), which needs none of these options"
    )
    return parser.parse_args(arguments)


def _sides(text: str) -> tuple[int, int]:
    sides = [int(side) for side in text.lower().split("x")]
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise ValueError
    return sides[0], sides[-1]


_sides.__name__ = "image size"  # what argparse calls it


def main() -> int:
    """Runs the command line."""
    options = parse()
    from rsml.cli.faults import run

    return run(lambda: _predict(options), log=sys.stderr)


def _predict(options: argparse.Namespace) -> int:
    from rsml.prediction.scene_model import scene_model as prediction
    from rsml.utils.errors import UserError

    given = vars(options)
    source, images = prediction.split_inputs(given.pop("inputs"))
    told = {key: given.pop(key) for key in ("labels", "task", "preprocess", "image_size")}
    if told["labels"] is not None:
        from rsml.data.label_names import read_label_names

        told["labels"] = read_label_names(told["labels"])
    if images and options.data:
        raise UserError(f"{images[0]}: images and --data are two different jobs; give one of them")
    if options.plain and options.as_json:
        raise UserError("--plain and --json are two ways of printing; give one of them")
    if options.save and (images or options.data):
        raise UserError(f"--save {options.save}: saving is a job of its own; give no images and no --data with it")
    job = prediction.save_model if options.save else prediction.measure_split
    if images:
        from rsml.mapping.command import label_or_map as job
    return job(source, images=images, told=told, **given)


if __name__ == "__main__":
    sys.exit(main())
