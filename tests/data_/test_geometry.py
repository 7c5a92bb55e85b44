"""Affine maps, crops and erasing against numpy."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from rsml.data.geometry import affine, crop, erase, rectangle


def smooth(height=24, width=18, bands=2, seed=0):
    noise = np.random.default_rng(seed).normal(size=(height, width, bands))
    return (127 + 300 * ndimage.gaussian_filter(noise, (3, 3, 0))).astype(np.float32)


def test_an_affine_map_takes_each_pixel_from_where_its_matrix_says():
    image, matrix, shift = smooth(), np.array([[0.9, 0.2], [-0.1, 1.1]]), (0.1, -0.05)
    height, width, bands = image.shape
    found = affine(tf.constant(image), tuple(map(tuple, matrix.astype(np.float32))), shift).numpy()
    y, x = np.mgrid[:height, :width].astype(float)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    moved = np.stack([x, y], -1) - centre - [shift[0] * width, shift[1] * height]
    source = centre + moved @ matrix.T
    for band in range(bands):
        expected = ndimage.map_coordinates(image[..., band], [source[..., 1], source[..., 0]], order=1, mode="nearest")
        np.testing.assert_allclose(found[..., band], expected, atol=2e-2)


def test_a_crop_of_everything_changes_nothing_and_half_is_a_half():
    image = tf.constant(smooth())
    seed = tf.constant([3, 4], tf.int64)
    np.testing.assert_allclose(crop(image, (1.0, 1.0), (0.75, 0.75), seed), image, atol=1e-3)
    ramp = tf.constant(np.tile(np.arange(32, dtype=np.float32)[:, None, None], (1, 32, 1)))
    spans = []
    for number in range(40):
        cut = crop(ramp, (0.25, 0.25), (1.0, 1.0), tf.constant([1, number], tf.int64)).numpy()
        spans.append((cut.min(), cut.max()))
    spans = np.array(spans)
    np.testing.assert_allclose(spans[:, 1] - spans[:, 0], 31 / 2, atol=1e-3)
    assert spans[:, 0].min() < 2 and spans[:, 1].max() > 29


@pytest.mark.parametrize("width_to_height", [0.5, 1.0, 2.0])
def test_rectangles_keep_their_share_and_stay_inside(width_to_height):
    draws = np.random.default_rng(1).random((200, 4)).astype(np.float32)
    boxes = np.array([rectangle((0.1, 0.5), (0.5, 2.0), list(row), width_to_height) for row in draws])
    shares = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    np.testing.assert_allclose(shares, 0.1 + 0.4 * draws[:, 0], rtol=1e-4)
    assert boxes.min() >= -1e-6 and boxes.max() <= 1 + 1e-6


def test_erasing_fills_one_rectangle_as_often_as_asked():
    image = tf.fill([40, 40, 3], -1.0)
    erased = [erase(image, 0.5, tf.constant([5, number], tf.int64)).numpy() for number in range(80)]
    shares = np.array([(one >= 0).all(-1).mean() for one in erased])
    assert 25 <= np.count_nonzero(shares) <= 55
    assert shares[shares > 0].min() >= 0.01 and shares.max() <= 0.22
    for one in erased:
        inside = (one >= 0).all(-1)
        rows, columns = inside.any(1), inside.any(0)
        assert inside.sum() == rows.sum() * columns.sum()
