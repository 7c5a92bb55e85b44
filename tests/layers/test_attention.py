"""Attention, tokens and pooling against plain numpy and against numbers made by hand."""

import importlib
import pkgutil

import keras
import numpy as np
import pytest

import rsml.models
from rsml.layers import (
    AdaptiveAveragePool,
    LayerScale,
    MapToTokens,
    SelfAttention,
    Tokens,
    TokensToMap,
    WindowAttention,
)
from rsml.layers.attention import rotation
from rsml.layers.tokens import interpolation


def filled(layer, shape):
    """The layer, built, with random weights."""
    layer.build(shape)
    random = np.random.default_rng(0)
    layer.set_weights([random.normal(0, 0.5, weight.shape) for weight in layer.weights])
    return layer


def attend(x, weights, heads, bias=0.0):
    """Softmax attention of tokens (tokens, channels), head by head."""
    qkv_weight, qkv_bias, proj_weight, proj_bias = weights
    width = x.shape[1] // heads
    query, key, value = np.split(x @ qkv_weight + qkv_bias, 3, axis=1)
    mixed = []
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        scores = query[:, own] @ key[:, own].T / np.sqrt(width) + (bias[head] if np.ndim(bias) else bias)
        share = np.exp(scores - scores.max(1, keepdims=True))
        mixed.append(share / share.sum(1, keepdims=True) @ value[:, own])
    return np.concatenate(mixed, 1) @ proj_weight + proj_bias


def test_self_attention_is_softmax_of_scaled_products():
    layer = filled(SelfAttention(heads=2), (None, 5, 8))
    x = np.random.default_rng(1).normal(size=(2, 5, 8))
    expected = [attend(tokens, layer.get_weights(), 2) for tokens in x]
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)


def test_one_window_is_self_attention_with_a_bias_for_each_relative_place():
    layer = filled(WindowAttention(heads=2, window=3, shift=1), (None, 3, 3, 8))
    *weights, table = layer.get_weights()
    places = np.stack(np.divmod(np.arange(9), 3), 1)
    apart = places[:, None] - places[None] + 2
    bias = table[apart[..., 0] * 5 + apart[..., 1]].transpose(2, 0, 1)
    x = np.random.default_rng(1).normal(size=(1, 3, 3, 8))
    expected = attend(x.reshape(9, 8), weights, 2, bias).reshape(1, 3, 3, 8)
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)  # a window as large as the map is not shifted


@pytest.mark.parametrize("cosine", [False, True])
def test_shifted_windows_keep_what_the_shift_brought_together_apart(cosine):
    layer = filled(WindowAttention(heads=2, window=4, shift=2, cosine=cosine), (None, 8, 8, 8))
    x = np.random.default_rng(1).normal(size=(1, 8, 8, 8)).astype("float32")
    before = np.asarray(layer(x))
    x[0, 0, 0] += 10  # its window, shifted by 2, is the corner of 2 x 2
    changed = np.abs(np.asarray(layer(x)) - before).max(-1)[0] > 1e-4
    expected = np.zeros((8, 8), bool)
    expected[:2, :2] = True
    np.testing.assert_array_equal(changed, expected)


def test_rotary_products_depend_on_relative_place_alone():
    sine, cosine = rotation(6, 4, 16)
    query, key = np.random.default_rng(0).normal(size=(2, 16))

    def turned(x, place):
        return x * cosine[place] + np.concatenate([-x[8:], x[:8]]) * sine[place]

    one, two = (turned(query, place) @ turned(key, place + 5) for place in (0, 4 * 2 + 2))  # a row and a column on
    assert one == pytest.approx(two, abs=1e-5)
    assert abs(one - query @ key) > 1e-2


def test_interpolation_is_pillows():
    Image = pytest.importorskip("PIL.Image")
    row = np.random.default_rng(0).normal(size=(1, 14)).astype("float32")
    for after in (5, 14, 37):
        expected = np.asarray(Image.fromarray(row).resize((after, 1), Image.Resampling.BICUBIC))[0]
        np.testing.assert_allclose(interpolation(14, after) @ row[0], expected, atol=1e-5)
    np.testing.assert_array_equal(interpolation(7, 7), np.eye(7))


def test_tokens_of_another_grid_have_interpolated_positions():
    layer = filled(Tokens(registers=2), (None, 4, 4, 6))
    patches = np.zeros((2, 3, 5, 6), "float32")
    tokens = np.asarray(layer(patches))
    cls_token, pos_embed, reg_token = layer.get_weights()
    np.testing.assert_allclose(tokens[1, 0], cls_token[0, 0] + pos_embed[0, 0], atol=1e-6)
    np.testing.assert_allclose(tokens[1, 1:3], reg_token[0], atol=1e-6)
    grid = np.einsum("ai,bj,ijc->abc", interpolation(4, 3), interpolation(4, 5), pos_embed[0, 1:].reshape(4, 4, 6))
    np.testing.assert_allclose(tokens[1, 3:], grid.reshape(15, 6), atol=1e-5)
    # What it is saved with: the grid of its positions, not of the last images.
    assert Tokens.from_config(layer.get_config()).grid == (4, 4)


def test_map_and_tokens_are_inverse():
    tokens = np.random.default_rng(0).normal(size=(1, 2 + 12, 5)).astype("float32")
    patches = np.zeros((1, 3, 4, 9), "float32")
    laid_out = TokensToMap()([tokens, patches])
    np.testing.assert_array_equal(laid_out[0, 1, 2], tokens[0, 2 + 6])
    np.testing.assert_array_equal(MapToTokens()([tokens, laid_out]), tokens)


def test_adaptive_pool_covers_the_map():
    x = np.arange(5.0)[None, :, None, None] + 10 * np.arange(3.0)[None, None, :, None]
    pooled = np.asarray(AdaptiveAveragePool(2)(x))[0, :, :, 0]
    # Rows 0-2 and 2-4, columns 0-1 and 1-2: windows that share a row or column.
    np.testing.assert_allclose(pooled, [[1 + 5, 1 + 15], [3 + 5, 3 + 15]])
    np.testing.assert_allclose(np.asarray(AdaptiveAveragePool(5)(x))[0, :, 0, 0], np.arange(5.0))  # columns repeat


def test_layer_scale():
    layer = LayerScale(0.5)
    np.testing.assert_allclose(layer(np.full((1, 2, 3), 4.0)), np.full((1, 2, 3), 2.0))
    assert keras.layers.deserialize(keras.layers.serialize(layer)).start == 0.5


def test_whatever_a_saved_model_may_hold_is_registered_by_the_layers():
    """`import rsml.layers` is what a person is told to write before plain `keras.models.load_model`."""
    for module in pkgutil.walk_packages(rsml.models.__path__, "rsml.models."):
        importlib.import_module(module.name)
    registered = [item for name, item in keras.saving.get_custom_objects().items() if name.startswith("rsml>")]
    assert len(registered) > 20
    elsewhere = {item.__name__ for item in registered if not item.__module__.startswith(("rsml.layers", "rsml.losses"))}
    assert elsewhere <= {"Schedule"}  # of training alone
