"""MixUp and CutMix: what becomes of pixels and labels."""

import numpy as np
import pytest
import tensorflow as tf

from rsml.data.mixing import mix

COUNT = 64
# Image k is k everywhere, label k is its own: both say what was mixed in.
IMAGES = tf.constant(np.broadcast_to(np.arange(COUNT, dtype=np.float32)[:, None, None, None], (COUNT, 10, 8, 2)))
LABELS = tf.eye(COUNT)
SEED = tf.constant([1, 2], tf.int64)


def mixed(**options):
    images, labels = mix(IMAGES, LABELS, SEED, **{"mixup": 0.0, "cutmix": 0.0, "share": 1.0, **options})
    return images.numpy(), labels.numpy()


def test_mixup_blends_images_as_it_blends_labels():
    images, labels = mixed(mixup=1.0)
    np.testing.assert_allclose(images[:, 0, 0, 0], labels @ np.arange(COUNT), rtol=1e-4)
    assert np.ptp(images, axis=(1, 2, 3)).max() < 1e-4
    weights = np.diag(labels)
    assert 0.3 < weights.mean() < 0.7 and weights.std() > 0.2


def test_cutmix_pastes_one_rectangle_and_labels_have_its_share():
    images, labels = mixed(cutmix=1.0)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        own = image[..., 0] == number
        others = set(np.unique(image)) - {float(number)}
        assert len(others) <= 1 and label[number] == pytest.approx(own.mean(), abs=1e-6)
        pasted = ~own
        assert pasted.sum() == pasted.any(0).sum() * pasted.any(1).sum()
    np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
    assert np.diag(labels).std() > 0.15


def test_only_some_are_mixed_and_both_kinds_occur():
    images, labels = mixed(mixup=1.0, share=0.25)
    untouched = np.isclose(np.diag(labels), 1)
    assert 36 <= untouched.sum() <= 60
    np.testing.assert_allclose(images[untouched][:, 0, 0, 0], np.flatnonzero(untouched), atol=1e-4)
    images, _ = mixed(mixup=1.0, cutmix=1.0)
    pasted = np.ptp(images, axis=(1, 2, 3)) > 1e-3
    assert 15 <= pasted.sum() <= 49


def test_a_batch_of_one_stays_itself():
    images, labels = mix(IMAGES[:1], LABELS[:1], SEED, mixup=0.4, cutmix=0.0, share=1.0)
    np.testing.assert_allclose(images, IMAGES[:1])
    np.testing.assert_allclose(labels, LABELS[:1])
