"""The divided samples that an experiment's data options stand for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rsml import scenes
from rsml.data.corrections import with_corrections
from rsml.data.options import Data
from rsml.data.parts import divide_samples, fraction_of
from rsml.data.readers import read_samples
from rsml.data.samples import Samples
from rsml.scenes.maps import MapNoise, land_cover_samples
from rsml.utils.errors import UserError


def load_samples(data: Data) -> Samples:
    """Reads the source and divides it where it is not divided yet.

    The division is, in this order: the split files given, the source's own, a stratified one by `fractions`.
    """
    if data.source == "scenes":
        samples = _drawn(data)
    else:
        samples = read_samples(data.source, labels=data.labels, task=data.task, splits=data.split_files)
    if not (samples.splits != "").any():
        samples = divide_samples(samples, data.fractions, seed=data.split_seed)
    if not (samples.splits == "train").any():
        raise UserError(f"{data.source}: no training images; divide it with rsml divide, or give data.split_files")
    if samples.task == "single-label" and len(set(samples.part("train").classes.tolist())) < 2:
        raise UserError(f"{data.source}: all training images are of one class; give images of two classes or more")
    if data.validation_from_train:
        samples = _with_own_validation(samples, data.validation_from_train, data.split_seed)
    # Last, so that no image changes its part with its labels: the corrected run is measured on the same images.
    return samples if data.corrections is None else with_corrections(samples, data.corrections)


def _with_own_validation(samples: Samples, percent: float, seed: int) -> Samples:
    splits = samples.splits.copy()
    if {"valid", "test"} <= set(splits):
        raise UserError(
            f"{samples.root}: has a validation and a test part of its own; leave out data.validation_from_train"
        )
    splits[splits == "valid"] = "test"
    splits[splits == "train"] = divide_samples(samples.part("train"), (100 - percent, percent, 0), seed=seed).splits
    return samples.with_splits(splits)


def _drawn(data: Data) -> Samples:
    """The built-in scenes, drawn where they are not there yet; with their land cover in a folder of their own."""
    drawn, mapped = data.scenes, data.task == "proportions"
    name = f"scenes-{drawn.count}-{drawn.size}px-{drawn.seed}" + ("-land-cover" if mapped else "")
    folder = scenes.write(
        Path(data.folder) / name, count=drawn.count, size=drawn.size, seed=drawn.seed, land_cover=mapped
    )
    if not mapped:
        return read_samples(folder, labels=data.labels, task=data.task, splits=data.split_files)
    return land_cover_samples(folder, MapNoise(drawn.map_confusion, drawn.map_shift, drawn.map_pixel), drawn.seed)


def training_part(samples: Samples, fraction: float, seed: int, keep_steps: bool = False) -> Samples:
    """The training images, or a stratified fraction of them in which every label occurs, for a learning curve.

    Args:
        samples: Divided images.
        fraction: Part of the training images.
        seed: Which of the images of one kind.
        keep_steps: Repeat that part until it has as many rows as the whole.
    """
    whole = samples.part("train")
    if fraction == 1:
        return whole
    rows = fraction_of(whole, fraction, seed)
    return whole.select(np.resize(rows, len(whole)) if keep_steps else rows)
