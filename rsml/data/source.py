"""An experiment's data options, and the divided samples they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from rsml.data import scenes
from rsml.data.divide import divide
from rsml.data.readers import read_samples
from rsml.data.samples import Samples
from rsml.errors import UserError
from rsml.settings import Settings


class Scenes(Settings):
    """The built-in scenes: how many, how large, from which seed."""

    count: PositiveInt = 1890
    size: PositiveInt = 64
    seed: NonNegativeInt = 0


class Data(Settings):
    """Which images, with which labels, divided how.

    Attributes:
        source: "scenes" for the built-in scenes, or a folder, CSV or `.npy` file.
        scenes: What to draw when `source` is "scenes".
        folder: Where the built-in scenes are kept.
        labels: A label file outside the source's usual place.
        task: "multi-label" or "single-label", where the source leaves it open.
        split_files: Published split files: train, valid, test.
        fractions: Percent of train, valid, test when neither the source nor split files divide the data.
        split_seed: Seed of that division; the experiment's seed does not touch it, so runs stay comparable.
        train_fraction: Part of the training images used, stratified; for learning curves.
        image_size: Height and width that images are resized to.
        bands: Bands of multi-band rasters, counted from 1; None is RGB.
        value_range: Values that become 0 and 255, for rasters of more than 8 bits; None decides image by image.
        antialias: Average over all source pixels when shrinking.
        cache: Keep decoded images "memory" or in a folder.
    """

    source: str = "scenes"
    scenes: Scenes = Scenes()
    folder: str = "data"
    labels: str | None = None
    task: Literal["multi-label", "single-label"] | None = None
    split_files: tuple[str, str, str] | None = None
    fractions: tuple[float, float, float] = (70, 10, 20)
    split_seed: NonNegativeInt = 0
    train_fraction: float = Field(1.0, gt=0, le=1)
    image_size: PositiveInt = 64
    bands: tuple[PositiveInt, ...] | None = None
    value_range: tuple[float, float] | None = None
    antialias: bool = True
    cache: str | None = None

    def reading(self) -> dict[str, Any]:
        """How an image becomes pixels: the arguments that training, evaluation and prediction must share."""
        return {key: getattr(self, key) for key in ("image_size", "bands", "value_range", "antialias")}

    @model_validator(mode="after")
    def _fractions_sum(self) -> Data:
        if abs(sum(self.fractions) - 100) > 1e-6 or min(self.fractions) < 0:
            raise ValueError(
                f"fractions {self.fractions} must be percentages that sum to 100, they sum to {sum(self.fractions):g}"
            )
        return self


def load_samples(data: Data) -> Samples:
    """Reads the source and divides it where it is not divided yet.

    The division is, in this order: the split files given, the source's own, a stratified one by `fractions`.
    """
    samples = read_samples(_source_folder(data), labels=data.labels, task=data.task, splits=data.split_files)
    if not (samples.splits != "").any():
        samples = divide(samples, data.fractions, seed=data.split_seed)
    if not (samples.splits == "train").any():
        raise UserError(
            f"{data.source}: no training images; divide it with divide_dataset.py, or give data.split_files"
        )
    return samples


def _source_folder(data: Data) -> Path:
    if data.source != "scenes":
        return Path(data.source)
    drawn = data.scenes
    folder = Path(data.folder) / f"scenes-{drawn.count}-{drawn.size}px-{drawn.seed}"
    return scenes.write(folder, count=drawn.count, size=drawn.size, seed=drawn.seed)


def training_part(samples: Samples, fraction: float, seed: int) -> Samples:
    """The training images, or a stratified fraction of them for a learning curve."""
    part = samples.part("train")
    if fraction == 1:
        return part
    return divide(part, (100 * fraction, 0, 100 * (1 - fraction)), seed=seed).part("train")
