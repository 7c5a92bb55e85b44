"""Joins the rows of a label file with the images on disk, and refuses what is left over on either side."""

from __future__ import annotations

import getpass
import hashlib
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rsml.data import catalog
from rsml.data.image_index import ImageIndex, is_image_name, without_suffix
from rsml.data.readers.label_tables import Asked, LabelFile, LabelTable, split_word
from rsml.data.readers.request import Request
from rsml.data.samples import Samples
from rsml.data.spelling import label_key, match_labels
from rsml.tasks import Task
from rsml.utils.errors import UserError

logger = logging.getLogger("rsml")


def join(request: Request, file: Path, content: LabelFile, root: Path, whole: bool, plain: bool = False) -> Samples:
    """Returns the images under `root` with the labels of a file.

    Args:
        request: What was asked for.
        file: The label file, for its folder and for messages.
        content: What was read from it.
        root: The folder of the images.
        whole: The file should label every image there.
        plain: The file is one of ours: its numbers of images need no comparison with a known set's.
    """
    index = (None if whole else _direct_index(root, content)) or ImageIndex(root)
    if not len(index):
        raise UserError(no_images(root) + f" for the labels in {file}")

    def is_image(cell: str) -> bool:
        return is_image_name(cell) or index.find(cell, str(file)) is not None

    task, allow_missing = request.task, request.allow_missing
    table = content.table(Asked(task, request.separator, request.group, is_image))
    if table.labels is None:
        raise UserError(f"{file}: only one column, and so no labels; expected label columns or a column of labels")
    rows = _find_rows(table, index, file)
    names = [table.names[row] for row in np.flatnonzero(rows < 0)]
    if len(names) == len(rows):
        raise UserError(
            f"{file}: none of its {len(rows)} images (the first is {names[0]!r}) is among the {len(index)} "
            f"under {root}; give the folder of the images these labels are for"
        )
    if names:
        leave_out(f"{len(names)} of {len(rows)} rows of {file} have no image under {root}", names, root, allow_missing)
    keep = _without_duplicates(table, rows, file)
    known = catalog.recognise(table.label_names, "multi-label", {_prefix(name) for name in table.names}, len(rows))
    if whole:
        labelled = set(rows.tolist())
        bare = [path for row, path in enumerate(index.paths) if row not in labelled]
        if bare and known is not None and len(rows) == known.images:
            logger.info("%d images under %s are not part of %s and are left out", len(bare), root, known.name)
        elif bare:
            what = f"{len(bare)} of {len(index)} images under {root} have no row in {file}"
            leave_out(what, bare, root, allow_missing)
    order = keep[np.argsort(rows[keep], kind="stable")]
    paths = [index.paths[row] for row in rows[order]]
    folder_splits, below = split_folders(paths)
    scenes = table.scenes[order] if table.scenes is not None else _folder_scenes(below, known)
    splits = table.splits[order] if table.splits is not None else folder_splits
    groups = table.groups[order] if table.groups is not None else np.full(len(order), "")
    labels, label_names = table.labels[order], table.label_names
    form: Task = task or table.task or ("multi-label" if known else "single-label")
    if form == "single-label" and not (labels.sum(axis=1) == 1).all():
        labels, label_names = _scenes_as_classes(labels, scenes, paths, file)
    if form == "single-label" and len(label_names) < 2:
        raise UserError(f"{file}: all images are of one class ({label_names[0]}); expected two classes or more")
    if not labels.any():
        raise UserError(f"{file}: none of its {len(labels)} images has a label; expected a 1 in some cell")
    label_names, labels = catalog_spelling(label_names, labels, form, file)
    samples = Samples(np.array(paths), labels, label_names, form, root, scenes, splits, groups)
    if not plain:
        compare_count(known, samples)
    if len(empty := samples.paths[~samples.labels.any(axis=1)]):
        logger.info("%d images have no label (such as %s)", len(empty), empty[0])
    return samples


def _direct_index(root: Path, content: LabelFile) -> ImageIndex | None:
    """Returns an index of just the images a file names by their path, if it does; a big folder is not searched then."""
    paths = {name.replace("\\", "/") for name in content.names()}
    if all(is_image_name(path) and os.path.isfile(os.path.join(root, path)) for path in paths):
        return ImageIndex(root, sorted(paths))
    return None


def _find_rows(table: LabelTable, index: ImageIndex, file: Path) -> np.ndarray:
    """Returns for each row of the file the row of its image in the index, or -1; images elsewhere join the index."""
    rows = np.full(len(table.names), -1)
    for number, name in enumerate(table.names):
        found = index.find(name, str(file))
        if found is None and is_image_name(name):
            elsewhere = os.path.join(file.parent, name)
            if os.path.isfile(elsewhere):
                found = index.add(os.path.abspath(elsewhere).replace("\\", "/"))
        if found is not None:
            rows[number] = found
    return rows


def _without_duplicates(table: LabelTable, rows: np.ndarray, file: Path) -> np.ndarray:
    """Returns the rows to keep: with an image, and the first of rows that say the same; refuses rows that disagree."""
    keep: list[int] = []
    first: dict[int, int] = {}
    for number, image in enumerate(rows.tolist()):
        if image < 0:
            continue
        earlier = first.setdefault(image, number)
        if earlier == number:
            keep.append(number)
            continue
        labels = table.labels
        differ = []
        if labels is not None:
            differ = [table.label_names[column] for column in np.flatnonzero(labels[earlier] != labels[number])]
        for column, values in (("split", table.splits), ("scene", table.scenes), ("group", table.groups)):
            if values is not None and values[earlier] != values[number]:
                differ.append(column)
        if differ:
            raise UserError(
                f"{file}: lines {table.lines[earlier]} and {table.lines[number]} both describe {table.names[number]!r} "
                f"and disagree in {', '.join(differ[:5])}; keep one of them"
            )
    double = int((rows >= 0).sum()) - len(keep)
    if double:
        logger.warning("%s: %d rows repeat an earlier one word for word and are left out", file, double)
    return np.array(keep)


