"""Flips, colour jitter, rotation and shift: each a stateless function of a seed, with colours as torchvision."""

import math
from typing import NamedTuple

import tensorflow as tf

from rsml.data.augment_options import COLOUR_OPERATIONS, Augment, Range, check_shape
from rsml.data.colour import blend, clip, mean_grey, saturate
from rsml.data.distort import distort
from rsml.data.geometry import affine, crop, erase

# Every further operation draws from a seed of its own, so that switching it on leaves all else as it was.
_CROP, _DISTORT, _ERASE = 101, 102, 103


class Factors(NamedTuple):
    """What `draw_factors` drew for one image; all scalars but the order."""

    horizontal_flip: tf.Tensor  # bool
    vertical_flip: tf.Tensor  # bool
    brightness: tf.Tensor
    contrast: tf.Tensor
    saturation: tf.Tensor
    hue: tf.Tensor  # turns
    greyscale: tf.Tensor  # bool
    angle: tf.Tensor  # radians, counter-clockwise
    shift_x: tf.Tensor  # fraction of the width, to the right
    shift_y: tf.Tensor  # fraction of the height, downwards
    quarters: tf.Tensor  # int32, quarter turns counter-clockwise
    order: tf.Tensor  # (operations,) int32: positions in `colour_operations(options)`


def colour_operations(options: Augment) -> tuple[str, ...]:
    """The colour operations that are on, in the order that `Factors.order` counts them."""
    return tuple(name for name in COLOUR_OPERATIONS if getattr(options, name))


def draw_factors(options: Augment, seed: tf.Tensor) -> Factors:
    """Draw everything random about one image.

    Every factor has its own place in the draw, so switching one operation on leaves the others as they were.

    Args:
        options: What may be done.
        seed: (2,) integers.
    """
    draws = tf.unstack(tf.random.stateless_uniform([15], seed, alg="philox"), num=15)

    def within(limits: Range | None, draw: tf.Tensor) -> tf.Tensor:
        low, high = limits or (1.0, 1.0)
        return low + (high - low) * draw

    def either_side(limit: float, draw: tf.Tensor) -> tf.Tensor:
        return within((-limit, limit), draw)

    ranks = [draws[10 + COLOUR_OPERATIONS.index(name)] for name in colour_operations(options)]
    return Factors(
        horizontal_flip=tf.logical_and(options.horizontal_flip, draws[0] < 0.5),
        vertical_flip=tf.logical_and(options.vertical_flip, draws[1] < 0.5),
        brightness=within(options.brightness, draws[2]),
        contrast=within(options.contrast, draws[3]),
        saturation=within(options.saturation, draws[4]),
        hue=either_side(options.hue, draws[5]),
        greyscale=draws[6] < options.greyscale,
        angle=either_side(math.radians(options.rotation), draws[7]),
        shift_x=either_side(options.width_shift, draws[8]),
        shift_y=either_side(options.height_shift, draws[9]),
        quarters=tf.cast(4 * draws[14], tf.int32) if options.quarter_turns else tf.constant(0),
        order=tf.argsort(tf.stack(ranks)) if ranks else tf.zeros([0], tf.int32),
    )


def augment(image: tf.Tensor, options: Augment, seed: tf.Tensor) -> tf.Tensor:
    """Change an image at random, as a pure function of the seed.

    Args:
        image: (height, width, bands), static shape, values 0 to 255 of any type.
        options: What may be done.
        seed: (2,) integers; the same seed gives the same image, whatever ran before or beside.

    Returns:
        (height, width, bands) float32, values 0 to 255.
    """
    seed = tf.convert_to_tensor(seed, tf.int64)
    check_shape(options, tuple(image.shape))
    if options.crop:
        image = crop(image, options.crop, options.crop_ratio, seed + _CROP)
    image = apply_factors(image, options, draw_factors(options, seed))
    if options.randaugment:
        image = distort(image, options.randaugment, seed + _DISTORT)
    return erase(image, options.erase, seed + _ERASE) if options.erase else image


def apply_factors(image: tf.Tensor, options: Augment, factors: Factors) -> tf.Tensor:
    """Change an image by factors already drawn; see `augment`."""
    check_shape(options, tuple(image.shape))
    if options.horizontal_flip or options.vertical_flip:
        # One reversal for both axes, before the cast: a quarter of the bytes.
        flips = tf.stack([factors.vertical_flip, factors.horizontal_flip, False])
        image = tf.ensure_shape(tf.raw_ops.Reverse(tensor=image, dims=flips), image.shape)
    if options.quarter_turns:
        image = tf.ensure_shape(tf.image.rot90(image, factors.quarters), image.shape)
    image = tf.cast(image, tf.float32)
    if options.rotation or options.width_shift or options.height_shift:
        cosine, sine = tf.cos(factors.angle), tf.sin(factors.angle)
        image = affine(image, ((cosine, -sine), (sine, cosine)), (factors.shift_x, factors.shift_y))
    image = _jitter_colour(image, colour_operations(options), factors)
    if options.greyscale:
        image = tf.cond(factors.greyscale, lambda: saturate(image, tf.constant(0.0)), lambda: image)
    return image


def _jitter_colour(image: tf.Tensor, names: tuple[str, ...], factors: Factors) -> tf.Tensor:
    operations = {
        "brightness": lambda image: clip(image * factors.brightness),
        "contrast": lambda image: clip(blend(image, mean_grey(image), factors.contrast)),
        "saturation": lambda image: saturate(image, factors.saturation),
        "hue": lambda image: tf.image.adjust_hue(image, factors.hue),
    }

    def step(image: tf.Tensor, which: tf.Tensor) -> tf.Tensor:
        result = tf.switch_case(which, [lambda name=name: operations[name](image) for name in names])
        return tf.ensure_shape(result, image.shape)

    for position in range(len(names)):
        image = operations[names[0]](image) if len(names) == 1 else step(image, factors.order[position])
    return image
