"""Move the pixels of one image: an affine map, a crop stretched back, a rectangle of noise."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from rsml.data.augment_options import Range

Matrix = tuple[tuple[Any, Any], tuple[Any, Any]]
_SAME = ((1.0, 0.0), (0.0, 1.0))


def affine(image: tf.Tensor, matrix: Matrix = _SAME, shift: tuple[Any, Any] = (0.0, 0.0)) -> tf.Tensor:
    """Maps an image about its centre, then shifts it; bilinear, pixels from outside repeat the nearest edge.

    A pixel comes from where the matrix says: source = centre + matrix (target - centre - shift), as (x, y).

    Args:
        image: `(height, width, bands)` float32, static shape.
        matrix: Rows of (x, y).
        shift: To the right and down, as fractions of width and height.
    """
    height, width, _ = image.shape
    (xx, xy), (yx, yy) = matrix
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    from_x, from_y = centre_x + shift[0] * width, centre_y + shift[1] * height
    offset_x = centre_x - xx * from_x - xy * from_y
    offset_y = centre_y - yx * from_x - yy * from_y
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack([xx, xy, offset_x, yx, yy, offset_y, 0.0, 0.0])[None],
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )
    return tf.ensure_shape(moved[0], image.shape)


def rectangle(shares: Range, ratios: Range, draws: list[tf.Tensor], width_to_height: float = 1.0) -> list[tf.Tensor]:
    """A random rectangle in the unit square as [top, left, bottom, right].

    Args:
        shares: Least and largest share of the area.
        ratios: Least and largest ratio of width to height, as pixels.
        draws: Four numbers from 0 to 1: share, ratio, place down, place across.
        width_to_height: Of the image.
    """
    share = shares[0] + (shares[1] - shares[0]) * draws[0]
    logarithms = [math.log(ratio) for ratio in ratios]
    ratio = tf.exp(logarithms[0] + (logarithms[1] - logarithms[0]) * draws[1]) / width_to_height
    # A side longer than the image is cut to it, so that the share is kept as nearly as the image allows.
    height = tf.clip_by_value(tf.sqrt(share / ratio), share, 1.0)
    width = tf.minimum(share / height, 1.0)
    top, left = draws[2] * (1.0 - height), draws[3] * (1.0 - width)
    return [top, left, top + height, left + width]


def crop(image: tf.Tensor, shares: Range, ratios: Range, seed: tf.Tensor) -> tf.Tensor:
    """Cuts a random rectangle out of `(height, width, bands)` and stretches it to the image's size, bilinear."""
    height, width, _ = image.shape
    draws = tf.unstack(tf.random.stateless_uniform([4], seed, alg="philox"), num=4)
    box = tf.stack(rectangle(shares, ratios, draws, width / height))
    cut = tf.image.crop_and_resize(tf.cast(image, tf.float32)[None], box[None], [0], [height, width])
    return tf.ensure_shape(cut[0], image.shape)


def erase(image: tf.Tensor, probability: float, seed: tf.Tensor) -> tf.Tensor:
    """Fills a random rectangle of 2 to 20 % of an image with noise, with some probability (random erasing)."""
    height, width, _ = image.shape
    draws = tf.unstack(tf.random.stateless_uniform([5], seed, alg="philox"), num=5)
    top, left, bottom, right = rectangle((0.02, 0.2), (0.3, 1 / 0.3), draws[1:], width / height)
    rows, columns = (tf.range(side, dtype=tf.float32) + 0.5 for side in (height, width))
    inside = _between(rows / height, top, bottom)[:, None] & _between(columns / width, left, right)[None]
    noise = tf.random.stateless_uniform(image.shape, seed + 1, 0.0, 255.0, alg="philox")
    return tf.where((inside & (draws[0] < probability))[..., None], noise, image)


def _between(values: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tf.Tensor:
    return (values >= low) & (values < high)
