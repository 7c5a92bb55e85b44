import os
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from rsml.layers import NeighborMemory
from rsml.losses import scalable_neighbor_loss

DATA = Path(__file__).parents[1] / "data"
OUTSIDE = Path(os.environ.get("RSML_TEST_DATA", "/nonexistent")) / "golden"


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def labels():
    return (np.random.default_rng(1).random((20, 5)) < 0.4).astype("uint8")


@pytest.fixture
def memory(labels):
    return NeighborMemory(20, 6, labels, seed=3, block=7)


@pytest.fixture
def features():
    return unit(np.random.default_rng(2).normal(size=(4, 6))).astype("float32")


@pytest.mark.parametrize(
    "path", [DATA / "grn_0.npz", OUTSIDE / "grn_1.npz", DATA / "grn_2.npz"], ids=lambda path: path.stem
)
@pytest.mark.parametrize("block", [5, 4096])
def test_three_steps_equal_the_published_code(path, block):
    if not path.exists():
        pytest.skip("set RSML_TEST_DATA to the folder of recordings")
    recorded = np.load(path)
    options = {name: float(recorded[name]) for name in ("momentum", "temperature", "margin")}
    memory = NeighborMemory(*recorded["memory_0"].shape, recorded["labels"], block=block, **options)
    memory.memory.assign(recorded["memory_0"])

    @tf.function
    def step(features, index):
        with tf.GradientTape() as tape:
            tape.watch(features)
            loss = memory.loss(features, index)
        memory.update(features, index)
        return loss, tape.gradient(loss, features)

    for number in range(3):
        features, index = tf.constant(recorded[f"feature_{number}"]), tf.constant(recorded[f"index_{number}"])
        loss, gradient = step(features, index)
        np.testing.assert_allclose(loss, recorded[f"loss_{number}"], rtol=1e-6)
        np.testing.assert_allclose(gradient, recorded[f"grad_{number}"], rtol=1e-5, atol=3e-6)
        np.testing.assert_allclose(memory.memory.numpy(), recorded[f"memory_{number + 1}"], atol=2e-7)


def test_start_is_uniform_and_a_function_of_the_seed():
    bank = NeighborMemory(9000, 12, seed=5).memory.numpy()
    half_width = 1 / np.sqrt(12 / 3)
    assert np.abs(bank).max() <= half_width
    np.testing.assert_allclose([bank.mean(), bank.std()], [0, half_width / np.sqrt(3)], atol=4e-3)
    np.testing.assert_array_equal(NeighborMemory(9000, 12, seed=5, block=3).memory.numpy(), bank)
    assert not np.array_equal(NeighborMemory(9000, 12, seed=6).memory.numpy(), bank)
    keras.utils.set_random_seed(1)
    first = NeighborMemory(5, 3).memory.numpy()
    keras.utils.set_random_seed(1)
    np.testing.assert_array_equal(NeighborMemory(5, 3).memory.numpy(), first)


def test_update_moves_only_its_rows(memory, features):
    before = memory.memory.numpy()
    memory.momentum = 0.8
    memory.update(features, [3, 0, 19, 7])
    after = memory.memory.numpy()
    np.testing.assert_allclose(after[[3, 0, 19, 7]], unit(0.8 * before[[3, 0, 19, 7]] + 0.2 * features), atol=1e-6)
    others = np.delete(np.arange(20), [3, 0, 19, 7])
    np.testing.assert_array_equal(after[others], before[others])


def test_an_image_twice_in_a_batch_moves_once_by_the_mean(memory, features):
    before = memory.memory.numpy()
    memory.update(features, [5, 2, 5, 5])
    after = memory.memory.numpy()
    np.testing.assert_allclose(after[[5]], unit(0.5 * before[[5]] + 0.5 * features[[0, 2, 3]].mean(axis=0)), atol=1e-6)
    np.testing.assert_allclose(after[[2]], unit(0.5 * before[[2]] + 0.5 * features[[1]]), atol=1e-6)
    memory.memory.assign(before)
    memory.update(features[[1, 3, 0, 2]], [2, 5, 5, 5])
    np.testing.assert_allclose(memory.memory.numpy(), after, atol=1e-6)


def test_rows_that_cannot_be_normalised_stay(memory, features):
    memory.update(features, [0, 1, 2, 3])
    before = memory.memory.numpy()
    memory.update(
        np.stack([-before[0], np.full(6, np.nan), np.full(6, np.inf), features[3]]).astype("float32"), [0, 1, 2, 4]
    )
    after = memory.memory.numpy()
    np.testing.assert_array_equal(after[:4], before[:4])
    assert not np.array_equal(after[4], before[4])


def test_momentum_follows_a_schedule_inside_a_compiled_step(memory, features):
    step = tf.function(lambda: memory.update(features, tf.constant([0, 1, 2, 3])))
    memory.momentum = 1.0
    step()
    before = memory.memory.numpy()
    step()
    np.testing.assert_allclose(memory.memory.numpy(), before, atol=1e-6)
    memory.momentum = 0.0
    step()
    np.testing.assert_allclose(memory.memory.numpy()[:4], features, atol=1e-6)
    assert memory.momentum == 0.0


@pytest.mark.parametrize("k", [1, 3, 20])
@pytest.mark.parametrize("block", [1, 7, 20, 64])
def test_neighbors_are_the_largest_products(labels, features, block, k):
    memory = NeighborMemory(20, 6, labels, seed=3, block=block)
    values, rows = memory.neighbors(features, k)
    products = features @ memory.memory.numpy().T
    expected = np.argsort(-products, axis=1)[:, :k]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(values, np.take_along_axis(products, expected, 1), rtol=1e-5, atol=1e-6)


