"""A division of rsml's own: a folder with its table, its notes and its images, read and written here.

`samples.csv` lists path, scene, split and labels of every image. `division.json` tells how it was made and is written
last; until then `division.unfinished.json` stands in its place, and the folder is refused as a source.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import imagecodecs
import numpy as np

from rsml.data.images import decode
from rsml.data.land_cover import read_land_cover
from rsml.data.parts import canonical_order, together
from rsml.data.readers.joining import join, split_folders
from rsml.data.readers.label_files import MANIFEST
from rsml.data.readers.request import Reader, Request, open_label_file
from rsml.data.samples import Samples
from rsml.data.tables import write_rows
from rsml.utils.errors import UserError
from rsml.utils.files import remove_left_overs, replacing, write_json
from rsml.utils.guard.json_files import read_json
from rsml.utils.locks import LOCK, lock
from rsml.utils.progress import progress_bar

NOTES, UNFINISHED = "division.json", "division.unfinished.json"
DUPLICATES, GROUPS = "duplicates.csv", "groups.csv"


# Reading


def _can_read(request: Request) -> bool:
    if request.labels is not None or not request.source.is_dir():
        return False
    if (request.source / UNFINISHED).exists() and not (request.source / NOTES).exists():
        raise UserError(f"{request.source}: a division that was not finished; divide again, which goes on with it")
    return (request.source / MANIFEST).exists() and "task" in _notes(request.source / NOTES)


def _notes(path: Path) -> dict[str, Any]:
    """What is noted of a division; nothing where there is no such file or it was left empty."""
    if not path.is_file() or not path.stat().st_size:
        return {}
    advice = f"remove {path.parent} and divide again"
    notes = {"parameters": {}, "root": "", "how": "", **read_json(path, advice=advice)}
    if not isinstance(notes["parameters"], dict):
        raise UserError(f"{path}: its parameters are {notes['parameters']!r}, no notes of a division; {advice}")
    return notes


def _read(request: Request) -> Samples:
    source, notes = request.source, _notes(request.source / NOTES)
    root = _root(source, notes)
    if notes["task"] == "proportions" and request.task in (None, "proportions"):
        return read_land_cover(source / MANIFEST, root, request.allow_missing, request.group)
    request = replace(request, task=request.task or notes["task"])
    return join(request, source / MANIFEST, open_label_file(source / MANIFEST, True), root, whole=False, plain=True)


def _root(folder: Path, notes: dict[str, Any]) -> Path:
    if notes["how"] != "table":
        return folder
    for root in (Path(str(notes["root"])), folder / str(notes.get("root from here", "."))):
        if root.is_dir():
            return root
    raise UserError(f"{folder / NOTES}: the images it divides are gone from {notes['root']}; divide again")


DIVISION = Reader("a division of rsml's own", _can_read, _read)


# Writing


class DivisionFolder:
    """A folder that holds one division of one data set, or will.

    Args:
        path: The folder.
        parameters: What decides the division; plain values, compared with those that are already there.
    """

    def __init__(self, path: str | Path, parameters: dict[str, Any]) -> None:
        self.path, self.parameters = Path(path), parameters

    def state(self, source: Path) -> str:
        """Returns `"new"`, `"unfinished"` or `"done"`, and refuses a folder that holds anything else.

        Args:
            source: The folder of the images, which the division must not be mixed with.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path} is a file; expected a new folder for the division")
        here, source = self.path.resolve(), source.resolve()
        if here == source or (self.parameters["how"] != "table" and here.is_relative_to(source)):
            raise UserError(f"{self.path} lies in the images it divides ({source}); give a folder outside of them")
        for name, state in ((NOTES, "done"), (UNFINISHED, "unfinished")):
            if notes := _notes(self.path / name):
                self._refuse_difference(notes["parameters"])
                return state
        if self.path.exists():
            self._remove_left_overs(self.path.iterdir())
            for note in (self.path / NOTES, self.path / UNFINISHED):
                note.unlink(missing_ok=True)  # of no bytes, or it would have been read
            if any(file.name != LOCK for file in self.path.iterdir()):
                raise UserError(f"{self.path} is not empty and holds no division; give a new or empty folder")
        return "new"

    def _refuse_difference(self, there: dict[str, Any]) -> None:
        differ = [key for key in {**there, **self.parameters} if there.get(key) != self.parameters.get(key)]
        if differ:
            found = "; ".join(
                f"{k} is {_short(there.get(k))} there, {_short(self.parameters.get(k))} now" for k in differ
            )
            raise UserError(f"{self.path} holds a different division ({found}); give another folder or remove it")

    def _remove_left_overs(self, files: Iterable[Path]) -> None:
        if process := remove_left_overs(files):
            raise UserError(f"{self.path}: process {process} is writing here; wait for it, or end it")

    def read(self, root: Path) -> Samples:
        """Reads the finished division; `root` is where the images of a division by table lie."""
        copied = self.parameters["how"] != "table"
        return Samples.read_csv(self.path / MANIFEST, self.path if copied else root, self.parameters["task"])

    def is_whole(self) -> bool:
        """Whether every image the manifest lists is there."""
        return all(os.path.exists(file) for file in self.read(self.path).files)

    def noted(self, samples: Samples) -> tuple[np.ndarray, np.ndarray | None] | None:
        """The groups that an interrupted run had found, as `write` takes them; None where it had not come so far."""
        notes = _notes(self.path / UNFINISHED)
        if "same" not in notes:
            return None
        position = {path: row for row, path in enumerate(samples.paths.tolist())}

        def groups(named: list[list[str]]) -> np.ndarray:
            numbers = np.arange(len(samples))
            for paths in named:
                rows = [position[path] for path in paths]
                numbers[rows] = rows[0]
            return numbers

        try:
            return groups(notes["same"]), None if notes["kept"] is None else groups(notes["kept"])
        except (KeyError, TypeError, IndexError):
            return None

    def _about(self, samples: Samples) -> dict[str, Any]:
        root = samples.root.resolve()
        try:
            from_here = Path(os.path.relpath(root, self.path.resolve())).as_posix()
        except ValueError:  # Another drive on Windows has no relative path.
            from_here = str(root)
        return {
            "format": 1,
            "parameters": self.parameters,
            "task": samples.task,
            "how": self.parameters["how"],
            "root": str(root),
            "root from here": from_here,
        }

    def write(self, samples: Samples, same: np.ndarray, kept: np.ndarray | None = None) -> Samples:
        """Writes a divided data set; what an interrupted run has written is kept. Returns the samples as they lie now.

        Args:
            samples: With splits; images without one are left out.
            same: `(samples,)` equal for images with the same pixels; listed in `duplicates.csv`.
            kept: `(samples,)` equal for all images kept together, where that is more; listed in `groups.csv`.
        """
        with lock(self.path, "a division"):
            return self._write(samples, same, kept)

    def _write(self, samples: Samples, same: np.ndarray, kept: np.ndarray | None) -> Samples:
        about = self._about(samples)
        lists = {name: _named(samples, groups) for name, groups in (("same", same), ("kept", kept))}
        write_json(self.path / UNFINISHED, {**about, **lists})
        samples = samples.select(samples.splits != "")
        samples = samples.select(canonical_order(samples.paths))
        if self.parameters["how"] != "table":
            samples = self._write_images(samples)
        samples.write_csv(self.path / MANIFEST)
        for file, named in ((DUPLICATES, lists["same"]), (GROUPS, lists["kept"])):
            if named:
                rows = [(number, path) for number, paths in enumerate(named, start=1) for path in paths]
                write_rows(self.path / file, ("group", "path"), rows)
        self._remove_left_overs(self.path.rglob(".*.writing-*"))
        write_json(self.path / NOTES, about)
        (self.path / UNFINISHED).unlink()
        return samples

    def _write_images(self, samples: Samples) -> Samples:
        png, link = self.parameters["png"], self.parameters["how"] == "link"
        targets = _tree(samples, png)
        for folder in sorted({os.path.dirname(target) for target in targets}):
            (self.path / folder).mkdir(parents=True, exist_ok=True)

        def place(job: tuple[str, str]) -> None:
            source, target = job[0], self.path / job[1]
            if link:
                _link(source, target)
            elif png and not source.lower().endswith(".png"):
                _convert(source, target)
            else:
                _copy(source, target)

        title = "linking" if link else "converting" if png else "copying"
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            try:
                jobs = zip(samples.files.tolist(), targets, strict=True)
                for _ in progress_bar(pool.map(place, jobs), title=title, unit="images", total=len(samples)):
                    pass
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return replace(samples, paths=np.array(targets), root=self.path)


