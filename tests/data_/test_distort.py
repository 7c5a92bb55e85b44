"""RandAugment's distortions against Pillow and numpy."""

import numpy as np
import pydantic
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from rsml.data.augment_options import RandAugment
from rsml.data.distort import DISTORTIONS, distort

PICTURE = np.random.default_rng(0).integers(0, 256, (16, 12, 3), dtype=np.uint8)


def changed(name, by):
    return np.clip(DISTORTIONS[name](tf.constant(PICTURE, tf.float32), tf.constant(by)).numpy(), 0, 255)


@pytest.mark.parametrize(
    ("name", "enhancer"),
    [("brightness", ImageEnhance.Brightness), ("saturation", ImageEnhance.Color), ("contrast", ImageEnhance.Contrast)],
)
@pytest.mark.parametrize("by", [-0.8, 0.5])
def test_colours_are_pillows(name, enhancer, by):
    expected = np.asarray(enhancer(Image.fromarray(PICTURE)).enhance(1 + 0.9 * by), np.float32)
    assert np.abs(changed(name, by) - expected).max() < 2.5


@pytest.mark.parametrize("by", [-0.8, 0.5])
def test_sharpness_is_pillows_within_the_border(by):
    expected = np.asarray(ImageEnhance.Sharpness(Image.fromarray(PICTURE)).enhance(1 + 0.9 * by), np.float32)
    assert np.abs(changed("sharpness", by) - expected)[1:-1, 1:-1].max() < 2.5


def test_levels_are_pillows():
    image = Image.fromarray(PICTURE)
    np.testing.assert_array_equal(changed("posterize", 0.75), np.asarray(ImageOps.posterize(image, 5)))
    np.testing.assert_array_equal(changed("solarize", -0.5), np.asarray(ImageOps.solarize(image, 128)))
    stretched = np.clip(PICTURE.astype(np.float32) * 0.5 + 30, 0, 255)
    found = DISTORTIONS["stretch"](tf.constant(stretched), tf.constant(0.1)).numpy()
    np.testing.assert_allclose([found.min(axis=(0, 1)), found.max(axis=(0, 1))], [[0] * 3, [255] * 3], atol=1e-3)


def test_nothing_at_strength_zero():
    for name in set(DISTORTIONS) - {"stretch", "none"}:
        np.testing.assert_allclose(changed(name, 0.0), PICTURE, atol=1e-2, err_msg=name)


def test_every_distortion_is_drawn_and_the_seed_decides_all():
    image = tf.constant(PICTURE, tf.float32)
    options = RandAugment(operations=1, magnitude=1.0)
    results = [distort(image, options, tf.constant([2, number], tf.int64)).numpy() for number in range(120)]
    again = distort(image, options, tf.constant([2, 7], tf.int64)).numpy()
    np.testing.assert_array_equal(results[7], again)
    unchanged = sum(np.array_equal(result, PICTURE) for result in results)
    assert 2 <= unchanged <= 25
    assert len({result.tobytes() for result in results}) > 90
    four_bands = tf.constant(np.random.default_rng(0).random((8, 8, 4)) * 255, tf.float32)
    assert distort(four_bands, RandAugment(operations=3), tf.constant([0, 1], tf.int64)).shape == (8, 8, 4)


def test_impossible_options_are_refused():
    with pytest.raises(pydantic.ValidationError):
        RandAugment(magnitude=1.5)
    with pytest.raises(pydantic.ValidationError):
        RandAugment(operations=0)
