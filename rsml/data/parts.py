"""Divides a table of samples into train, valid and test: stratified, reproducible, groups never on two sides."""

from __future__ import annotations

import logging
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from rsml.data.image_index import without_suffix
from rsml.data.samples import SPLITS, Samples
from rsml.data.stratify import part_sizes, stratify
from rsml.utils.errors import UserError
from rsml.utils.text import some

logger = logging.getLogger("rsml")


def divide_samples(
    samples: Samples,
    shares: Sequence[float] | Mapping[str, float] = (70, 10, 20),
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> Samples:
    """Returns the same samples with new splits.

    Single-label sets are stratified by class, proportions by the dominant one, multi-label sets by iterative
    stratification over the labels and, where they are known, the scenes. The division depends on paths, labels,
    shares and seed alone: not on the order of the rows, the root, image suffixes, or the machine.

    Args:
        samples: what to divide; splits it has are replaced.
        shares: percent of train, valid and test (or of train and test), or by name; they sum to 100.
        seed: another seed gives another division.
        groups: `(samples,)` numbers; rows of one number stay on one side (see `rsml.data.groups`).
    """
    divided = _stratified(samples, parse_shares(shares), seed, groups)
    for side in SPLITS:
        absent = _absent(divided, side) if (divided.splits == side).any() else []
        if absent:
            logger.warning("no image with %s is in %s: there are too few of them", some(absent, 5), side)
    return divided


def fraction_of(samples: Samples, fraction: float, seed: int = 0) -> np.ndarray:
    """Chooses a stratified part in which every label occurs; it is that much larger where the fraction is too small.

    Args:
        samples: what to choose from.
        fraction: above 0 and below 1.
        seed: another seed chooses other images.

    Returns:
        `(chosen,)` rows, in order.
    """
    divided = _stratified(samples, {"train": 100 * fraction, "valid": 0, "test": 100 * (1 - fraction)}, seed, None)
    chosen = np.asarray(divided.splits == "train")
    order = np.random.Generator(np.random.PCG64(seed)).permutation(canonical_order(samples.paths))
    present = samples.present.astype(bool)[order]
    while (lacking := present.any(axis=0) & ~samples.present[chosen].any(axis=0)).any():
        chosen[order[np.argmax(present[:, lacking].sum(axis=1))]] = True
    return np.flatnonzero(chosen)


def _stratified(samples: Samples, percent: Mapping[str, float], seed: int, groups: np.ndarray | None) -> Samples:
    shares = [round(100 * percent[side]) for side in SPLITS]
    sides = [side for side, share in zip(SPLITS, shares, strict=True) if share]
    shares = [share for share in shares if share]
    factor = math.gcd(*shares)
    shares = [share // factor for share in shares]
    empty = [side for side, size in zip(sides, part_sizes(len(samples), shares), strict=True) if not size]
    if empty:
        raise UserError(
            f"{len(samples)} images are too few for {_percent_text(percent)} percent: {empty[0]} would have none; give "
            "more images or other fractions"
        )
    if groups is not None and np.shape(groups) != (len(samples),):
        raise ValueError(f"groups have shape {np.shape(groups)}; {len(samples)} samples need one number each")
    _refuse_lonely_classes(samples, groups)

    order = canonical_order(samples.paths)
    columns = samples.present
    if samples.task == "multi-label" and len(set(samples.scenes)) > 1:
        names = np.unique(samples.scenes[samples.scenes != ""])
        columns = np.hstack([columns, (samples.scenes[:, None] == names).astype(np.uint8)])
    part = stratify(columns[order], shares, seed, None if groups is None else np.asarray(groups)[order])
    splits = np.empty(len(samples), dtype="<U5")
    splits[order] = np.array(sides)[part]
    if missing := set(sides) - set(splits):
        raise UserError(
            f"{len(set(np.asarray(groups).tolist()))} groups of images are too few for {_percent_text(percent)} "
            f"percent: {min(missing)} would have none; group less, or give other shares"
        )
    return samples.with_splits(splits)


def parse_shares(shares: Sequence[float] | Mapping[str, float]) -> dict[str, float]:
    """Returns percent by split name, or refuses shares that are negative or do not sum to 100."""
    if isinstance(shares, Mapping):
        unknown = set(shares) - set(SPLITS)
        if unknown:
            raise UserError(f"shares name {min(unknown)!r}; expected train, valid, test")
        percent = {side: float(shares.get(side, 0)) for side in SPLITS}
    else:
        names = SPLITS if len(shares) == 3 else ("train", "test")
        if len(shares) not in (2, 3):
            raise UserError(f"shares {tuple(shares)}: expected two (train, test) or three (train, valid, test)")
        percent = dict.fromkeys(SPLITS, 0.0) | {n: float(f) for n, f in zip(names, shares, strict=True)}
    text, total = _percent_text(percent), sum(percent.values())
    if not all(math.isfinite(value) and value >= 0 for value in percent.values()):
        raise UserError(f"shares {text} (train/valid/test): expected percentages of 0 or more")
    if abs(total - 100) > 1e-6:
        raise UserError(f"shares {text} (train/valid/test) sum to {total:g}; expected percentages that sum to 100")
    if not round(100 * percent["train"]):
        raise UserError(f"shares {text} (train/valid/test) leave nothing to train on; give train more than 0")
    return percent


def _percent_text(percent: Mapping[str, float]) -> str:
    return "/".join(f"{percent[side]:g}" for side in SPLITS)


def canonical_order(paths: Iterable[str]) -> np.ndarray:
    """Returns the order of paths that is the same on every machine and for every image format."""
    keys = [(without_suffix(path), path) for path in (unicodedata.normalize("NFC", path) for path in paths)]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def _refuse_lonely_classes(samples: Samples, groups: np.ndarray | None) -> None:
    numbers = np.arange(len(samples)) if groups is None else np.asarray(groups)
    counts = samples.labels.sum(axis=0)
    for column in np.flatnonzero(counts <= (1 if groups is None else len(samples))):
        name, count = samples.label_names[column], int(counts[column])
        if samples.task == "single-label" and len(set(numbers[samples.labels[:, column] == 1])) == 1:
            found = "one image" if count == 1 else f"{count} images, all pixel-identical or of one group,"
            raise UserError(f"class {name!r} has {found} and cannot be divided; add images of it or take the class out")


def _absent(samples: Samples, side: str) -> list[str]:
    there = samples.present[samples.splits == side].any(axis=0)
    lacking = np.flatnonzero(samples.present.any(axis=0) & ~there)
    return [samples.label_names[column] for column in lacking]


def together(groups: np.ndarray) -> list[np.ndarray]:
    """Returns the rows of each group of two or more."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order])) + 1
    return [rows for rows in np.split(order, starts) if len(rows) > 1]


def split_table(samples: Samples) -> str:
    """Returns a printable table: how many images of each label are on each side, and their share of that label."""
    sides = [side for side in SPLITS if (samples.splits == side).any()]
    width = max(len("all images"), *(len(name) for name in samples.label_names)) + 2
    lines = ["label".ljust(width) + "images".rjust(8) + "".join(f"{side:>16}" for side in sides)]
    divided = samples.splits != ""
    columns = [(name, samples.present[:, column] == 1) for column, name in enumerate(samples.label_names)]
    for name, has in [*columns, ("all images", np.ones(len(samples), dtype=bool))]:
        total = int((has & divided).sum())
        cells = [int((has & (samples.splits == side)).sum()) for side in sides]
        shown = "".join(f"{cell:>8}" + f"({100 * cell / max(total, 1):.1f}%)".rjust(8) for cell in cells)
        lines.append(name.ljust(width) + f"{total:>8}" + shown)
    return "\n".join(lines)
