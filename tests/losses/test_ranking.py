from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from rsml.losses import FeatureRanking, LabelRanking, SampleRanking, listwise

DATA = Path(__file__).parents[1] / "data"
LOSSES = {
    "label": (LabelRanking, {"from_logits": True}, "logits", "label_loss", "label_grad_logits"),
    "sample": (SampleRanking, {"from_logits": True}, "logits", "sample_loss", "sample_grad_logits"),
    "feature": (FeatureRanking, {}, "features", "feature_loss", "feature_grad"),
}


def one_list(scores, relevance, alpha):
    """1 - DCG / IDCG of one list, item by item, straight from the definition; nan when nothing is relevant."""
    ranks = [0.5 + sum(1 / (1 + np.exp(-alpha * (other - score))) for other in scores) for score in scores]
    dcg = sum((2**rel - 1) / np.log2(rank + 1) for rel, rank in zip(relevance, ranks, strict=True))
    idcg = sum((2**rel - 1) / np.log2(place + 1) for place, rel in enumerate(sorted(relevance, reverse=True), start=1))
    return 1 - dcg / idcg if idcg > 0 else np.nan


def expected_label_losses(labels, scores, alpha=100.0, count=4, half=0.1):
    neutral = list(np.linspace(0.5 - half, 0.5 + half, count))
    losses = []
    for y, s in zip(labels, scores, strict=True):
        loss = one_list([*s, *neutral], [*(2 * y), *[1] * count], alpha)
        losses.append(loss / y.sum() if y.sum() else 0.0)
    return np.array(losses)


def expected_feature_losses(labels, features, alpha=10.0):
    losses = []
    for i in range(len(labels)):
        others = [j for j in range(len(labels)) if j != i]
        jaccard = [(labels[i] * labels[j]).sum() / max(np.maximum(labels[i], labels[j]).sum(), 1) for j in others]
        scores = [-np.linalg.norm(features[i] - features[j]) for j in others]
        losses.append(one_list(scores, jaccard, alpha))
    return np.nan_to_num(losses, nan=0.0)


def random_case(batch, labels=6, width=5, seed=0):
    random = np.random.default_rng(seed)
    return (
        (random.random((batch, labels)) < 0.4).astype("float32"),
        random.random((batch, labels)),
        random.normal(size=(batch, width)),
    )


@pytest.mark.parametrize("which", LOSSES)
@pytest.mark.parametrize("case", [0, 1, 2])
def test_sum_equals_the_published_code(value_and_gradient, which, case):
    recorded = np.load(DATA / f"r4c_{case}.npz")
    loss, options, inputs, value, gradient = LOSSES[which]
    found = value_and_gradient(loss(**options, reduction="sum"), recorded["labels"], recorded[inputs])
    np.testing.assert_allclose(found[0], recorded[value], rtol=2e-6)
    np.testing.assert_allclose(found[1], recorded[gradient], rtol=1e-5, atol=3e-6)


@pytest.mark.parametrize("which", LOSSES)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_graph_of_unknown_batch_agrees_with_eager(value_and_gradient, monkeypatch, which, jit_compile):
    recorded = np.load(DATA / "r4c_2.npz")
    loss, options, inputs, *_ = LOSSES[which]
    loss = loss(**options, reduction="sum")
    expected = value_and_gradient(loss, recorded["labels"], recorded[inputs])
    monkeypatch.setattr(listwise, "PAIRS_AT_ONCE", 2500)  # several blocks, the last one not full

    @tf.function(
        jit_compile=jit_compile,
        input_signature=[tf.TensorSpec((None, None)), tf.TensorSpec((None, recorded[inputs].shape[1]))],
    )
    def compute(labels, predictions):
        with tf.GradientTape() as tape:
            tape.watch(predictions)
            value = loss(labels, predictions)
        return value, tape.gradient(value, predictions)

    value, gradient = compute(recorded["labels"], recorded[inputs])
    np.testing.assert_allclose(value, expected[0], rtol=2e-6)
    np.testing.assert_allclose(gradient, expected[1], atol=2e-6)


@pytest.mark.parametrize("most_unrolled", [0, 100])
def test_blocks_change_nothing(value_and_gradient, monkeypatch, most_unrolled):
    labels, _, features = random_case(13)
    whole = value_and_gradient(FeatureRanking(reduction="sum"), labels, features)
    monkeypatch.setattr(listwise, "PAIRS_AT_ONCE", 3 * 13**2)
    monkeypatch.setattr(listwise, "MOST_UNROLLED", most_unrolled)
    blocks = value_and_gradient(FeatureRanking(reduction="sum"), labels, features)
    np.testing.assert_allclose(blocks[0], whole[0], rtol=1e-6)
    np.testing.assert_allclose(blocks[1], whole[1], atol=1e-6)


def test_label_ranking_follows_its_definition():
    labels, scores, _ = random_case(7)
    labels[2] = 0
    labels[3] = 1
    found = LabelRanking(alpha=30.0, neutral_count=3, neutral_range=0.2, reduction=None)(labels, scores)
    np.testing.assert_allclose(found, expected_label_losses(labels, scores, 30.0, 3, 0.2), rtol=1e-5, atol=1e-7)


def test_sample_ranking_is_label_ranking_transposed():
    labels, scores, _ = random_case(9)
    found = SampleRanking(neutral_count=4, reduction=None)(labels, scores)
    count = labels.sum(axis=0)
    np.testing.assert_allclose(found, expected_label_losses(labels.T, scores.T) * count, rtol=1e-5, atol=1e-6)


