"""What a strong recipe adds to a training: averaged weights, layer-wise rates, accumulation, growing images."""

import keras
import numpy as np
import pytest

from rsml.config import Augment, Data, Evaluation, Experiment, Training
from rsml.models.surgery import resized
from rsml.training import precision
from rsml.training.loop import phases, train
from rsml.training.optimizers import averaged, make_optimizer
from rsml.utils.errors import UserError
from tests.training.test_loop import assert_same_run


@pytest.fixture
def experiment(scene_folder):
    return Experiment(
        name="run",
        data=Data(source=str(scene_folder), task="single-label", image_size=32, fractions=(50, 25, 25)),
        augment=Augment(
            crop=(0.6, 1), randaugment={"operations": 1, "magnitude": 0.3}, erase=0.3, mixup=0.2, cutmix=1, mixed=0.5
        ),
        training=Training(
            epochs=2,
            batch_size=4,
            schedule="constant",
            average=0.9,
            layer_decay=0.8,
            accumulate=2,
            sizes={0: 24, 0.5: 32},
        ),
        evaluation=Evaluation(figures=False, page=False, resamples=0),
    )


class Stop(keras.callbacks.Callback):
    """Ctrl-C in the second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_all_of_it_resumes_bit_for_bit(experiment, tmp_path):
    whole = train(experiment, root=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(experiment, root=tmp_path / "parts", callbacks=[Stop()])
    assert_same_run(whole, train(experiment, root=tmp_path / "parts"))
    assert whole.model().input_shape == (None, 32, 32, 3)


def variables():
    return [keras.Variable(np.full((2, 2), value, np.float32), name=name) for name, value in (("a", 1.0), ("b", 2.0))]


def test_the_average_is_that_of_the_trajectory_and_training_goes_on_from_the_weights():
    weights = variables()
    optimizer = make_optimizer(Training(optimizer="sgd", momentum=0, average=0.75), weights, {}, 1.0, 10)
    path = [np.array(weights[0])]
    for step in range(5):
        optimizer.apply([np.full((2, 2), 0.1 * step, np.float32)] * 2, weights)
        path.append(np.array(weights[0]))
    expected = path[1]
    for value in path[2:]:
        expected = 0.75 * expected + 0.25 * value
    with averaged(optimizer):
        np.testing.assert_allclose(weights[0], expected, rtol=1e-6)
    np.testing.assert_array_equal(weights[0], path[-1])
    optimizer.finalize_variable_values(weights)
    np.testing.assert_array_equal(weights[0], path[-1])


def test_the_average_is_put_back_after_a_fault():
    weights = variables()
    optimizer = make_optimizer(Training(optimizer="sgd", average=0.5), weights, {}, 1.0, 10)
    optimizer.apply([np.ones((2, 2), np.float32)] * 2, weights)
    before = np.array(weights[1])
    with pytest.raises(RuntimeError), averaged(optimizer):
        raise RuntimeError
    np.testing.assert_array_equal(weights[1], before)


def test_rates_decay_with_the_depth_below_the_head():
    weights = variables()
    options = Training(optimizer="sgd", momentum=0, learning_rate=1.0, schedule="constant", layer_decay=0.5)
    optimizer = make_optimizer(options, weights, {weights[0].path: 3}, 0.4, 10)
    optimizer.apply([np.ones((2, 2), np.float32)] * 2, weights)
    np.testing.assert_allclose(weights[0], 1 - 0.4 * 0.5**3, rtol=1e-6)
    np.testing.assert_allclose(weights[1], 2 - 1.0, rtol=1e-6)


def test_accumulated_batches_make_one_step_of_their_mean():
    weights = variables()
    options = Training(optimizer="sgd", momentum=0, learning_rate=1.0, schedule="constant", accumulate=2)
    optimizer = make_optimizer(options, weights, {}, 1.0, 10)
    for gradient in (1.0, 3.0):
        optimizer.apply([np.full((2, 2), gradient, np.float32)] * 2, weights)
    np.testing.assert_allclose(weights[0], 1 - 2.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [(10, False, 64)]),
        ({"freeze": True}, [(10, True, 64)]),
        ({"freeze": 3}, [(3, True, 64), (10, False, 64)]),
        ({"freeze": 99}, [(10, True, 64)]),
        ({"sizes": {0: 32, 0.5: 64}}, [(5, False, 32), (10, False, 64)]),
        ({"sizes": {0.5: 96}, "freeze": 2}, [(2, True, 64), (5, False, 64), (10, False, 96)]),
        ({"sizes": {0: 32, 0.2: 48}, "freeze": 2}, [(2, True, 32), (10, False, 48)]),
    ],
)
def test_phases(options, expected):
    assert phases(Training(epochs=10, **options), 64) == expected


def test_a_network_at_another_size_has_the_same_weights():
    inputs = keras.Input((16, 16, 3))
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, strides=2)(inputs))
    model = keras.Model(inputs, {"logits": keras.layers.Dense(2)(features), "features": features})
    small = resized(model, 8)
    assert small.input_shape == (None, 8, 8, 3) and set(small.output) == {"logits", "features"}
    assert [id(weight) for weight in small.weights] == [id(weight) for weight in model.weights]
    images = np.random.default_rng(0).random((2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(
        small(images)["features"], keras.ops.mean(model.layers[1](images), axis=(1, 2)), atol=1e-6
    )
    assert resized(model, 16) is model


def test_a_network_that_knows_one_size_only_is_refused():
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
    with pytest.raises(UserError, match="16 x 16 images only, not 8 x 8"):
        resized(model, 8)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags : sse avx2", "float32"),
        ("flags : avx512_bf16", "mixed_bfloat16"),
        ("flags : amx_bf16", "mixed_bfloat16"),
    ],
)
def test_auto_precision_is_half_where_the_processor_multiplies_in_it(flags, expected, tmp_path):
    (tmp_path / "cpuinfo").write_text(flags)
    assert precision.fastest(tmp_path / "cpuinfo") == expected
    assert precision.fastest(tmp_path / "nowhere") == "float32"