def no_images(folder: Path) -> str:
    """What to say of a folder without images."""
    return f"{folder}: no images (.jpg .png .tif .bmp .gif .webp) in it or below"


def split_folders(paths: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Reads splits from folders such as train, valid, images_tr; returns them and the paths below those folders.

    Folders that all images share are passed over, before and after the split.
    """
    below = _below_common_folder(list(paths))
    words = {folder: split_word(folder) for folder in {path.partition("/")[0] for path in below if "/" in path}}
    found = [words.get(path.partition("/")[0]) if "/" in path else None for path in below]
    if all(found) and len(set(found)) > 1:
        return np.array(found), _below_common_folder([path.partition("/")[2] for path in below])
    return np.full(len(paths), "", dtype="<U5"), below


def _below_common_folder(paths: list[str]) -> list[str]:
    folders = [path.split("/")[:-2] for path in paths]
    first, last = min(folders, default=[]), max(folders, default=[])  # what these two share, all share
    shared = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return [path.split("/", shared)[-1] for path in paths]


def _folder_scenes(below: Sequence[str], known: catalog.KnownSet | None) -> np.ndarray:
    """Takes the scene from the folder of each image, or from the name where a known set has it there; else none."""
    folders = [path.rpartition("/")[0].rpartition("/")[2] for path in below]
    if all(folders) and 1 < len(set(folders)) <= max(len(folders) // 2, 2):
        return np.array(folders)
    if known is not None and known.scenes:
        by_key = {label_key(scene): scene for scene in known.scenes}
        return np.array([by_key.get(label_key(_prefix(path)), "") for path in below])
    return np.full(len(below), "", dtype="<U1")


def _prefix(name: str) -> str:
    """`agricultural00` and `Airport/airport_1.jpg` begin with a scene."""
    return without_suffix(name.replace("\\", "/").rpartition("/")[2]).rstrip("0123456789").rstrip("_-")


def _scenes_as_classes(
    labels: np.ndarray, scenes: np.ndarray, paths: Sequence[str], file: Path
) -> tuple[np.ndarray, tuple[str, ...]]:
    if len(scenes) and all(scenes) and len(set(scenes)) > 1:
        names = tuple(sorted(set(scenes.tolist())))
        return (scenes[:, None] == np.array(names, dtype=object)).astype(np.uint8), names
    row = int(np.flatnonzero(labels.sum(axis=1) != 1)[0])
    raise UserError(
        f"{file}: {paths[row]} has {labels[row].sum()} labels; single-label needs exactly one an image (or a column "
        "scene to take instead)"
    )


def catalog_spelling(
    names: Sequence[str], labels: np.ndarray, task: Task, source: Path
) -> tuple[tuple[str, ...], np.ndarray]:
    """Gives labels the spelling and order of the known set they belong to, and says so once."""
    for known in catalog.CATALOG:
        matched = match_labels(names, known.labels) if known.task == task else None
        if matched is None:
            continue
        changed = [f"{name} -> {matched[name]}" for name in names if matched[name] != name]
        if changed:
            logger.info("%s: labels spelt as in %s: %s", source, known.name, ", ".join(changed))
        position = {matched[name]: column for column, name in enumerate(names)}
        order = [position[name] for name in known.labels]
        if not changed and order != sorted(order):
            logger.info("%s: labels put in the order of %s", source, known.name)
        return known.labels, labels[:, order]
    return tuple(names), labels


def compare_count(known: catalog.KnownSet | None, samples: Samples) -> None:
    """Says where a known set is not whole."""
    if known is None or len(samples) == known.images:
        return
    sizes = ""
    if known.task == "single-label":
        counts = Counter(samples.classes.tolist())
        sizes = f", {min(counts.values())} to {max(counts.values())} a class"
    logger.warning(
        "%s has %d images; %d were found under %s%s; if it is to be whole, %s",
        known.name, known.images, len(samples), samples.root, sizes, catalog.how_to_get(known),
    )  # fmt: skip


def leave_out(what: str, names: Sequence[str], root: Path, allow_missing: bool) -> None:
    """Refuses a join that leaves something over, or with `allow_missing` warns of it; lists it in a file either way."""
    key = hashlib.sha256(f"{os.path.abspath(root)} {what}".encode("utf-8", "surrogateescape")).hexdigest()[:8]
    try:
        folder = Path(tempfile.gettempdir()) / f"rsml-{getpass.getuser()}"
        folder.mkdir(exist_ok=True)
        path = folder / f"left-over-{key}.txt"
        path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8", errors="surrogateescape")
        where = f"all of them are listed in {path}"
    except (OSError, KeyError) as fault:
        where = f"they could not be listed in a file ({fault})"
    if not allow_missing:
        raise UserError(
            f"{what} (such as {names[0]}); {where}; complete the set, or leave them out with --allow-missing "
            "(in Python: allow_missing=True)"
        )
    logger.warning("%s (such as %s) and are left out; %s", what, names[0], where)
