"""SqueezeExcite against its formula."""

import numpy as np
import pytest

from rsml.layers import SqueezeExcite
from tests.layers.checks import check_layer

FEATURES = np.random.default_rng(0).normal(0.5, 1, size=(3, 4, 5, 12)).astype("float32")


def test_layer_is_its_formula():
    layer = SqueezeExcite(ratio=4)
    outputs = layer(FEATURES)
    squeeze, squeeze_bias, excite, excite_bias = (weight.numpy() for weight in layer.weights)
    assert squeeze.shape == (12, 3)
    hidden = np.maximum(FEATURES.mean((1, 2)) @ squeeze + squeeze_bias, 0)
    gate = 1 / (1 + np.exp(-(hidden @ excite + excite_bias)))
    np.testing.assert_allclose(outputs, FEATURES * gate[:, None, None], rtol=1e-5)


def test_variant_without_biases():
    layer = SqueezeExcite(ratio=6, use_bias=False, kernel_initializer="he_normal")
    layer.build((None, None, None, 600))
    squeeze, excite = (weight.numpy() for weight in layer.weights)
    assert squeeze.shape == (600, 100)
    assert squeeze.std() == pytest.approx((2 / 600) ** 0.5, rel=0.03)
    assert excite.std() == pytest.approx((2 / 100) ** 0.5, rel=0.03)


def test_small_feature_maps_keep_one_hidden_unit():
    layer = SqueezeExcite(ratio=16)
    layer.build((None, 4, 4, 12))
    assert layer.weights[0].shape == (12, 1)


def test_life_of_the_layer(tmp_path):
    check_layer(SqueezeExcite(3, use_bias=False, activation="tanh", gate="softmax"), FEATURES, tmp_path)
    check_layer(SqueezeExcite(3), FEATURES.reshape(3, 20, 12), tmp_path)


@pytest.mark.parametrize("shape", [(None, 12), (None, 4, 4, None)])
def test_inputs_without_channels(shape):
    with pytest.raises(ValueError, match="known channels"):
        SqueezeExcite().build(shape)


def test_bad_ratio():
    with pytest.raises(ValueError, match="ratio"):
        SqueezeExcite(ratio=0)