def test_neighbors_leave_out_the_image_itself_and_prefer_lower_rows(memory):
    bank = np.zeros((20, 6), "float32")
    bank[:, 0] = 1.0
    memory.memory.assign(bank)
    _, rows = memory.neighbors(bank[:3], 4, exclude=[0, 2, 19])
    np.testing.assert_array_equal(rows, [[1, 2, 3, 4], [0, 1, 3, 4], [0, 1, 2, 3]])
    assert memory.neighbors(bank[:1], 19, exclude=[4])[1].numpy().min() >= 0
    with pytest.raises(ValueError, match="k must be from 1 to 19, the rows to choose from, found 20"):
        memory.neighbors(bank[:1], 20, exclude=[0])


def test_call_updates_after_the_loss_when_training(memory, labels, features):
    before = memory.memory.numpy()
    index = np.array([1, 2, 3, 4])
    losses = memory(features, index)
    np.testing.assert_array_equal(memory.memory.numpy(), before)
    expected = scalable_neighbor_loss(features, index, before, labels, reduction="none")
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    np.testing.assert_allclose(memory(features, index, training=True), expected, rtol=1e-6)
    np.testing.assert_allclose(memory.memory.numpy()[1:5], unit(0.5 * before[1:5] + 0.5 * features), atol=1e-6)


def test_no_gradient_flows_into_the_bank(memory, features):
    assert memory.trainable_variables == []
    x = tf.constant(features)
    with tf.GradientTape() as tape:
        tape.watch([x, memory.memory.value])
        loss = memory.loss(x, [0, 1, 2, 3])
    by_features, by_bank = tape.gradient(loss, [x, memory.memory.value])
    assert np.abs(by_features).max() > 0
    assert by_bank is None


def test_mixed_precision_model_keeps_float32_products(labels, features):
    index = np.arange(4)
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        memory = NeighborMemory(20, 6, labels, seed=3)
        half = tf.constant(features, "float16")
        losses = memory(half, index, training=True)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    again = NeighborMemory(20, 6, labels, seed=3)
    np.testing.assert_allclose(losses, again(tf.cast(half, "float32"), index), rtol=1e-6)
    assert memory.memory.dtype == "float32"


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_saving_keeps_bank_and_momentum_and_leaves_the_labels(tmp_path, memory, labels, features, suffix):
    inputs = keras.Input((6,)), keras.Input((), dtype="int64")
    model = keras.Model(inputs, memory(*inputs))
    index = np.array([4, 5, 6, 7])
    memory.update(features, index)
    memory.momentum = 0.9
    expected = model.predict([features, index], verbose=0)
    model.save(tmp_path / f"model{suffix}")
    loaded = keras.models.load_model(tmp_path / f"model{suffix}")
    again = next(layer for layer in loaded.layers if isinstance(layer, NeighborMemory))
    np.testing.assert_array_equal(again.memory.numpy(), memory.memory.numpy())
    assert again.momentum == pytest.approx(0.9)
    assert {weight.name for weight in again.weights} == {"memory", "momentum"}
    with pytest.raises(ValueError, match="has no labels: call set_labels"):
        loaded.predict([features, index], verbose=0)
    again.set_labels(labels)
    np.testing.assert_allclose(loaded.predict([features, index], verbose=0), expected, rtol=1e-6)


def test_config_round_trip(memory):
    again = NeighborMemory.from_config(memory.get_config())
    assert again.get_config() == memory.get_config()
    np.testing.assert_array_equal(again.memory.numpy(), memory.memory.numpy())


def test_embeddings_gather_by_labels():
    """Trained against the bank, images of a class end up nearer to each other than to the rest."""
    random = np.random.default_rng(0)
    classes = np.repeat(np.arange(3), 10)
    images = (np.eye(3)[classes] + random.normal(size=(30, 3)) * 0.3).astype("float32")
    keras.utils.set_random_seed(0)
    embed = keras.Sequential([keras.Input((3,)), keras.layers.Dense(8), keras.layers.UnitNormalization()])
    memory = NeighborMemory(30, 8, np.eye(3)[classes], seed=0)
    optimizer = keras.optimizers.SGD(0.5)

    @tf.function
    def step(index):
        with tf.GradientTape() as tape:
            features = embed(tf.gather(images, index))
            loss = memory.loss(features, index)
        weights = [weight.value for weight in embed.trainable_variables]
        optimizer.apply(tape.gradient(loss, weights), embed.trainable_variables)
        memory.update(features, index)
        return loss

    optimizer.build(embed.trainable_variables)
    for _ in range(60):
        step(tf.constant(random.permutation(30)[:10]))
    _, rows = memory.neighbors(embed(images), 5, exclude=np.arange(30))
    assert (classes[rows] == classes[:, None]).mean() > 0.9


def test_wrong_arguments_say_what_they_should_be(memory, labels):
    with pytest.raises(ValueError, match=r"shape \(images, labels\) = \(20, any\), found \(19, 5\)"):
        memory.set_labels(labels[1:])
    with pytest.raises(ValueError, match="labels must be 0 or 1"):
        memory.set_labels(labels * 0.5)
    with pytest.raises(ValueError, match="momentum must be from 0 to 1, found 2"):
        NeighborMemory(4, 2, momentum=2)
