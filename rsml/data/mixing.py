"""MixUp and CutMix: images of a batch blended with, or pasted into, each other, and their labels in the same shares."""

from __future__ import annotations

import tensorflow as tf


def mix(
    images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, *, mixup: float, cutmix: float, share: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mixes every image with another one of its batch, as a pure function of the seed.

    Where both kinds are on, each image draws one of the two. A multi-hot label becomes the share of the image that
    shows it (CutMix) or its weight in the blend (MixUp), so that the loss stays a mean of the losses on either image.

    Args:
        images: `(batch, height, width, bands)` float32.
        labels: `(batch, labels)` float32.
        seed: `(2,)` integers.
        mixup: Alpha of the beta distribution that the blend's weight comes from; 0: no MixUp.
        cutmix: Alpha of the beta distribution that the pasted area comes from; 0: no CutMix.
        share: Fraction of the images that are mixed.

    Reference: Zhang et al., mixup, 2018; Yun et al., CutMix, 2019.
    """
    count, height, width = tf.unstack(tf.shape(images)[:3])
    draws = tf.unstack(tf.random.stateless_uniform([4, count], seed, alg="philox"), num=4)
    partners = tf.random.experimental.stateless_shuffle(tf.range(count), seed + 1)
    cut = draws[0] < (0.5 if mixup and cutmix else float(cutmix > 0))
    # The weight of the image itself; of a pasted rectangle's area, the rest.
    weight = tf.where(cut, _beta(cutmix, count, seed + 2), _beta(mixup, count, seed + 3))
    weight = tf.where(draws[1] < share, weight, 1.0)
    side = tf.sqrt(1.0 - weight)
    top, left = draws[2] * (1.0 - side), draws[3] * (1.0 - side)
    rows, columns = (tf.cast(tf.range(length), tf.float32)[None] + 0.5 for length in (height, width))
    inside_rows = _inside(rows / tf.cast(height, tf.float32), top, side)
    inside_columns = _inside(columns / tf.cast(width, tf.float32), left, side)
    pasted = tf.cast(inside_rows[:, :, None] & inside_columns[:, None], tf.float32)
    mask = tf.where(cut[:, None, None], 1.0 - pasted, weight[:, None, None])
    # What was really kept, in whole pixels.
    weight = tf.reduce_mean(mask, axis=[1, 2])[:, None]
    mask = mask[..., None]
    mixed = images * mask + tf.gather(images, partners) * (1.0 - mask)
    return mixed, labels * weight + tf.gather(labels, partners) * (1.0 - weight)


def _beta(alpha: float, count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    if not alpha:
        return tf.ones([count])
    first, second = (tf.random.stateless_gamma([count], seed + extra, alpha) for extra in (0, 7))
    return first / tf.maximum(first + second, 1e-12)


def _inside(places: tf.Tensor, start: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    return (places >= start[:, None]) & (places < (start + side)[:, None])
