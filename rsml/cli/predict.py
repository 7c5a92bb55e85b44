"""Label images with a trained model, map large rasters, or measure the model on labelled data (or its test part)."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import chain
from typing import TYPE_CHECKING, Any

from rsml.cli.options import add, numbers, out_file, out_place, picked, pixels, real
from rsml.tasks import task
from rsml.utils.exit_codes import SOME_BAD

if TYPE_CHECKING:
    import numpy as np

    from rsml.mapping.job import MapOptions
    from rsml.prediction.scene_model import SceneModel
    from rsml.run import Run

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What there is to say."""
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="RUN_OR_CHECKPOINT | IMAGE",
        help="first, optionally, a run folder or a .keras / .h5 file (default: the newest run); "
        "then images, folders, globs, @list.txt, or - for a list on stdin",
    )
    add(parser, "--data", help="labelled data to measure on: a folder or a CSV file")
    add(parser, "--labels", "--root")
    add(parser, "--split", help="part to measure on (default: test, or valid where there is no test part)")
    add(
        parser,
        "--out",
        type=out_place,
        help="where scores and decisions go (default: predictions.csv here, or in the run folder); of maps, a folder",
    )
    add(parser, "--json", help="print JSON instead of tables: one line an image, or one object of metrics")
    parser.add_argument(
        "--views",
        type=int,
        choices=(1, 2, 4, 8),
        help="score the mean over so many flips and quarter turns of each image (default: as its run was measured)",
    )
    parser.add_argument(
        "--plain", action="store_true", help="print 'Image 1 = beach' for each image, in order; before the tables"
    )
    parser.add_argument(
        "--unsure", metavar="FILE", help="list images on which the model's promise cannot be kept (docs/certainty.md)"
    )
    add(parser, "--batch-size", "--trust")
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
        "--window", type=pixels, metavar="PIXELS", help="side of a window (default: of the training images, if known)"
    )
    maps.add_argument(
        "--step",
        type=pixels,
        metavar="PIXELS",
        help="from window to window, and size of a cell (default: half a window)",
    )
    maps.add_argument(
        "--skip-nodata",
        type=real(1e-9, 1),
        default=0.5,
        metavar="SHARE",
        help="leave out windows of which so much is missing (default: %(default)s; 1: only empty ones)",
    )
    add(maps, "--nodata", "--bands", help="bands of the scenes, counted from 1, in the model's order")
    maps.add_argument(
        "--value-range", type=numbers, metavar="LOW,HIGH", help="values of the scenes that become 0 and 255"
    )
    add(maps, "--fresh", help="map again what is mapped or begun")


def run(options: argparse.Namespace) -> int:
    """Finds out what there is to do, and does it."""
    from rsml.data import image_index
    from rsml.prediction.find_model import check_images, class_folders, find_model, find_ready_data, split_inputs
    from rsml.utils.errors import UserError
    from rsml.utils.quiet import start_tensorflow

    source, images = split_inputs(options.inputs)
    if images and options.data:
        raise UserError(f"{images[0]}: images and --data are two different jobs; give one of them")
    if options.plain and options.as_json:
        raise UserError("--plain and --json are two ways of printing; give one of them")
    low_high = options.value_range
    if low_high is not None and not (len(low_high) == 2 and low_high[0] < low_high[1]):
        given = ",".join(f"{value:g}" for value in low_high[:3])
        raise UserError(f"--value-range: expected LOW,HIGH with LOW below HIGH, found {given}")
    if options.window and options.step and options.step > options.window:
        raise UserError(f"--step is {options.step}; expected {options.window} or less, the window: more leaves gaps")
    # All of this is known before TensorFlow takes its seconds.
    suffixes: tuple[str, ...] = image_index.SUFFIXES
    if options.map_all:
        from rsml.raster import opening

        suffixes = opening.SUFFIXES
    check_images(images, suffixes)
    file, of = find_model(source)
    if not images and of is None:
        options.data = options.data or find_ready_data()
    names = class_folders(options.data) if options.data else None
    if options.out is None and not options.map_all:
        out_file(str(of.files.predictions) if of and not images and not options.data else "predictions.csv")
    logger.info("model: %s", of.folder if of else file)
    start_tensorflow()
    from rsml.prediction.scene_model import open_model

    model, of = open_model(source, options.trust, names)
    if options.views:
        model = replace(model, views=options.views)
    if not images:
        return _measure(options, model, of)
    return _label_or_map(options, model, of, images, suffixes)


def _measure(options: argparse.Namespace, model: SceneModel, run: Run | None) -> int:
    from rsml.evaluation.report import headline_table, per_label_table
    from rsml.prediction.labelling import measure_split

    done = measure_split(model, run, **picked(options, "data", "labels", "root", "split", "out", "batch_size"))
    if options.as_json:
        print(json.dumps(done.summary))
        return 0
    if options.plain:
        show = _plain(model)
        for path, row in zip(done.samples.paths, done.scores, strict=True):
            show(path, row)
    print(f"{done.split} part{f' of {options.data}' if options.data else ''}:")
    print(headline_table(done.summary))
    print(per_label_table(done.summary))
    print(f"scores and decisions: {done.table}")
    return 0


