"""Of the files given to be labelled: which are scenes to be mapped, with which windows, and where the maps go."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path

from PIL import Image

from rsml.data.image_index import SUFFIXES as IMAGES
from rsml.mapping.job import ABOUT, BUILDING, JOB
from rsml.prediction.scene_model import SceneModel
from rsml.raster.scene import is_scene
from rsml.run import Run
from rsml.utils.errors import UserError

_COMPRESSED_SCENE = 2**18
_SAMPLED_IMAGES = 16


def without_maps(found: Iterable[str]) -> Iterator[str]:
    """Leaves out what an earlier map wrote into a folder that is searched."""
    for folder, files in groupby(found, os.path.dirname):
        if not any(os.path.isfile(os.path.join(folder, mark)) for mark in (ABOUT, os.path.join(BUILDING, JOB))):
            yield from files


def without_scenes(found: Iterable[str], window: tuple[int, int], scene: Callable[[str], object]) -> Iterator[str]:
    """Yields the files that are images, and hands those that are large georeferenced rasters to `scene`."""
    for path in found:
        if _may_be_scene(path) and is_scene(path, window):
            scene(path)
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


def map_folders(scenes: list[str], out: str | None) -> list[Path]:
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
