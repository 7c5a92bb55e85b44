"""Class folders: `<class>/<image>`, perhaps in train, valid and test folders that must fit together."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from rsml.data import catalog
from rsml.data.image_index import list_images
from rsml.data.readers.joining import catalog_spelling, compare_count, leave_out, no_images, split_folders
from rsml.data.readers.request import Reader, Request
from rsml.data.samples import Samples, check_label_names
from rsml.utils.errors import UserError

logger = logging.getLogger("rsml")

_DOCUMENTS = (".txt", ".md", ".pdf", ".csv", ".tsv", ".npy", ".json", ".xml", ".html", ".py")


def _read(request: Request) -> Samples:
    """Reads `<class>/<image>`, possibly inside one more folder, possibly divided into train, valid and test folders."""
    source, allow_missing = request.source, request.allow_missing
    paths = list_images(source)
    if not paths:
        raise UserError(no_images(source))
    splits, below = split_folders(paths)
    first = [path.partition("/")[0] if "/" in path else "" for path in below]
    loose = [path for path, folder in zip(paths, first, strict=True) if not folder]
    if len(loose) == len(paths):
        raise UserError(
            f"{source}: {len(paths)} images but neither class folders nor a label file; put the images in one folder a "
            "class, or give the labels with --labels (in Python: labels=)"
        )
    if request.task == "multi-label":
        raise UserError(
            f"{source}: class folders give one label an image; multi-label needs a label file: --labels "
            "(in Python: labels=)"
        )
    if loose:
        leave_out(
            f"{len(loose)} of {len(paths)} images under {source} lie outside the class folders",
            loose, source, allow_missing,
        )  # fmt: skip
    bare = _bare_folders(source, paths, below)
    if bare:
        what = f"{len(bare)} folders" if len(bare) > 1 else "a folder"
        leave_out(f"{what} beside the class folders of {source} without any image", bare, source, allow_missing)
    keep = [row for row, folder in enumerate(first) if folder]
    classes = np.array([first[row] for row in keep])
    names = tuple(sorted(set(classes.tolist())))
    check_label_names(names, source)
    if request.group is not None:
        raise UserError(f"{source}: class folders have no column to group by; group by a pattern of the file name")
    if len(names) < 2:
        raise UserError(f"{source}: all images lie in one class folder ({names[0]}); expected two classes or more")
    labels = (classes[:, None] == np.array(names)).astype(np.uint8)
    kept_splits = splits[keep]
    _compare_sides(source, {side: set(classes[kept_splits == side]) for side in set(kept_splits)}, allow_missing)
    known = catalog.recognise(names, "single-label")
    names, labels = catalog_spelling(names, labels, "single-label", source)
    scenes = np.array(names)[labels.argmax(axis=1)]
    samples = Samples(np.array(paths)[keep], labels, names, "single-label", source, scenes, kept_splits)
    compare_count(known, samples)
    return samples


def _bare_folders(source: Path, paths: Sequence[str], below: Sequence[str]) -> list[str]:
    """Returns the folders beside those of the classes and parts that hold no image; one of documents is meant so."""
    filled = {parent for path in paths for parent in map(str, PurePosixPath(path).parents)}
    prefixes = {path.removesuffix(rest) for path, rest in zip(paths, below, strict=True)}
    levels = {level for prefix in prefixes for level in (PurePosixPath(prefix), *PurePosixPath(prefix).parents)}
    bare = []
    for level in levels:
        with os.scandir(source / level) as entries:
            names = [entry.name for entry in entries if entry.is_dir() and entry.name != "__MACOSX"]
        bare += [path for name in names if name[0] != "." and (path := str(level / name)) not in filled]
    return sorted(path for path in bare if not _holds_documents(source / path))


def _holds_documents(folder: Path) -> bool:
    return any(name.lower().endswith(_DOCUMENTS) for _, _, files in os.walk(folder) for name in files)


def _compare_sides(source: Path, classes: dict[str, set[str]], allow_missing: bool) -> None:
    """Refuses parts whose class folders differ; only a test part may do with fewer classes."""
    trained = classes.get("train")
    differences = []
    if not trained:
        return
    for side in ("valid", "test"):
        there = classes.get(side, trained)
        if there - trained:
            differences.append(f"train lacks {', '.join(sorted(there - trained))} of {side}")
        if trained - there and side == "valid":
            differences.append(f"valid lacks {', '.join(sorted(trained - there))} of train")
        elif trained - there:
            logger.warning("%s: no image of %s is in test", source, ", ".join(sorted(trained - there)))
    if differences and not allow_missing:
        raise UserError(
            f"{source}: its parts have different class folders: {'; '.join(differences)}; give each part every class"
        )
    if differences:
        logger.warning("%s: its parts have different class folders: %s", source, "; ".join(differences))


CLASS_FOLDERS = Reader("class folders", lambda request: True, _read)
