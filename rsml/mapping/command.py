"""`predict.py` for files that may be scenes to be mapped or images to be labelled: which is which, and both jobs."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from PIL import Image

from rsml.data.find_images import find_images
from rsml.data.image_index import SUFFIXES as IMAGES
from rsml.mapping.job import ABOUT, BUILDING, JOB, MapOptions
from rsml.mapping.mapping import map_scenes
from rsml.prediction.scene_model import SOME_IMAGES_BAD, SceneModel, label_images, open_model
from rsml.raster.opening import SUFFIXES as RASTERS
from rsml.raster.scene import is_scene
from rsml.run import Run
from rsml.utils.errors import UserError

logger = logging.getLogger(__name__)

_COMPRESSED_SCENE = 2**18
_SAMPLED_IMAGES = 16


def label_or_map(
    source: str | None,
    *,
    images: Sequence[str],
    out: str | None,
    as_json: bool,
    plain: bool = False,
    batch_size: int,
    trust: bool,
    told: dict[str, Any] | None = None,
    map_all: bool,
    whole: bool,
    window: int | None,
    step: int | None,
    skip_nodata: float,
    nodata: float | None,
    bands: str | None,
    value_range: str | None,
    fresh: bool,
    **_: Any,
) -> int:
    """Labels images and maps scenes; returns 3 if some images or parts of scenes could not be read."""
    model, run = open_model(source, trust, **(told or {}))
    size, reason = ((window, window), "--window") if window is not None else native_window(model, run)
    options = MapOptions(
        window=size,
        step=(step, step) if step is not None else None,
        batch_size=batch_size,
        skip_nodata=skip_nodata,
        nodata=nodata,
        bands=_numbers("--bands", bands, int),
        value_range=_numbers("--value-range", value_range, float, 2),
        fresh=fresh,
    )
    scenes: list[str] = []
    found = _not_maps(find_images(images, RASTERS if map_all else IMAGES))
    if map_all:
        scenes += found
    paths = iter(()) if map_all else found if whole else _images(found, scenes, size)
    first = next(paths, None)
    code = 0
    if first is not None:
        paths = chain([first], paths)
        code = label_images(model, paths, out=out, as_json=as_json, plain=plain, batch_size=batch_size)
        out = None  # it was the file of the images
    if not scenes:
        if window or step or bands or value_range:
            logger.info("no file named is a large georeferenced raster, so none was mapped; --map maps them all")
        return code
    logger.info(
        "windows of %d x %d pixels (%s), a step of %d; other sizes with --window and --step", size[1], size[0], reason,
        options.steps[1],
    )  # fmt: skip
    return max(code, _map(model, scenes, out, options))


def _not_maps(found: Iterable[str]) -> Iterator[str]:
    """Leaves out what an earlier map wrote into a folder that is searched."""
    for folder, files in groupby(found, os.path.dirname):
        if not any(os.path.isfile(os.path.join(folder, mark)) for mark in (ABOUT, os.path.join(BUILDING, JOB))):
            yield from files


def _images(found: Iterable[str], scenes: list[str], window: tuple[int, int]) -> Iterator[str]:
    """The files that are no scenes; those that are go to the list."""
    for path in found:
        if _may_be_scene(path) and is_scene(path, window):
            if not scenes:
                logger.info("%s is a large georeferenced raster and is mapped; --whole labels it as one image", path)
            scenes.append(path)
        else:
            yield path


def _may_be_scene(path: str) -> bool:
    """Spares opening every small image."""
    suffix = Path(path).suffix.lower()
    if suffix in IMAGES and suffix not in (".tif", ".tiff"):
        return False
    try:
        return suffix not in IMAGES or os.path.getsize(path) > _COMPRESSED_SCENE
    except OSError:
        return False


def native_window(model: SceneModel, run: Run | None) -> tuple[tuple[int, int], str]:
    """(height, width) of the images of the training before they were resized, else of the model's input; and which."""
    if run is not None:
        sizes: Counter[tuple[int, int]] = Counter()
        try:
            files = run.read_samples().part("train").files
            for file in files[:: max(1, len(files) // _SAMPLED_IMAGES)][:_SAMPLED_IMAGES]:
                with Image.open(file) as image:
                    sizes[image.size[::-1]] += 1
        except (OSError, UserError):
            sizes.clear()  # the images are elsewhere now, or of a format that only GDAL knows
        if sizes:
            return sizes.most_common(1)[0][0], "the size of the training images"
    return tuple(model.reading["image_size"]), "the model's input"


def _map(model: SceneModel, scenes: list[str], out: str | None, options: MapOptions) -> int:
    made, bad = map_scenes(model, scenes, _folders(scenes, out), options)
    for one in made:
        windows = one.about["windows"]
        for row, column in one.about["unreadable_at"][:10]:
            print(f"skipped: {one.about['scene']}: damaged at row {row}, column {column}", file=sys.stderr)
        print(
            f"{one.about['scene']}: {windows['labelled']} windows labelled, {windows['nodata']} without enough pixels, "
            f"{windows['unreadable']} damaged; map in {one.folder}/",
            file=sys.stderr,
        )
    for fault in bad:
        print(f"skipped: {fault}", file=sys.stderr)
    if bad and not made:
        raise UserError(f"none of {len(scenes)} scenes can be mapped, the first: {bad[0]}")
    return SOME_IMAGES_BAD if bad or any(one.unreadable for one in made) else 0


def _folders(scenes: list[str], out: str | None) -> list[Path]:
    """One scene's map goes to `--out`, those of several into folders in it, named after the scenes."""
    if out is not None and len(scenes) == 1:
        return [Path(out)]
    named = Counter(Path(scene).stem for scene in scenes)
    names = [
        Path(scene).stem if named[Path(scene).stem] == 1 else f"{Path(scene).resolve().parent.name}-{Path(scene).stem}"
        for scene in scenes
    ]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        same = [scene for scene, name in zip(scenes, names, strict=True) if name == twice]
        raise UserError(f"{same[0]} and {same[1]}: their maps would go to one folder; map them one by one, with --out")
    return [Path(out, name) if out is not None else Path(f"{name}-labels") for name in names]


def _numbers(option: str, text: str | None, kind: type, count: int | None = None) -> tuple | None:
    if text is None:
        return None
    try:
        numbers = tuple(kind(part) for part in re.split(r"[,\s]+", text.strip()))
    except ValueError:
        numbers = ()
    if not numbers or (count is not None and len(numbers) != count):
        expected = "low,high, e.g. 0,10000" if count else "numbers counted from 1, e.g. 4,3,2"
        raise UserError(f"{option} is {text!r}; expected {expected}")
    return numbers
