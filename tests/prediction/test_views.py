"""Averaging over flips and quarter turns."""

import keras
import numpy as np
import pytest

from rsml.prediction.views import Views
from rsml.utils.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 6, 6, 3)).astype(np.float32)


def model(height=6, width=6):
    """Scores that depend on where a pixel lies."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((height, width, 3))
    outputs = keras.layers.Dense(4, activation="sigmoid")(keras.layers.Flatten()(inputs / 255))
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize("number", [1, 2, 4, 8])
def test_scores_are_the_mean_over_the_views(number):
    plain = model()
    sides = [IMAGES, IMAGES[:, :, ::-1], IMAGES[:, ::-1, ::-1], IMAGES[:, ::-1]]
    sides += [np.rot90(sides[0], k, (1, 2)) for k in (1, 3)] + [np.rot90(sides[1], k, (1, 2)) for k in (1, 3)]
    expected = np.mean([plain.predict(side, verbose=0) for side in sides[:number]], axis=0)
    np.testing.assert_allclose(Views(plain, number).predict(IMAGES, verbose=0), expected, atol=1e-6)


def test_eight_views_are_the_same_whichever_side_is_up():
    turned = np.rot90(IMAGES, 1, (1, 2))
    eight = Views(model(), 8)
    np.testing.assert_allclose(eight.predict(IMAGES, verbose=0), eight.predict(turned, verbose=0), atol=1e-6)


def test_what_cannot_be_turned_is_refused():
    with pytest.raises(UserError, match="square images, these are 6 x 8; take 4"):
        Views(model(6, 8), 8)
    with pytest.raises(UserError, match="expected 1, 2, 4 or 8, found 3"):
        Views(model(), 3)