def test_feature_ranking_follows_its_definition():
    labels, _, features = random_case(8)
    labels[1] = 0
    found = FeatureRanking(reduction=None)(labels, features)
    np.testing.assert_allclose(found, expected_feature_losses(labels, features), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("which", LOSSES)
def test_gradient_is_the_slope_in_float64(value_and_gradient, numeric_gradient, which):
    labels, scores, features = random_case(5, seed=3)
    loss, _, inputs, *_ = LOSSES[which]
    loss = loss(alpha=8.0, reduction="sum", dtype="float64")
    point = scores if inputs == "logits" else features
    _, gradient = value_and_gradient(loss, labels, point, "float64")
    expected = numeric_gradient(lambda x: float(loss(labels, x)), point)
    np.testing.assert_allclose(gradient, expected, atol=1e-7)


def test_feature_gradient_weighs_each_image(value_and_gradient, numeric_gradient):
    labels, _, features = random_case(5, seed=4)
    weights = np.array([0.0, 1.0, 3.0, 0.5, 2.0])
    loss = FeatureRanking(reduction="sum", dtype="float64")

    def weighted(y, x):
        return loss(y, x, sample_weight=weights)

    _, gradient = value_and_gradient(weighted, labels, features, "float64")
    np.testing.assert_allclose(gradient, numeric_gradient(lambda x: float(weighted(labels, x)), features), atol=1e-6)


@pytest.mark.parametrize("which", LOSSES)
def test_mean_is_over_lists(which):
    labels, scores, features = random_case(6)
    loss, options, inputs, *_ = LOSSES[which]
    x = scores if inputs == "logits" else features
    lists = 6  # six images, and six labels
    np.testing.assert_allclose(
        loss(**options)(labels, x), loss(**options, reduction="sum")(labels, x) / lists, rtol=1e-6
    )


@pytest.mark.parametrize("which", LOSSES)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("batch", [1, 2, 6])
@pytest.mark.parametrize("fill", ["none", "all", "mixed"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_finite_in_every_corner(value_and_gradient, which, dtype, batch, fill, scale):
    labels, scores, _ = random_case(batch)
    if fill != "mixed":
        labels[:] = float(fill == "all")
    loss, options, *_ = LOSSES[which]
    predictions = (scores - 0.5) * scale  # 0: identical images and tied labels; 1e4: saturated
    value, gradient = value_and_gradient(loss(**options, reduction="sum"), labels, predictions, dtype)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert gradient.dtype == dtype


def test_images_that_are_alike_do_not_move_each_other(value_and_gradient):
    labels, _, features = random_case(6, width=64)
    features[3] = features[1]
    features += 1000.0  # a common offset, where rounding of the products is far larger than the distances
    _, gradient = value_and_gradient(FeatureRanking(reduction="sum"), labels, features)
    centred = features - features.mean(axis=0)
    _, expected = value_and_gradient(FeatureRanking(reduction="sum", dtype="float64"), labels, centred, "float64")
    np.testing.assert_allclose(gradient, expected, atol=2e-3)


def test_batch_of_one_and_images_without_labels_cost_nothing(value_and_gradient):
    labels, scores, features = random_case(1)
    value, gradient = value_and_gradient(FeatureRanking(reduction="sum"), labels, features)
    assert value == 0 and not gradient.any()
    value, gradient = value_and_gradient(LabelRanking(reduction="sum"), labels * 0, scores)
    assert value == 0 and not gradient.any()


@pytest.mark.parametrize("which", LOSSES)
def test_what_is_not_a_number_shows(which):
    labels, scores, _ = random_case(4)
    scores[1, 0] = np.nan
    loss, options, *_ = LOSSES[which]
    assert np.isnan(loss(**options)(labels, scores))


def test_perfect_order_costs_almost_nothing():
    labels = np.array([[1, 0, 0, 0], [0, 0, 0, 1]], "float32")
    assert LabelRanking()(labels, labels) < 0.01  # all that is left is the even spacing of the neutral labels
    assert LabelRanking()(labels, 1 - labels) > 0.3


def test_without_neutral_items_an_unused_label_is_left_out():
    labels, scores, _ = random_case(5)
    labels[:, 2] = 0
    found = SampleRanking(neutral_count=0, reduction=None)(labels, scores)
    assert found[2] == 0
    assert np.isfinite(found).all()


def test_feature_ranking_keeps_no_cube():
    """The largest tensor of the compiled graph, loop bodies included, is far below batch^3."""
    batch = 128
    loss = FeatureRanking()

    @tf.function
    def compute(labels, features):
        with tf.GradientTape() as tape:
            tape.watch(features)
            value = loss(labels, features)
        return tape.gradient(value, features)

    graph = compute.get_concrete_function(tf.TensorSpec((batch, 4)), tf.TensorSpec((batch, 8))).graph
    sizes = [output.shape.num_elements() or 0 for operation in graph.get_operations() for output in operation.outputs]
    assert batch**2 <= max(sizes) <= max(listwise.PAIRS_AT_ONCE, batch**2) < batch**3


def test_trains_a_model():
    labels, _, features = random_case(12, labels=4, width=8)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    model.compile(keras.optimizers.Adam(0.05), LabelRanking(from_logits=True), run_eagerly=False, jit_compile=False)
    losses = model.fit(features, labels, batch_size=6, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize(
    "loss",
    [LabelRanking(True, 50.0, 3, 0.2, "sum"), SampleRanking(True, 50.0, 3, 0.2, None), FeatureRanking(5.0, "sum")],
)
def test_round_trip(loss):
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()


def test_wrong_arguments_say_what_they_should_be():
    with pytest.raises(ValueError, match=r"neutral_range must be from 0 to 0\.5, found 0\.7"):
        LabelRanking(neutral_range=0.7)
    with pytest.raises(ValueError, match="no sample weights"):
        SampleRanking()([[1.0]], [[0.5]], sample_weight=[1.0])