def _named(samples: Samples, groups: np.ndarray | None) -> list[list[str]] | None:
    return None if groups is None else [samples.paths[rows].tolist() for rows in together(groups)]


def _short(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)


def _told_apart(names: Sequence[str]) -> list[str]:
    """Names with a number before the suffix where an earlier one is the same but for case, which some disks ignore."""
    taken: set[str] = set()
    tried: dict[str, int] = {}
    apart = []
    for name in names:
        stem, suffix = os.path.splitext(name)
        target = name
        while target.lower() in taken:
            tried[name.lower()] = number = tried.get(name.lower(), 1) + 1
            target = f"{stem}-{number}{suffix}"
        taken.add(target.lower())
        apart.append(target)
    return apart


def class_folders(names: Sequence[str]) -> list[str]:
    """A folder name for each class: separators become `_`, no two are alike, none is hidden."""
    plain = [re.sub(r"[/\\]", "_", name) for name in names]
    return _told_apart([f"_{name}" if name.startswith(".") else name for name in plain])


def _tree(samples: Samples, png: bool) -> list[str]:
    """Returns where each image goes: `split/class/file`, or for several labels `split/` and its path in the source."""
    if samples.task == "single-label":
        folders = class_folders(samples.label_names)
        inner = [
            f"{folders[number]}/{os.path.basename(path)}"
            for number, path in zip(samples.classes, samples.paths, strict=True)
        ]
    else:
        inner = split_folders([path if _below(path) else os.path.basename(path) for path in samples.paths])[1]
    if png:
        inner = [os.path.splitext(path)[0] + ".png" for path in inner]
    return _told_apart([f"{split}/{path}" for split, path in zip(samples.splits, inner, strict=True)])


