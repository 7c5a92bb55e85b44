"""Recognises what lies on disk, joins labels with images, and yields one `Samples` table."""

from __future__ import annotations

import getpass
import hashlib
import json
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rsml.data import catalog
from rsml.data.class_folders import bare_folders, compare_sides
from rsml.data.image_index import ImageIndex, is_image_name, list_images, without_suffix
from rsml.data.label_files import LabelTable, join_tables, read_label_file, split_word
from rsml.data.land_cover import TABLE, read_land_cover
from rsml.data.samples import Samples, Task, check_task
from rsml.data.spelling import label_key, match_labels
from rsml.utils.errors import UserError

logger = logging.getLogger("rsml")

MANIFEST, DIVISION = "samples.csv", "division.json"
_OUR_FILES = (MANIFEST, "labels.csv")
_PUBLISHED_FILES = ("landuse_multilabeled.txt", "multilabel.csv", "multilabel.txt")


def read_samples(
    source: str | Path,
    *,
    labels: str | Path | None = None,
    task: Task | None = None,
    splits: Sequence[str | Path] | None = None,
    separator: str | None = None,
    allow_missing: bool = False,
) -> Samples:
    """Reads images and labels from a folder or a label file, whatever their layout (`docs/data.md` lists them all).

    Args:
        source: a folder of images, or a label file whose images lie beside or below it.
        labels: a label file that is not in its usual place in `source`.
        task: `"multi-label"`, `"single-label"` or `"proportions"`; None takes what the files say. A multi-label set
            with known scenes read as single-label has its scenes as classes.
        splits: published split files: train, valid and test, or train and test.
        separator: what separates several labels in one cell; found from the file if None.
        allow_missing: use the images that have both an image file and labels, instead of refusing the rest.
    """
    source = Path(source)
    if task is not None:
        check_task(task)
    if not source.exists():
        raise UserError(_not_there(source))
    table = _share_table(source, labels, task)
    if table is not None:
        if splits:
            raise UserError(f"{table[0]}: its parts are told by its column split; leave out the split files")
        return read_land_cover(*table, allow_missing=allow_missing)
    tables = [read_label_file(file) for file in splits or ()]
    if tables and task is None and labels is None:
        task = tables[0].task
    if source.is_file():
        if labels is not None:
            raise UserError(f"{source} is a file; with a label file ({labels}) it must be the folder of the images")
        samples = _from_label_file(source.parent, source, task, separator, allow_missing, whole=False)
    else:
        division = _division(source)
        file = Path(labels) if labels is not None else _label_file_in(source, task)
        if division and labels is None:
            task = task or division["task"]
            root = _division_root(source, division)
            samples = _from_label_file(root, source / MANIFEST, task, None, allow_missing, whole=False)
        elif file is not None:
            samples = _from_label_file(source, file, task, separator, allow_missing, whole=True)
        elif tables and task == "multi-label":
            file = Path(splits[0])
            samples = _from_label_file(source, file, task, None, allow_missing, whole=False, table=join_tables(tables))
        else:
            samples = _from_class_folders(source, task, allow_missing)
    if splits:
        from rsml.data.divide import apply_split_files  # divide builds on this module

        samples = apply_split_files(samples, *splits)
    return samples


def _share_table(source: Path, labels: str | Path | None, task: Task | None) -> tuple[Path, Path] | None:
    """Returns the table of land-cover shares and the folder its paths start from, if that is what the source is."""
    if source.is_dir() and labels is None and (division := _division(source)):
        shares = division["task"] == "proportions" and task in (None, "proportions")
        return (source / MANIFEST, _division_root(source, division)) if shares else None
    file = Path(labels) if labels is not None else source if source.is_file() else source / TABLE
    if task == "proportions" or (task is None and file.name == TABLE and file.is_file()):
        return file, source if source.is_dir() else source.parent
    return None


def _not_there(source: Path) -> str:
    names = {folder.lower(): known for known in catalog.CATALOG for folder in known.folders}
    known = names.get(source.name.lower())
    hint = f"; for {known.name}, {catalog.how_to_get(known)}" if known else ""
    return f"{source}: no such file or folder (looked in {Path.cwd()})" + (hint or "; expected a folder of images")


def _label_file_in(folder: Path, task: Task | None) -> Path | None:
    """Finds the label file that belongs to a folder of images, by its usual name or as the only table in it."""
    files = {entry.name.lower(): Path(entry.path) for entry in os.scandir(folder) if entry.is_file()}
    usual = _OUR_FILES if task == "single-label" else (*_OUR_FILES, *_PUBLISHED_FILES)
    for name in usual:
        if name in files:
            return files[name]
    if _has_class_folders(folder):
        return None
    tables = sorted(path for name, path in files.items() if name.endswith((".csv", ".tsv", ".npy")))
    if len(tables) > 1:
        raise UserError(
            f"{folder}: {len(tables)} tables could hold the labels ({', '.join(path.name for path in tables[:4])}); "
            "say which with --labels (predict.py: --label-file; in Python: labels=)"
        )
    return tables[0] if tables else None


