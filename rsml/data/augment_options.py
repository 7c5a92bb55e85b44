"""What may be done to training images: the options, and what they need of an image; no TensorFlow."""

import math

import pydantic

from rsml.utils.errors import UserError
from rsml.utils.settings import Settings

COLOUR_OPERATIONS = ("brightness", "contrast", "saturation", "hue")

Range = tuple[float, float]


class RandAugment(Settings):
    """How many distortions an image gets, and how strong they are.

    Each is drawn evenly from: none, brightness, contrast, saturation (RGB only), sharpness, posterize, solarize,
    stretch of every band to the whole range, rotation, shear and shift along either axis. Histogram equalisation, which
    the paper has too, is left out: it destroys what tells water from asphalt.

    Args:
        operations: Distortions an image, one after another.
        magnitude: From 0 (nothing) to 1: factors of 0.1 to 1.9, 30 degrees, shear by 0.3, shift by a third.

    Reference: Cubuk et al., RandAugment, 2020.
    """

    operations: int = pydantic.Field(2, ge=1, le=8)
    magnitude: float = pydantic.Field(0.5, ge=0, le=1)


class Augment(Settings):
    """What may be done to a training image, and how strongly. The default flips and does nothing else.

    The colour operations have torchvision's meaning (`ColorJitter`, `RandomGrayscale`) on images of 0 to 255, in a
    random order, clipped to [0, 255] after each. Geometry comes first (the crop, flips and quarter turns, then rotation
    and shift in one resampling), then the colour jitter, the random greyscale, RandAugment and the erasing; images are
    mixed last, within their batch.

    Args:
        horizontal_flip: Mirror left and right with probability one half.
        vertical_flip: Mirror top and bottom with probability one half.
        quarter_turns: Turn by 0, 90, 180 or 270 degrees, each as likely; what is in the image stays in it, which keeps
            shares of land cover true. Square images only.
        brightness: Range of the factor that multiplies the image, or one number d for (1 - d, 1 + d). None: off.
        contrast: Range of the factor that blends the image (1) with the mean of its grey version (0). With other than
            three bands the mean over all bands stands for the grey version.
        saturation: Range of the factor that blends the image (1) with its grey version (0). RGB only.
        hue: Largest shift of the hue, in turns of the colour circle: 0 (off) to 0.5. RGB only.
        greyscale: Probability of replacing the image by its grey version. RGB only.
        rotation: Largest angle in degrees, to either side. Pixels from outside repeat the nearest edge.
        width_shift: Largest shift to either side, as a fraction of the width.
        height_shift: Largest shift up or down, as a fraction of the height.
        crop: Share of the area that is cut out and stretched to the whole image: a range, such as (0.7, 1), or None.
        crop_ratio: Range of the cut's width to its height.
        randaugment: Further distortions, `{"operations": 2, "magnitude": 0.5}`, or None.
        erase: Probability of filling a rectangle of 2 to 20 % of the image with noise.
        mixup: Alpha of MixUp, such as 0.2; 0: off. Labels become shares, which terms that rank or compare labels
            (GRN, R4C) cannot take.
        cutmix: Alpha of CutMix, such as 1; 0: off.
        mixed: Fraction of the images that are mixed, where either is on.

    Reference: `torchvision.transforms.ColorJitter` and `RandomGrayscale`.
    """

    horizontal_flip: bool = True
    vertical_flip: bool = True
    quarter_turns: bool = False
    brightness: Range | None = None
    contrast: Range | None = None
    saturation: Range | None = None
    hue: float = pydantic.Field(0.0, ge=0.0, le=0.5)
    greyscale: float = pydantic.Field(0.0, ge=0.0, le=1.0)
    rotation: float = pydantic.Field(0.0, ge=0.0, le=180.0)
    width_shift: float = pydantic.Field(0.0, ge=0.0, lt=1.0)
    height_shift: float = pydantic.Field(0.0, ge=0.0, lt=1.0)
    crop: Range | None = None
    crop_ratio: Range = (1.0, 1.0)
    randaugment: RandAugment | None = None
    erase: float = pydantic.Field(0.0, ge=0.0, le=1.0)
    mixup: float = pydantic.Field(0.0, ge=0.0, le=100.0)
    cutmix: float = pydantic.Field(0.0, ge=0.0, le=100.0)
    mixed: float = pydantic.Field(1.0, ge=0.0, le=1.0)

    @property
    def mixes(self) -> bool:
        """Whether labels become shares."""
        return bool((self.mixup or self.cutmix) and self.mixed)

    @pydantic.field_validator("brightness", "contrast", "saturation", mode="before")
    @classmethod
    def _widen(cls, value: object) -> object:
        """One number means a range around 1, as in torchvision."""
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if value < 0:
                raise ValueError(f"expected a width of 0 or more, or a range (low, high), got {value}")
            return (0.0, math.inf) if value > 1e30 else (max(0.0, 1.0 - value), 1.0 + value)
        return value

    @pydantic.field_validator("brightness", "contrast", "saturation")
    @classmethod
    def _ordered(cls, value: Range | None) -> Range | None:
        if value is not None and not 0.0 <= value[0] <= value[1] < math.inf:
            raise ValueError(f"expected a range (low, high) with 0 <= low <= high, such as (0.6, 1.4), got {value}")
        return value

    @pydantic.field_validator("crop", "crop_ratio")
    @classmethod
    def _positive(cls, value: Range | None, field: pydantic.ValidationInfo) -> Range | None:
        most = 1.0 if field.field_name == "crop" else 10.0
        if value is not None and not 0.01 <= value[0] <= value[1] <= most:
            raise ValueError(f"expected a range (low, high) with 0.01 <= low <= high <= {most:g}, got {value}")
        return value


def check_shape(options: Augment, shape: tuple[int, int, int]) -> None:
    """Refuses what images of (height, width, bands) have no colours or no symmetry for."""
    height, width, bands = shape
    rgb_only = [name for name in ("saturation", "hue", "greyscale") if getattr(options, name)]
    if bands != 3 and rgb_only:
        raise UserError(
            f"augment: {', '.join(rgb_only)} need RGB images, these have {bands} bands; switch them off "
            "(brightness, contrast, flips, rotation and shifts work with any number of bands)"
        )
    if options.quarter_turns and height != width:
        raise UserError(f"augment.quarter_turns: needs square images, found {height} x {width}; switch it off")
