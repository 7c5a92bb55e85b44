import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from rsml.losses import scalable_neighbor_loss

DATA = Path(__file__).parents[1] / "data"
OUTSIDE = Path(os.environ.get("RSML_TEST_DATA", "/nonexistent")) / "golden"


def summands(features, index, memory, labels, temperature=0.05, margin=0.0):
    """The method sheet's formula, image by image in float64; 0 for an image without mass."""
    losses = []
    for f, i in zip(np.asarray(features, np.float64), index, strict=True):
        others = np.delete(np.arange(len(memory)), i)
        powers = np.exp(memory[others].astype(np.float64) @ f / temperature)
        p = powers / powers.sum()
        w = 1 - (labels[others] != labels[i]).mean(axis=1)
        mass, rest = (w * p).sum() / np.exp(margin / temperature), ((1 - w) * p).sum()
        losses.append(-np.log(mass / (mass + rest)) if mass > 0 else 0.0)
    return np.array(losses)


def random_case(images=23, batch=6, labels=5, dim=8, seed=0):
    random = np.random.default_rng(seed)
    memory = random.normal(size=(images, dim))
    features = random.normal(size=(batch, dim))
    return (
        features / np.linalg.norm(features, axis=1, keepdims=True),
        random.integers(0, images, batch),
        (memory / np.linalg.norm(memory, axis=1, keepdims=True)).astype("float32"),
        (random.random((images, labels)) < 0.4).astype("uint8"),
    )


def with_gradient(features, *arguments, dtype="float32", **options):
    features = tf.constant(features, dtype)
    with tf.GradientTape() as tape:
        tape.watch(features)
        loss = scalable_neighbor_loss(features, *arguments, **options)
    return loss.numpy(), tape.gradient(loss, features).numpy()


