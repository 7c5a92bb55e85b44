"""The two forms of the interleaving against the formula in float64, in value, gradient, sharpness and memory."""

import numpy as np
import pytest
import tensorflow as tf

from rsml.layers import interleaving
from rsml.layers.interleaving import (
    cell_width,
    cells_needed,
    interleave_exact,
    interleave_full,
    interleave_interpolated,
)

FORMS = [interleave_exact, interleave_interpolated]


def arrays(batch=3, heads=2, channels=150, logit_range=6.0, seed=0):
    """Returns z, slope, offset, and a weight of each output; the logits of a head move by `logit_range` over z."""
    generator = np.random.default_rng(seed)
    z = np.maximum(generator.normal(0.5, 0.4, (batch, channels)), 0)
    slope = generator.normal(size=(heads, channels))
    slope *= logit_range / (np.ptp(z) * np.ptp(slope, axis=1).max())
    offset = 2 * generator.normal(size=(heads, channels))
    return z, slope, offset, generator.normal(size=(batch, heads, channels))


def plain(z, slope, offset):
    weights = tf.nn.softmax(z[:, None, :, None] * slope[:, None] + offset[:, None])
    return tf.einsum("bhde,be->bhd", weights, z)


def value_and_gradients(function, inputs, upstream, dtype):
    inputs = [tf.constant(x, dtype) for x in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = function(*inputs)
        loss = tf.reduce_sum(outputs * tf.constant(upstream, dtype))
    return [outputs.numpy(), *(x.numpy() for x in tape.gradient(loss, inputs))]


def assert_agree(function, *inputs, reference=plain, tolerance=1e-5):
    *inputs, upstream = inputs
    expected = value_and_gradients(reference, inputs, upstream, tf.float64)
    for got, wanted in zip(value_and_gradients(function, inputs, upstream, tf.float32), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * np.abs(wanted).max() + 1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("logit_range", [1e-3, 1.0, 6.0, 40.0, 300.0])
def test_value_and_gradient(form, logit_range):
    assert_agree(form, *arrays(logit_range=logit_range), tolerance=3e-5 if logit_range > 100 else 1e-5)


@pytest.mark.parametrize("nodes", [6, 11, 16, 32, 64])
def test_the_number_of_nodes_does_not_decide_about_accuracy(nodes):
    inputs = arrays(channels=400, logit_range=20)
    assert_agree(lambda *x: interleave_interpolated(*x, nodes=nodes), *inputs)


@pytest.mark.parametrize("block", [1, 150**2, 2 * 150**2, 5 * 150**2, 10**9])
def test_the_size_of_the_blocks_changes_nothing(block):
    inputs = arrays(batch=4)
    assert_agree(lambda *x: interleave_exact(*x, block=block), *inputs)


def test_no_more_than_a_block_is_in_memory():
    sizes = []

    def watch(logits):
        sizes.append(int(tf.size(logits)))
        return original(logits)

    original, tf.nn.softmax = tf.nn.softmax, watch
    try:
        assert_agree(lambda *x: interleave_exact(*x, block=2 * 150**2), *arrays(batch=5), reference=interleave_exact)
    finally:
        tf.nn.softmax = original
    assert max(sizes[len(sizes) // 2 :]) <= 2 * 150**2


@pytest.mark.parametrize("form", FORMS)
def test_inputs_without_spread(form):
    z, slope, offset, upstream = arrays()
    assert_agree(form, np.full_like(z, 0.3), slope, offset, upstream)
    assert_agree(form, z, np.zeros_like(slope), offset, upstream)
    assert_agree(form, z, slope + 3.0, offset, upstream)


@pytest.mark.parametrize("form", FORMS)
def test_one_image_and_none(form):
    assert_agree(form, *arrays(batch=1))
    z, slope, offset, _ = (x.astype("float32") for x in arrays())
    assert form(z[:0], slope, offset).shape == (0, 2, 150)


@pytest.mark.parametrize("form", FORMS)
def test_not_a_number_is_passed_on(form):
    z, slope, offset, _ = (x.astype("float32") for x in arrays())
    z[0, 0] = np.nan
    assert np.isnan(form(z, slope, offset)[0]).any()


@pytest.mark.parametrize("form", FORMS)
def test_under_a_graph_of_unknown_batch(form):
    z, slope, offset, _ = (x.astype("float32") for x in arrays())
    compiled = tf.function(form, input_signature=[tf.TensorSpec((None, 150)), *[tf.TensorSpec((2, 150))] * 2])
    for batch in (1, 3):
        np.testing.assert_allclose(
            compiled(z[:batch], slope, offset), plain(*map(tf.constant, (z[:batch], slope, offset))), rtol=1e-5
        )


def test_the_companions_of_an_image_do_not_matter():
    z, slope, offset, _ = (x.astype("float32") for x in arrays(batch=4))
    together, alone = interleave_interpolated(z, slope, offset), interleave_interpolated(z[:1], slope, offset)
    np.testing.assert_allclose(together[:1], alone, atol=2e-6)


@pytest.mark.parametrize("nodes", [8, 16, 32])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-6])
def test_the_bound_holds_for_the_worst_attention(nodes, tolerance):
    """Two groups of channels make the softmax a logistic curve, whose poles are as near as the proof allows."""
    half = cell_width(nodes, tolerance) / 2
    points = half * np.cos(np.pi * (np.arange(nodes) + 0.5) / nodes)
    worst = 0.0
    for shift in np.linspace(-half, half, 9):
        curve = np.polynomial.Chebyshev.fit(points, np.tanh((points - shift) / 2), nodes - 1, domain=(-half, half))
        fine = np.linspace(-half, half, 2001)
        worst = max(worst, np.abs(curve(fine) - np.tanh((fine - shift) / 2)).max())
    assert worst <= tolerance
    assert worst > tolerance / 300  # the bound is no waste of nodes


def test_sharp_attention_takes_more_cells_then_the_exact_form(monkeypatch):
    z, slope, offset, _ = (x.astype("float32") for x in arrays(channels=600, logit_range=1.0))
    counts = [int(cells_needed(z, factor * slope, 16)) for factor in (1, 20, 300)]
    assert counts[0] == 1
    assert counts[1] == int(np.ceil(20 / cell_width(16)))
    assert counts[1] * 16 <= 600 < counts[2] * 16
    taken = []
    for name in ("_exact", "_interpolated"):
        original = getattr(interleaving, name)
        monkeypatch.setattr(
            interleaving, name, lambda *x, name=name, original=original: taken.append(name) or original(*x)
        )
    for factor in (1, 20, 300):
        interleave_interpolated(z, factor * slope, offset)
    assert taken == ["_interpolated", "_interpolated", "_exact"]


@pytest.mark.parametrize("block", [1, 3 * 40**2, 10**9])
def test_full_expansion(block):
    generator = np.random.default_rng(4)
    queries, keys = generator.normal(size=(2, 3, 40, 5)), generator.normal(size=(2, 5, 40))
    values, upstream = generator.normal(size=(2, 3, 40)), generator.normal(size=(3, 2, 40))

    def plain(queries, keys, values):
        weights = tf.nn.softmax(tf.einsum("hbdc,hce->hbde", queries, keys))
        return tf.einsum("hbde,hbe->bhd", weights, values)

    assert_agree(lambda *x: interleave_full(*x, block=block), queries, keys, values, upstream, reference=plain)
