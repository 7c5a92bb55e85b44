"""From raw pixel values to the numbers that a backbone was trained on."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

# Each mode is (mean, scale) per red, green, blue for `(pixels - mean) / scale`.
MODES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "unit": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "tf": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "lite": ((127.0, 127.0, 127.0), (128.0, 128.0, 128.0)),
    "signed": ((128.0, 128.0, 128.0), (128.0, 128.0, 128.0)),
    "torch": ((0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255)),
    "caffe": ((123.68, 116.779, 103.939), (1.0, 1.0, 1.0)),
}


@keras.saving.register_keras_serializable("rsml")
class Preprocess(keras.layers.Layer):
    """Scales raw pixels of 0 to 255 as `(pixels - mean) / scale`, band by band.

    The numbers are kept in the config, so a saved model needs no table of modes. It computes in float32 under any
    dtype policy and hands on the policy's compute dtype.

    | mode | output | used by |
    |---|---|---|
    | `"none"` | pixels | networks that scale inside, such as EfficientNet |
    | `"unit"` | pixels / 255 | |
    | `"tf"` | pixels / 127.5 - 1 | MobileNet, Inception, Xception, NASNet, ResNetV2 |
    | `"lite"` | (pixels - 127) / 128 | EfficientNet-Lite |
    | `"signed"` | (pixels - 128) / 128 | EfficientNetV2-S, M, L |
    | `"torch"` | (pixels / 255 - mean) / deviation of ImageNet | torchvision, DenseNet, ConvNeXt |
    | `"caffe"` | BGR - mean of ImageNet | VGG, ResNet |
    | `"custom"` | (pixels - mean) / scale | |

    Bands beyond red, green and blue get the average of the three means and scales; a single band gets it too.

    Args:
        mode: One of the names above.
        bands: How many bands the images have.
        mean: What is subtracted, one number a band, in the order of the input. Default: the mode's.
        scale: What is divided by, one number a band. Default: the mode's.
        band_names: What the bands are called, in the order of the input, where that is known; it goes with the model.

    Input and output: `(batch, height, width, bands)`.

    Examples:
        >>> float(Preprocess("tf")(np.full((1, 8, 8, 3), 255))[0, 0, 0, 0])
        1.0
    """

    def __init__(
        self,
        mode: str = "none",
        bands: int = 3,
        mean: Sequence[float] | None = None,
        scale: Sequence[float] | None = None,
        band_names: Sequence[str] | None = None,
        **kwargs: Any,
    ):
        # Half precision would round the raw pixels before they are scaled.
        super().__init__(autocast=False, **kwargs)
        if mode != "custom" and mode not in MODES:
            raise ValueError(f"Preprocess mode must be one of {', '.join([*MODES, 'custom'])}; got {mode!r}.")
        if mode == "custom" and (mean is None or scale is None):
            raise ValueError("Preprocess mode 'custom' needs mean= and scale=, one number a band.")
        known_mean, known_scale = MODES.get(mode, MODES["none"])
        self.mode = mode
        self.bands = int(bands)
        self.mean = tuple(map(float, mean)) if mean is not None else extend(known_mean, self.bands)
        self.scale = tuple(map(float, scale)) if scale is not None else extend(known_scale, self.bands)
        self.band_names = tuple(band_names) if band_names else None
        for name, values in (("mean", self.mean), ("scale", self.scale), ("band_names", self.band_names or self.mean)):
            if len(values) != self.bands:
                raise ValueError(f"Preprocess {name} must have one number a band ({self.bands}); got {len(values)}.")
        if not all(self.scale):
            raise ValueError("Preprocess scale must not hold 0.")

    def build(self, input_shape: Any) -> None:
        if input_shape[-1] != self.bands:
            raise ValueError(f"Preprocess was made for {self.bands} bands; the images have {input_shape[-1]}.")

    def call(self, images: Any) -> Any:
        images = ops.cast(images, "float32")
        if self.mode != "none" or any(self.mean) or set(self.scale) != {1.0}:
            images = (images - ops.array(self.mean, "float32")) / ops.array(self.scale, "float32")
        if self.mode == "caffe" and self.bands >= 3:
            images = ops.take(images, [2, 1, 0, *range(3, self.bands)], axis=-1)
        return ops.cast(images, self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        config = {
            **super().get_config(),
            "mode": self.mode,
            "bands": self.bands,
            "mean": list(self.mean),
            "scale": list(self.scale),
        }
        return {**config, "band_names": list(self.band_names)} if self.band_names else config


def extend(values: Sequence[float], bands: int) -> tuple[float, ...]:
    """Returns one number a band: those given stay in front and further bands get the average, as 1 or 2 bands do."""
    average = sum(values) / len(values)
    kept = tuple(values[:bands]) if bands >= min(3, len(values)) else ()
    return kept + (average,) * (bands - len(kept))