def _label_or_map(
    options: argparse.Namespace, model: SceneModel, run: Run | None, images: list[str], suffixes: tuple[str, ...]
) -> int:
    from rsml.data.find_images import find_images
    from rsml.prediction.find_model import without_own_pictures

    found: Iterator[str] = without_own_pictures(find_images(images, suffixes), images)
    # Without rasterio there are images only.
    if options.whole or not (options.map_all or find_spec("rasterio")):
        return _label(options, model, found)
    from rsml.mapping.job import MapOptions
    from rsml.mapping.scenes import native_window, without_maps, without_scenes

    window, reason = ((options.window, options.window), "--window") if options.window else native_window(model, run)
    chosen = MapOptions(
        window=window,
        step=(options.step, options.step) if options.step else None,
        batch_size=options.batch_size,
        skip_nodata=options.skip_nodata,
        nodata=options.nodata,
        bands=options.bands,
        value_range=options.value_range,
        fresh=options.fresh,
    )
    scenes: list[str] = []
    found = without_maps(found)
    code = 0
    if options.map_all:
        scenes += found
    else:

        def is_scene(path: str) -> None:
            if not scenes:
                logger.info("%s is a large georeferenced raster and is mapped; --whole labels it as one image", path)
            scenes.append(path)

        paths = without_scenes(found, window, is_scene)
        first = next(paths, None)
        if first is not None:
            code = _label(options, model, chain([first], paths))
            options.out = None  # it was the file of the images
    if scenes:
        logger.info(
            "windows of %d x %d pixels (%s), a step of %d; other sizes with --window and --step",
            window[1], window[0], reason, chosen.steps[1],
        )  # fmt: skip
        return max(code, _map(model, scenes, options.out, chosen))
    if options.window or options.step or options.bands or options.value_range:
        logger.info("no file named is a large georeferenced raster, so none was mapped; --map maps them all")
    return code


def _label(options: argparse.Namespace, model: SceneModel, paths: Iterator[str]) -> int:
    from rsml.prediction.labelling import label_images
    from rsml.utils.text import counted

    show = _json(model) if options.as_json else _plain(model) if options.plain else _line(model)
    out = options.out or "predictions.csv"
    if options.unsure:
        from rsml.prediction.unsure import UnsureImages

        with UnsureImages(model, options.unsure, show) as unsure:
            done = label_images(model, paths, out=out, batch_size=options.batch_size, show=unsure)
        print(f"unsure of {counted(unsure.count, 'image')}: {options.unsure}", file=sys.stderr)
    else:
        done = label_images(model, paths, out=out, batch_size=options.batch_size, show=show)
    _skipped(done.bad)
    rate = f"{done.images / max(done.seconds, 1e-9):.0f}/s"
    print(
        f"{counted(done.images, 'image')} labelled ({rate}), {len(done.bad)} skipped; scores in {out}", file=sys.stderr
    )
    return SOME_BAD if done.bad else 0


def _map(model: SceneModel, scenes: list[str], out: str | None, options: MapOptions) -> int:
    from rsml.mapping.mapping import map_scenes
    from rsml.mapping.scenes import map_folders
    from rsml.utils.errors import UserError

    made, bad = map_scenes(model, scenes, map_folders(scenes, out), options)
    for one in made:
        windows = one.about["windows"]
        _skipped(
            f"{one.about['scene']}: damaged at row {row}, column {column}"
            for row, column in one.about["unreadable_at"][:10]
        )
        print(
            f"{one.about['scene']}: {windows['labelled']} windows labelled, {windows['nodata']} without enough pixels, "
            f"{windows['unreadable']} damaged; map in {one.folder}/",
            file=sys.stderr,
        )
    _skipped(bad)
    if bad and not made:
        raise UserError(f"none of {len(scenes)} scenes can be mapped, the first: {bad[0]}")
    return SOME_BAD if bad or any(one.unreadable for one in made) else 0


def _skipped(faults: Any) -> None:
    for fault in faults:
        print(f"skipped: {fault}", file=sys.stderr)


def _decided(model: SceneModel, scores: np.ndarray) -> list[str]:
    return [name for name, there in zip(model.labels, model.decide(scores), strict=True) if there]


def _line(model: SceneModel) -> Callable[[str, np.ndarray], None]:
    def show(path: str, scores: np.ndarray) -> None:
        # Of shares all that show are named, not the greatest alone.
        named = task(model.task).named(scores, model.thresholds)
        present = sorted((column for column, there in enumerate(named) if there), key=lambda column: -scores[column])
        print(f"{path}: " + (", ".join(f"{model.labels[c]} {scores[c]:.2f}" for c in present) or "(no label)"))

    return show


def _plain(model: SceneModel) -> Callable[[str, np.ndarray], None]:
    count = iter(range(1, sys.maxsize))

    def show(path: str, scores: np.ndarray) -> None:
        print(f"Image {next(count)} = {', '.join(_decided(model, scores)) or '(no label)'}")

    return show


def _json(model: SceneModel) -> Callable[[str, np.ndarray], None]:
    def show(path: str, scores: np.ndarray) -> None:
        by_name = {name: round(float(score), 6) for name, score in zip(model.labels, scores, strict=True)}
        print(json.dumps({"path": path, "labels": _decided(model, scores), "scores": by_name}))

    return show