@pytest.mark.parametrize(
    "path", [DATA / "grn_0.npz", OUTSIDE / "grn_1.npz", DATA / "grn_2.npz"], ids=lambda path: path.stem
)
@pytest.mark.parametrize("step", [0, 1, 2])
def test_equals_the_published_code(path, step):
    if not path.exists():
        pytest.skip("set RSML_TEST_DATA to the folder of recordings")
    recorded = np.load(path)
    arguments = (recorded[f"{name}_{step}"] for name in ("feature", "index", "memory"))
    options = {name: float(recorded[name]) for name in ("temperature", "margin")}
    loss, gradient = with_gradient(*arguments, recorded["labels"], **options)
    np.testing.assert_allclose(loss, recorded[f"loss_{step}"], rtol=1e-6)
    np.testing.assert_allclose(gradient, recorded[f"grad_{step}"], rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("margin", [0.0, 0.1])
@pytest.mark.parametrize("block", [1, 5, 22, 23, 24, 1000])
def test_any_block_follows_the_definition(block, margin):
    features, index, memory, labels = random_case()
    found, gradient = with_gradient(features, index, memory, labels, margin=margin, block=block, reduction="none")
    np.testing.assert_allclose(found, summands(features, index, memory, labels, margin=margin), rtol=1e-5)
    _, whole = with_gradient(features, index, memory, labels, margin=margin, block=23, reduction="none")
    np.testing.assert_allclose(gradient, whole, atol=1e-5 * np.abs(whole).max())


@pytest.mark.parametrize("margin", [0.0, 0.1])
def test_gradient_is_the_slope_in_float64(numeric_gradient, margin):
    features, index, memory, labels = random_case()
    _, gradient = with_gradient(features, index, memory, labels, margin=margin, block=7, dtype="float64")
    expected = numeric_gradient(lambda x: summands(x, index, memory, labels, margin=margin).mean(), features)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


def test_upstream_gradient_weighs_each_image():
    features, index, memory, labels = random_case()
    weights = np.linspace(0, 2, 6).astype("float32")
    x = tf.constant(features, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        weighted = tf.reduce_sum(weights * scalable_neighbor_loss(x, index, memory, labels, reduction="none"))
    _, plain = with_gradient(features, index, memory, labels, reduction="none")
    np.testing.assert_allclose(tape.gradient(weighted, x), weights[:, None] * plain, rtol=1e-6)


def test_order_of_labels_and_their_inversion_do_not_matter():
    features, index, memory, labels = random_case()
    loss, _ = with_gradient(features, index, memory, labels)
    np.testing.assert_allclose(with_gradient(features, index, memory, labels[:, ::-1].copy())[0], loss, rtol=1e-6)
    np.testing.assert_allclose(with_gradient(features, index, memory, 1 - labels)[0], loss, rtol=1e-6)


def test_own_row_has_no_say():
    features, index, memory, labels = random_case()
    loss, gradient = with_gradient(features[:1], index[:1], memory, labels, block=4)
    memory[index[0]] = features[0]
    again, same = with_gradient(features[:1], index[:1], memory, labels, block=4)
    assert again == loss
    np.testing.assert_array_equal(same, gradient)


def test_images_without_mass_count_zero_but_count():
    features, index, memory, labels = random_case()
    labels[:] = 1
    labels[index[0]] = 0  # agrees with no other image on any label
    losses, gradient = with_gradient(features, index, memory, labels, temperature=1.0, reduction="none")
    alone = index == index[0]
    assert (losses[alone] == 0).all() and (losses[~alone] > 0).all()
    assert not gradient[alone].any()
    mean, _ = with_gradient(features, index, memory, labels, temperature=1.0)
    np.testing.assert_allclose(mean, losses.sum() / 6, rtol=1e-6)


def test_labels_all_alike_cost_nothing():
    features, index, memory, labels = random_case()
    loss, gradient = with_gradient(features, index, memory, labels * 0, block=5)
    assert loss == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-4)


def test_archive_of_one():
    features, _, memory, labels = random_case(images=1, batch=2)
    loss, gradient = with_gradient(features, [0, 0], memory, labels)
    assert loss == 0 and not gradient.any()


@pytest.mark.parametrize("temperature", [0.05, 0.001])
def test_half_precision_and_sharp_temperatures_are_finite(temperature):
    features, index, memory, labels = random_case()
    half, gradient = with_gradient(features, index, memory, labels, temperature=temperature, dtype="float16", block=5)
    assert half.dtype == "float32" and gradient.dtype == "float16"
    assert np.isfinite(half) and np.isfinite(gradient).all()
    exact, _ = with_gradient(np.float16(features), index, memory, labels, temperature=temperature)
    np.testing.assert_allclose(half, exact, rtol=1e-5)


def test_what_is_not_a_number_shows():
    features, index, memory, labels = random_case()
    features[2, 0] = np.nan
    losses, _ = with_gradient(features, index, memory, labels, block=5, reduction="none")
    np.testing.assert_array_equal(np.isnan(losses), np.arange(6) == 2)


def test_large_margin_is_finite():
    features, index, memory, labels = random_case()
    loss, gradient = with_gradient(features, index, memory, labels, margin=10.0)
    rest = -np.log(1 - np.exp(-summands(features, index, memory, labels)))  # -log(1 - mass)
    np.testing.assert_allclose(loss, (200 + summands(features, index, memory, labels) - rest).mean(), rtol=1e-5)
    assert np.isfinite(gradient).all()


def test_graph_of_unknown_batch_agrees_with_eager():
    features, index, memory, labels = random_case()

    @tf.function(input_signature=[tf.TensorSpec((None, 8)), tf.TensorSpec((None,), tf.int64)])
    def compute(x, rows):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = scalable_neighbor_loss(x, rows, memory, labels, block=5)
        return loss, tape.gradient(loss, x)

    loss, gradient = compute(features.astype("float32"), index)
    expected = with_gradient(features, index, memory, labels)
    np.testing.assert_allclose(loss, expected[0], rtol=1e-6)
    np.testing.assert_allclose(gradient, expected[1], atol=1e-5)


def test_wrong_arguments_say_what_they_should_be():
    features, index, memory, labels = random_case()
    with pytest.raises(ValueError, match="one row for each of the 23 rows of memory, found 22"):
        scalable_neighbor_loss(features, index, memory, labels[1:])
    with pytest.raises(ValueError, match='reduction must be "mean", "none" or None'):
        scalable_neighbor_loss(features, index, memory, labels, reduction="sum_over")
