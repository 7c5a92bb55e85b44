"""What a divided data set on disk IS: manifest, notes and image tree, written so that it can be interrupted."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from rsml.data.divide import canonical_order, divide, duplicate_groups, duplicates, parse_fractions, split_table
from rsml.data.images import decode
from rsml.data.readers import DIVISION, MANIFEST, common_tail, read_samples
from rsml.data.samples import Samples, Task
from rsml.utils.errors import UserError
from rsml.utils.files import write_json, write_text

logger = logging.getLogger("rsml")

UNFINISHED, DUPLICATES = "division.unfinished.json", "duplicates.csv"
HOW = ("copy", "link", "table")


def source_fingerprint(samples: Samples) -> str:
    """Returns 16 hex digits for what is divided: paths, labels and file sizes, in an order that no machine changes."""
    samples = samples.select(canonical_order(samples.paths))
    digest = hashlib.sha256(samples.with_splits(np.full(len(samples), "")).fingerprint().encode())
    digest.update(" ".join(str(os.stat(file).st_size) for file in samples.files).encode())
    return digest.hexdigest()[:16]


def file_fingerprint(path: str | Path) -> str:
    """Returns 16 hex digits for the content of a file."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path}: no such file; expected a published split file") from None


class DivisionFolder:
    """A folder that holds one division of one data set.

    `samples.csv` lists path, scene, split and labels of every image; `division.json` tells how it was made and is
    written last: a folder without it is not finished.

    Args:
        path: the folder.
        parameters: what decides the division; plain values, compared with those that are already there.
    """

    def __init__(self, path: str | Path, parameters: dict[str, Any]):
        self.path, self.parameters = Path(path), parameters

    def state(self, source: Path) -> str:
        """Returns `"new"`, `"unfinished"` or `"done"`, and refuses a folder that holds anything else.

        Args:
            source: the folder of the images, which the division must not be mixed with.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path} is a file; expected a new folder for the division")
        here, source = self.path.resolve(), source.resolve()
        if here == source or (self.parameters["how"] != "table" and here.is_relative_to(source)):
            raise UserError(f"{self.path} lies in the images it divides ({source}); give a folder outside of them")
        for name, state in ((DIVISION, "done"), (UNFINISHED, "unfinished")):
            if (self.path / name).exists():
                self._refuse_difference(self.path / name)
                return state
        if self.path.exists() and any(self.path.iterdir()):
            raise UserError(f"{self.path} is not empty and holds no division; give a new or empty folder")
        return "new"

    def _refuse_difference(self, note: Path) -> None:
        try:
            there = json.loads(note.read_text(encoding="utf-8"))["parameters"]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{note}: not readable; remove {self.path} and divide again") from None
        differ = [key for key in {**there, **self.parameters} if there.get(key) != self.parameters.get(key)]
        if differ:
            told = "; ".join(
                f"{k} is {_short(there.get(k))} there, {_short(self.parameters.get(k))} now" for k in differ
            )
            raise UserError(f"{self.path} holds a different division ({told}); give another folder or remove it")

    def read(self, root: Path) -> Samples:
        """Reads the finished division; `root` is where the images of a division by table lie."""
        copied = self.parameters["how"] != "table"
        return Samples.read_csv(self.path / MANIFEST, self.path if copied else root, self.parameters["task"])

    def is_whole(self) -> bool:
        """Whether every image the manifest lists is there."""
        return all(os.path.exists(file) for file in self.read(self.path).files)

    def write(self, samples: Samples, groups: np.ndarray) -> Samples:
        """Writes a divided data set; what an interrupted run has written is kept. Returns the samples as they lie now.

        Args:
            samples: with splits; images without one are left out.
            groups: `(samples,)` equal for identical pixels; listed in `duplicates.csv` if there are such images.
        """
        originals = samples
        samples = samples.select(samples.splits != "")
        samples = samples.select(canonical_order(samples.paths))
        self.path.mkdir(parents=True, exist_ok=True)
        about = {"format": 1, "parameters": self.parameters, "task": samples.task, "how": self.parameters["how"]}
        root = samples.root.resolve()
        about["root"] = str(root)
        try:
            about["root from here"] = Path(os.path.relpath(root, self.path.resolve())).as_posix()
        except ValueError:  # Another drive on Windows has no relative path.
            about["root from here"] = about["root"]
        write_json(self.path / UNFINISHED, about)
        if self.parameters["how"] != "table":
            samples = self._write_images(samples)
        samples.write_csv(self.path / MANIFEST)
        self._write_duplicates(originals, groups)
        write_json(self.path / DIVISION, about)
        (self.path / UNFINISHED).unlink()
        for leftover in self.path.rglob(".*.writing-*"):  # of a run that was killed in the middle of a file
            leftover.unlink(missing_ok=True)
        return samples

    def _write_duplicates(self, samples: Samples, groups: np.ndarray) -> None:
        rows = duplicates(groups)
        if rows:
            lines = [f'{number},"{samples.paths[row]}"' for number, same in enumerate(rows, start=1) for row in same]
            write_text(self.path / DUPLICATES, "\n".join(["group,path", *lines]) + "\n")

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
                for _ in progress(pool.map(place, jobs), len(samples), title):
                    pass
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return Samples(
            targets, samples.labels, samples.label_names, samples.task, self.path, samples.scenes, samples.splits
        )


def _short(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)


def _tree(samples: Samples, png: bool) -> list[str]:
    """Returns where each image goes: `split/class/file`, or for several labels `split/` and its path in the source."""
    if samples.task == "single-label":
        folders = [samples.label_names[number].replace("/", "_").replace("\\", "_") for number in samples.classes]
        inner = [f"{folder}/{os.path.basename(path)}" for folder, path in zip(folders, samples.paths, strict=True)]
    else:
        inner = common_tail([path if not os.path.isabs(path) else os.path.basename(path) for path in samples.paths])
    if png:
        inner = [os.path.splitext(path)[0] + ".png" for path in inner]
    taken: set[str] = set()
    targets = []
    for split, path in zip(samples.splits, inner, strict=True):
        stem, suffix = os.path.splitext(f"{split}/{path}")
        target, number = stem + suffix, 1
        # Compared without case: some file systems make no difference.
        while target.lower() in taken:
            number += 1
            target = f"{stem}-{number}{suffix}"
        taken.add(target.lower())
        targets.append(target)
    return targets


def _copy(source: str, target: Path) -> None:
    if not (target.exists() and target.stat().st_size == os.stat(source).st_size):
        _place(target, lambda beside: shutil.copyfile(source, beside))


def _convert(source: str, target: Path) -> None:
    if not target.exists():
        # Level 1 is three times as fast as the usual 6, and its files are 3 % larger.
        encoded = imagecodecs.png_encode(np.ascontiguousarray(decode(source)), level=1)
        _place(target, lambda beside: beside.write_bytes(encoded))


def _place(target: Path, write: Callable[[Path], object]) -> None:
    """Writes a file beside its place and moves it there. `utils.files` waits for the disk too: slow."""
    beside = target.with_name(f".{target.stem}.writing-{os.getpid()}{target.suffix}")
    try:
        write(beside)
        os.replace(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


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


def progress(items: Iterable, total: int, title: str, every: float = 1.0) -> Iterator:
    """Yields items, and writes to the error stream how far it is and how long it will still take."""
    start = shown = time.monotonic()
    line = ""
    show = sys.stderr.isatty()
    every = every if show else 30.0
    for done, item in enumerate(items, start=1):
        now = time.monotonic()
        if now - shown >= every and done < total:
            left = (now - start) / done * (total - done)
            line = f"{title}: {done} of {total}, about {left:.0f} s left"
            print(f"\r{line}\033[K" if show else line, end="" if show else "\n", file=sys.stderr, flush=True)
            shown = now
        yield item
    if line and show:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def divide_dataset(
    source: str | Path,
    dest: str | Path,
    *,
    labels: str | Path | None = None,
    task: Task | None = None,
    fractions: dict[str, float] | None = None,
    seed: int = 0,
    how: str = "copy",
    png: bool = False,
    split_files: Sequence[str | Path] | None = None,
    allow_missing: bool = False,
) -> str:
    """Divides a data set into a folder, or finishes doing so, and returns the table of what is where.

    Args:
        source: a folder or label file, as for `read_samples`.
        dest: the folder to write; one that already holds this division is left as it is, another one is refused.
        labels: as for `read_samples`.
        task: as for `read_samples`.
        fractions: percent by split name; 70, 10 and 20 if None.
        seed: another seed gives another division.
        how: `"copy"` the images, `"link"` to them, or write only the `"table"`.
        png: write the copies as 8-bit RGB PNG.
        split_files: published files to follow instead of fractions.
        allow_missing: as for `read_samples`.
    """
    if how not in HOW:
        raise UserError(f"how is {how!r}; expected copy, link or table")
    if png and how != "copy":
        raise UserError(f"--png writes new images; expected --how copy, found --how {how}")
    if split_files and fractions:
        raise UserError("--split-files say what is train, valid and test; leave --train, --valid and --test away")
    if seed < 0:
        raise UserError(f"--seed is {seed}; expected 0 or more")
    percent = None if split_files else parse_fractions(fractions or {"train": 70, "valid": 10, "test": 20})
    samples = read_samples(source, labels=labels, task=task, splits=split_files, allow_missing=allow_missing)
    parameters = {
        "task": samples.task,
        "fractions": list(percent.values()) if percent else None,
        "seed": None if split_files else seed,
        "split files": [file_fingerprint(file) for file in split_files] if split_files else None,
        "how": how,
        "png": png,
        "source": source_fingerprint(samples),
    }
    folder = DivisionFolder(dest, parameters)
    state = folder.state(samples.root)
    if state == "done" and (how == "table" or folder.is_whole()):
        logger.info("%s holds this division already; nothing to do", dest)
        return split_table(folder.read(samples.root))
    if state != "new":
        logger.info("%s: going on with the unfinished division", dest)
    if not split_files and (samples.splits != "").any():
        logger.info("%s is divided already; that division is set aside", source)
    groups = duplicate_groups(samples, progress)
    if not split_files:
        samples = divide(samples, percent, seed, groups)
    report_duplicates(samples, groups)
    written = folder.write(samples, groups)
    logger.info("written: %s", Path(dest) / MANIFEST)
    return split_table(written)


def report_duplicates(samples: Samples, groups: np.ndarray) -> None:
    """Says how many images are pixel-identical, whether their labels agree, and whether a given division parts them."""
    same = duplicates(groups)
    if not same:
        logger.info("no two images have the same pixels")
        return
    shown = ["; ".join(" = ".join(samples.paths[rows]) for rows in same[:3]), "; ..." if len(same) > 3 else ""]
    logger.info(
        "%d images have the pixels of another (%d group%s): %s",
        sum(map(len, same)), len(same), "s" * (len(same) > 1), "".join(shown),
    )  # fmt: skip
    parted = [rows for rows in same if len(set(samples.splits[rows]) - {""}) > 1]
    if parted:
        logger.warning(
            "%d of these groups on two sides of the given division (such as %s): its results are not clean",
            len(parted), " = ".join(samples.paths[parted[0]]),
        )  # fmt: skip
    else:
        logger.info("images with the same pixels lie on one side")
    differ = [rows for rows in same if len(np.unique(samples.labels[rows], axis=0)) > 1]
    if differ:
        logger.warning(
            "%d of these groups with different labels for the same pixels (such as %s)",
            len(differ), " and ".join(samples.paths[differ[0]]),
        )  # fmt: skip
