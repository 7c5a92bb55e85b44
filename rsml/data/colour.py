"""The colours of one image of 0 to 255: blended with another one, with its grey; as torchvision has them."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

# ITU-R 601 luma as torchvision rounds it (rgb_to_grayscale); the three do not sum to one there either.
LUMA = (0.2989, 0.587, 0.114)


def clip(image: tf.Tensor) -> tf.Tensor:
    """Within 0 and 255."""
    return tf.clip_by_value(image, 0.0, 255.0)


def blend(image: tf.Tensor, other: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """The image at factor 1, the other one at 0, as far beyond the image at 2."""
    return image * factor + other * (1.0 - factor)


def mean_grey(image: tf.Tensor) -> tf.Tensor:
    """Mean of the grey image: the luma of the mean colour. Over whole rows first, which runs several times faster."""
    height, width, bands = image.shape
    rows = tf.reduce_mean(tf.reshape(image, [height, width * bands]), axis=0)
    mean_colour = tf.reduce_mean(tf.reshape(rows, [width, bands]), axis=0)
    return tf.reduce_sum(mean_colour * LUMA) if bands == 3 else tf.reduce_mean(mean_colour)


def saturate(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Blend with the grey image, as one matrix on the colours: factor I + (1 - factor) (luma to all three).

    Four pixels at a time (a block-diagonal 12 x 12 matrix) where their number allows: twice as fast as 3 x 3.
    """
    height, width, _ = image.shape
    together = 4 if height * width % 4 == 0 else 1
    to_grey = np.kron(np.eye(together), np.tile(np.array(LUMA)[:, None], (1, 3))).astype("float32")
    matrix = blend(np.eye(3 * together, dtype="float32"), to_grey, factor)
    mixed = tf.reshape(image, [-1, 3 * together]) @ matrix
    return clip(tf.reshape(mixed, image.shape))
