"""The options of data: which an experiment takes, and how a set is divided; nothing that reads images or tables."""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from rsml.tasks import Task
from rsml.utils.settings import LARGEST_SEED, Settings

LARGEST_BATCH = 65_536
LARGEST_SIDE = 16_384


class Scenes(Settings):
    """The built-in scenes: how many, how large, from which seed, and how wrong the maps under them are.

    Attributes:
        map_confusion: Probability that a class of a scene is taken for another one in the land-cover map.
        map_shift: Largest offset of the land-cover map, in pixels.
        map_pixel: Side of a pixel of the land-cover map, in pixels of the image.
    """

    count: PositiveInt = 1890
    size: int = Field(64, ge=1, le=4096)
    seed: int = Field(0, ge=0, le=LARGEST_SEED)
    map_confusion: float = Field(0.0, ge=0, le=1)
    map_shift: NonNegativeInt = 0
    map_pixel: PositiveInt = 1


class Data(Settings):
    """Which images, with which labels, divided how.

    Attributes:
        source: "scenes" for the built-in scenes, or a folder, CSV or `.npy` file.
        scenes: What to draw when `source` is "scenes".
        folder: Where the built-in scenes are kept.
        labels: A label file outside the source's usual place.
        corrections: A journal of `rsml app`, whose decisions replace labels of the source.
        task: "multi-label", "single-label" or "proportions" (shares of land cover), where the source leaves it open.
        split_files: Published split files: train, valid, test.
        fractions: Percent of train, valid, test when neither the source nor split files divide the data.
        validation_from_train: Percent of the training images kept back, stratified, to choose the epoch by. A published
            division into train and valid only has one part to choose by and to report: then that part becomes the test.
        split_seed: Seed of that division; the experiment's seed does not touch it, so runs stay comparable.
        train_fraction: Part of the training images used, stratified, each label at least once; for learning curves.
        keep_steps: Repeat that part until an epoch has as many images as the whole, so that all fractions train alike.
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
    corrections: str | None = None
    task: Task | None = None
    split_files: tuple[str, str, str] | None = None
    fractions: tuple[float, float, float] = (70, 10, 20)
    validation_from_train: float = Field(0.0, ge=0, lt=100)
    split_seed: int = Field(0, ge=0, le=LARGEST_SEED)
    train_fraction: float = Field(1.0, gt=0, le=1)
    keep_steps: bool = False
    image_size: int = Field(64, ge=1, le=LARGEST_SIDE)
    bands: tuple[PositiveInt, ...] | None = Field(None, min_length=1)
    value_range: tuple[float, float] | None = None
    antialias: bool = True
    cache: str | None = None

    def reading(self) -> dict[str, Any]:
        """How an image becomes pixels: the arguments that training, evaluation and prediction must share."""
        return {key: getattr(self, key) for key in ("image_size", "bands", "value_range", "antialias")}

    def choices(self) -> dict[str, Any]:
        """Which bands are looked at, and which of their values are black and white."""
        return {key: getattr(self, key) for key in ("bands", "value_range")}

    @model_validator(mode="after")
    def _fractions_sum(self) -> Data:
        if abs(sum(self.fractions) - 100) > 1e-6 or min(self.fractions) < 0:
            raise ValueError(
                f"fractions {self.fractions} must be percentages that sum to 100, they sum to {sum(self.fractions):g}"
            )
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise ValueError(f"value_range {self.value_range} must be (low, high) with low < high, such as (0, 10000)")
        return self


class Division(Settings):
    """What `rsml divide` divides into what, and how: its options, and what configs/divide.py sets as `division`.

    Attributes:
        source: A folder of images, or a label file beside them.
        dest: The folder of the division.
        labels: A label file outside the source's usual place.
        train: Percent of train; 70, 10 and 20 where no share is given, 0 where others are.
        valid: Percent of valid.
        test: Percent of test.
        how: Copy the images, link to them, or write only the table that points at them.
        png: Write the copies as 8-bit RGB PNG.
        split_files: Published files that say what is train, valid and test, instead of shares.
        allow_missing: Leave out images without labels and labels without an image.
        groups: What stays together: "column:NAME", "pattern:REGEX", "numbers:N" or "found".
    """

    source: str
    dest: str
    labels: str | None = None
    task: Literal["multi-label", "single-label"] | None = None
    train: float | None = Field(None, ge=0, le=100)
    valid: float | None = Field(None, ge=0, le=100)
    test: float | None = Field(None, ge=0, le=100)
    seed: int = Field(0, ge=0, le=LARGEST_SEED)
    how: Literal["copy", "link", "table"] = "copy"
    png: bool = False
    split_files: tuple[str, ...] | None = None
    allow_missing: bool = False
    groups: str | None = None

    def arguments(self) -> dict[str, Any]:
        """The arguments of `rsml.data.divide.divide`."""
        values = self.model_dump()
        shares = {part: values.pop(part) for part in ("train", "valid", "test")}
        return {**values, "shares": {part: share for part, share in shares.items() if share is not None} or None}


def check_source(data: Data) -> None:
    """Refuses a source that is not there, before anything is loaded that could read it."""
    if data.source != "scenes" and not os.path.exists(data.source):
        from rsml.data.readers import read_samples

        read_samples(data.source)  # says what is not there, and how to get it