def _below(path: str) -> bool:
    return not os.path.isabs(path) and ".." not in PurePosixPath(path).parts


def _copy(source: str, target: Path) -> None:
    if target.exists() and target.stat().st_size == os.stat(source).st_size:
        return
    with replacing(target, sync=False) as beside:
        try:
            shutil.copyfile(source, beside)
        except OSError as fault:
            if fault.errno in (errno.ENOSPC, errno.EDQUOT):
                fault.filename, fault.filename2 = str(beside), None  # copyfile names the source first
            raise


def _convert(source: str, target: Path) -> None:
    if not target.exists():
        # Level 1 is three times as fast as the usual 6, and its files are 3 % larger.
        encoded = imagecodecs.png_encode(np.ascontiguousarray(decode(source)), level=1)
        with replacing(target, sync=False) as beside:
            beside.write_bytes(encoded)


def _link(source: str, target: Path) -> None:
    if target.exists():
        return
    target.unlink(missing_ok=True)  # a link whose target is gone
    try:
        os.symlink(os.path.abspath(source), target)
    except OSError:
        try:
            os.link(source, target)  # Windows needs a right for symbolic links, and none for hard ones.
        except OSError as fault:
            raise UserError(
                f"{target}: links cannot be made here ({fault.strerror}); use --how copy or --how table"
            ) from None
