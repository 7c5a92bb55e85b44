"""RandAugment: a few distortions of an image, drawn from a list, each a stateless function of a seed."""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

from rsml.data.augment_options import RandAugment
from rsml.data.colour import blend, clip, mean_grey, saturate
from rsml.data.geometry import affine

SHARPEN = ((1.0, 1.0, 1.0), (1.0, 5.0, 1.0), (1.0, 1.0, 1.0))


def distort(image: tf.Tensor, options: RandAugment, seed: tf.Tensor) -> tf.Tensor:
    """Distorts an image at random, as a pure function of the seed.

    Args:
        image: `(height, width, bands)` float32, static shape, values 0 to 255.
        options: How many and how strong.
        seed: `(2,)` integers.
    """
    shape = image.shape
    names = [name for name in DISTORTIONS if name != "saturation" or shape[-1] == 3]
    draws = tf.random.stateless_uniform([options.operations, 2], seed, alg="philox")
    for step in range(options.operations):
        which = tf.cast(draws[step, 0] * len(names), tf.int32)
        # Strength to either side, so that brighter and darker, left and right are as likely.
        strength = options.magnitude * (2.0 * draws[step, 1] - 1.0)
        branches = [lambda name=name, image=image, by=strength: DISTORTIONS[name](image, by) for name in names]
        image = tf.ensure_shape(clip(tf.switch_case(which, branches)), shape)
    return image


def _factor(by: tf.Tensor) -> tf.Tensor:
    """The image as it is at `by` 0, nearly without the quality at -1, with as much more of it at 1."""
    return 1.0 + 0.9 * by


def _smoothed(image: tf.Tensor) -> tf.Tensor:
    bands = image.shape[-1]
    kernel = tf.tile(tf.constant(SHARPEN)[:, :, None, None] / 13.0, [1, 1, bands, 1])
    padded = tf.pad(image, [[1, 1], [1, 1], [0, 0]], mode="SYMMETRIC")
    return tf.nn.depthwise_conv2d(padded[None], kernel, [1, 1, 1, 1], "VALID")[0]


def _posterize(image: tf.Tensor, by: tf.Tensor) -> tf.Tensor:
    # From eight bits down to four.
    step = 2.0 ** tf.round(4.0 * tf.abs(by))
    return tf.floor(image / step) * step


def _solarize(image: tf.Tensor, by: tf.Tensor) -> tf.Tensor:
    return tf.where(image > 255.0 * (1.0 - tf.abs(by)), 255.0 - image, image)


def _stretch(image: tf.Tensor, by: tf.Tensor) -> tf.Tensor:
    low, high = (extreme(image, axis=[0, 1], keepdims=True) for extreme in (tf.reduce_min, tf.reduce_max))
    return tf.where(high > low, (image - low) * 255.0 / tf.maximum(high - low, 1.0), image)


def _rotate(image: tf.Tensor, by: tf.Tensor) -> tf.Tensor:
    angle = by * math.radians(30)
    return affine(image, ((tf.cos(angle), -tf.sin(angle)), (tf.sin(angle), tf.cos(angle))))


DISTORTIONS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "none": lambda image, by: tf.identity(image),
    "brightness": lambda image, by: image * _factor(by),
    "contrast": lambda image, by: blend(image, mean_grey(image), _factor(by)),
    "saturation": lambda image, by: saturate(image, _factor(by)),
    "sharpness": lambda image, by: blend(image, _smoothed(image), _factor(by)),
    "posterize": _posterize,
    "solarize": _solarize,
    "stretch": _stretch,
    "rotation": _rotate,
    "shear_x": lambda image, by: affine(image, ((1.0, 0.3 * by), (0.0, 1.0))),
    "shear_y": lambda image, by: affine(image, ((1.0, 0.0), (0.3 * by, 1.0))),
    "shift_x": lambda image, by: affine(image, shift=(by / 3.0, 0.0)),
    "shift_y": lambda image, by: affine(image, shift=(0.0, by / 3.0)),
}