def _has_class_folders(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        below = [entry.path for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    while len(below) == 1:
        with os.scandir(below[0]) as entries:
            below = [entry.path for entry in entries if entry.is_dir()]
    return len(below) > 1


def _division(folder: Path) -> dict | None:
    """Reads what `divide_dataset.py` noted in a folder it wrote."""
    path = folder / DIVISION
    if not (path.exists() and (folder / MANIFEST).exists()):
        return None
    try:
        division = json.loads(path.read_text(encoding="utf-8"))
        return division if {"task", "how", "root"} <= division.keys() else None
    except (ValueError, AttributeError):
        raise UserError(f"{path}: not readable as JSON; divide again into an empty folder") from None


def _division_root(folder: Path, division: dict) -> Path:
    if division["how"] != "table":
        return folder
    for root in (Path(division["root"]), folder / division.get("root from here", ".")):
        if root.is_dir():
            return root
    raise UserError(f"{folder / DIVISION}: the images it divides are gone from {division['root']}; divide again")


def _from_label_file(
    root: Path,
    file: Path,
    task: Task | None,
    separator: str | None,
    allow_missing: bool,
    whole: bool,
    table: LabelTable | None = None,
) -> Samples:
    """Joins a label file with the images under `root`; `whole` tells that the file should label every one of them."""
    index = (None if whole or table else _direct_index(root, file)) or ImageIndex(root)
    if not len(index):
        raise UserError(_no_images(root) + f" for the labels in {file}")

    def is_image(cell: str) -> bool:
        return is_image_name(cell) or index.find(cell, str(file)) is not None

    table = table or read_label_file(file, task=task, separator=separator, is_image=is_image)
    if table.labels is None:
        raise UserError(f"{file}: only one column, and so no labels; expected label columns or a column of labels")
    rows = _find_rows(table, index, file)
    missing = np.flatnonzero(rows < 0)
    names = [table.names[row] for row in missing]
    if len(missing) == len(rows):
        raise UserError(
            f"{file}: none of its {len(rows)} images (the first is {names[0]!r}) is among the {len(index)} "
            f"under {root}; give the folder of the images these labels are for"
        )
    if len(missing):
        _partly(f"{len(missing)} of {len(rows)} rows of {file} have no image under {root}", names, root, allow_missing)
    keep = _without_duplicates(table, rows, file)
    known = catalog.recognise(table.label_names, "multi-label", _name_scenes(table.names), len(rows))
    if whole:
        labelled = set(rows.tolist())
        bare = [path for row, path in enumerate(index.paths) if row not in labelled]
        if bare and known is not None and len(rows) == known.images:
            logger.info("%d images under %s are not part of %s and are left out", len(bare), root, known.name)
        elif bare:
            _partly(f"{len(bare)} of {len(index)} images under {root} have no row in {file}", bare, root, allow_missing)
    order = keep[np.argsort(rows[keep], kind="stable")]
    paths = [index.paths[row] for row in rows[order]]
    folder_splits, below = _split_folders(paths)
    scenes = table.scenes[order] if table.scenes is not None else _folder_scenes(below, known)
    splits = table.splits[order] if table.splits is not None else folder_splits
    labels, label_names = table.labels[order], table.label_names
    form = task or table.task or ("multi-label" if known else "single-label")
    if form == "single-label" and not (labels.sum(axis=1) == 1).all():
        labels, label_names = _scenes_as_classes(labels, scenes, paths, file)
    names, labels = _catalog_spelling(label_names, labels, form, file)
    samples = Samples(paths, labels, names, form, root, scenes, splits)
    if file.name.lower() not in _OUR_FILES:
        _compare_count(known, samples)
    empty = int((samples.labels.sum(axis=1) == 0).sum())
    if empty:
        logger.info("%d images have no label (such as %s)", empty, samples.paths[samples.labels.sum(axis=1) == 0][0])
    return samples


def _direct_index(root: Path, file: Path) -> ImageIndex | None:
    """Returns an index of just the images a file names by their path, if it does; a big folder is not searched then."""
    names = list(dict.fromkeys(read_label_file(file).names)) if file.suffix.lower() != ".npy" else []
    paths = [name.replace("\\", "/") for name in names]
    if paths and all(is_image_name(path) and os.path.isfile(os.path.join(root, path)) for path in paths):
        return ImageIndex(root, sorted(set(paths)))
    return None


def _find_rows(table: LabelTable, index: ImageIndex, file: Path) -> np.ndarray:
    """Returns for each row of the file the row of its image in the index, or -1; images elsewhere join the index."""
    rows = np.full(len(table.names), -1)
    for number, name in enumerate(table.names):
        if not name:
            raise UserError(f"{file}, line {table.lines[number]}: no image is named; expected one in the first column")
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
    keep, first = [], {}
    for number, image in enumerate(rows.tolist()):
        if image < 0:
            continue
        earlier = first.setdefault(image, number)
        if earlier == number:
            keep.append(number)
            continue
        differ = [
            n for n, a, b in zip(table.label_names, table.labels[earlier], table.labels[number], strict=True) if a != b
        ]
        for column, values in (("split", table.splits), ("scene", table.scenes)):
            if values is not None and values[earlier] != values[number]:
                differ.append(column)
        if differ:
            raise UserError(
                f"{file}: lines {table.lines[earlier]} and {table.lines[number]} both describe {table.names[number]!r} "
                f"and disagree in {', '.join(differ)}; keep one of them"
            )
    double = int((rows >= 0).sum()) - len(keep)
    if double:
        logger.warning("%s: %d rows repeat an earlier one word for word and are left out", file, double)
    return np.array(keep)


def _from_class_folders(source: Path, task: Task | None, allow_missing: bool) -> Samples:
    """Reads `<class>/<image>`, possibly inside one more folder, possibly divided into train, valid and test folders."""
    paths = list_images(source)
    if not paths:
        raise UserError(_no_images(source))
    splits, below = _split_folders(paths)
    first = [path.partition("/")[0] if "/" in path else "" for path in below]
    loose = [path for path, folder in zip(paths, first, strict=True) if not folder]
    if len(loose) == len(paths):
        raise UserError(
            f"{source}: {len(paths)} images but neither class folders nor a label file; put the images in one folder a "
            "class, or give the labels with --labels (predict.py: --label-file; in Python: labels=)"
        )
    if task == "multi-label":
        raise UserError(
            f"{source}: class folders give one label an image; multi-label needs a label file: --labels "
            "(in Python: labels=)"
        )
    if loose:
        _partly(
            f"{len(loose)} of {len(paths)} images under {source} lie outside the class folders",
            loose, source, allow_missing,
        )  # fmt: skip
    bare = bare_folders(source, paths, below)
    if bare:
        what = f"{len(bare)} folders" if len(bare) > 1 else "a folder"
        _partly(f"{what} beside the class folders of {source} without any image", bare, source, allow_missing)
    keep = [row for row, folder in enumerate(first) if folder]
    classes = np.array([first[row] for row in keep])
    names = tuple(sorted(set(classes.tolist())))
    if len(names) < 2:
        raise UserError(f"{source}: all images lie in one class folder ({names[0]}); expected two classes or more")
    labels = (classes[:, None] == np.array(names)).astype(np.uint8)
    kept_splits = splits[keep]
    compare_sides(source, {side: set(classes[kept_splits == side]) for side in set(kept_splits)}, allow_missing)
    known = catalog.recognise(names, "single-label")
    names, labels = _catalog_spelling(names, labels, "single-label", source)
    scenes = np.array(names)[labels.argmax(axis=1)]
    samples = Samples([paths[row] for row in keep], labels, names, "single-label", source, scenes, kept_splits)
    _compare_count(known, samples)
    return samples


def _no_images(folder: Path) -> str:
    return f"{folder}: no images (.jpg .png .tif .bmp .gif .webp) in it or below"


def _split_folders(paths: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Reads splits from folders such as train, valid, images_tr; returns them and the paths below those folders.

    Folders that all images share are passed over, before and after the split.
    """
    below = _below_common_folder(list(paths))
    words = {folder: split_word(folder) for folder in {path.partition("/")[0] for path in below if "/" in path}}
    found = [words.get(path.partition("/")[0]) if "/" in path else None for path in below]
    if all(found) and len(set(found)) > 1:
        return np.array(found), _below_common_folder([path.partition("/")[2] for path in below])
    return np.full(len(paths), "", dtype="<U5"), below


def common_tail(paths: Sequence[str]) -> list[str]:
    """Returns paths without the folders that all of them share, and without the split folders they lie in, if any."""
    return _split_folders(paths)[1]


def _below_common_folder(paths: list[str]) -> list[str]:
    while True:
        heads = {path.partition("/")[0] for path in paths}
        if len(heads) != 1 or not all(path.count("/") >= 2 for path in paths):
            return paths
        paths = [path.partition("/")[2] for path in paths]


def _folder_scenes(below: Sequence[str], known: catalog.KnownSet | None) -> np.ndarray:
    """Takes the scene from the folder of each image, or from the name where a known set has it there; else none."""
    folders = [path.rpartition("/")[0].rpartition("/")[2] for path in below]
    if all(folders) and 1 < len(set(folders)) <= max(len(folders) // 2, 2):
        return np.array(folders)
    if known is not None and known.scenes:
        by_key = {label_key(scene): scene for scene in known.scenes}
        return np.array([by_key.get(label_key(_prefix(path)), "") for path in below])
    return np.full(len(below), "", dtype="<U1")


def _name_scenes(names: Sequence[str]) -> set[str]:
    return {_prefix(name) for name in names}


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


def _catalog_spelling(
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


def _compare_count(known: catalog.KnownSet | None, samples: Samples) -> None:
    if known is not None and len(samples) != known.images:
        if known.task == "single-label":
            counts = Counter(samples.classes.tolist())
            sizes = f", {min(counts.values())} to {max(counts.values())} a class"
        else:
            sizes = ""
        logger.warning(
            "%s has %d images; %d were found under %s%s; if it is to be whole, %s",
            known.name, known.images, len(samples), samples.root, sizes, catalog.how_to_get(known),
        )  # fmt: skip


def _partly(what: str, names: Sequence[str], root: Path, allow_missing: bool) -> None:
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
