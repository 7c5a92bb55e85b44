import math

import keras
import numpy as np
import pytest

from rsml.config import Training
from rsml.training.optimizers import Schedule, make_optimizer


def rate(schedule, step):
    return float(schedule(step))


def test_cosine_with_warmup_follows_the_formula():
    schedule = Schedule(0.2, "cosine", steps=10, epochs=6, warmup=1)
    for step in (0, 4, 9, 10, 25, 59):
        epoch = step / 10
        cosine = 0.1 * (1 + math.cos(math.pi * min(max((epoch - 1) / 5, 0), 1)))
        assert rate(schedule, step) == pytest.approx(cosine * min((step + 1) / 10, 1), rel=1e-5)


def test_step_schedule_drops_at_the_first_step_of_the_epoch():
    options = Training(schedule="step", step_epochs=25, epochs=80, learning_rate=1e-3)
    schedule = _schedule(options, steps=92)
    assert rate(schedule, 25 * 92 - 1) == pytest.approx(1e-3)
    assert rate(schedule, 25 * 92) == pytest.approx(1e-4)
    assert rate(schedule, 79 * 92) == pytest.approx(1e-6)


def test_milestones_are_fractions_of_all_epochs():
    schedule = _schedule(
        Training(schedule="step", milestones={0.5: 0.1, 0.75: 0.5}, epochs=40, learning_rate=1.0), steps=5
    )
    assert [rate(schedule, 5 * epoch) for epoch in (19, 20, 29, 30)] == pytest.approx([1, 0.1, 0.1, 0.05])


def test_minimum_holds_below_the_curve_but_not_in_warmup():
    schedule = Schedule(1.0, "cosine", steps=10, epochs=4, warmup=1, minimum=0.3)
    assert rate(schedule, 0) == pytest.approx(0.1)
    assert rate(schedule, 39) == pytest.approx(0.3)


def test_plateau_scale_multiplies():
    schedule = Schedule(1.0, "plateau", steps=10, epochs=4)
    schedule.scale.assign(0.25)
    assert rate(schedule, 7) == pytest.approx(0.25)


def test_schedule_round_trips_through_keras():
    schedule = Schedule(0.1, "step", steps=3, epochs=9, drops=[(3, 0.5)], minimum=1e-5)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert [rate(again, step) for step in range(27)] == [rate(schedule, step) for step in range(27)]


def _schedule(options, steps):
    return make_optimizer(options, [keras.Variable([0.0])], {}, 1.0, steps)._learning_rate


def _variables():
    return [keras.Variable(np.ones((2, 2), "float32"), name=name) for name in ("backbone", "head")] + [
        keras.Variable(np.ones(2, "float32"), name="bias")
    ]


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_the_backbone_moves_at_its_own_rate(name):
    variables = _variables()
    options = Training(optimizer=name, learning_rate=0.1, schedule="constant", momentum=0)
    optimizer = make_optimizer(options, variables, {variables[0].path: 1}, 0.1, steps=1)
    for _ in range(3):
        optimizer.apply([np.full((2, 2), 0.5, "float32")] * 2 + [np.zeros(2, "float32")], variables)
    moved = [1 - variable.numpy() for variable in variables]
    np.testing.assert_allclose(moved[0], 0.1 * moved[1], rtol=1e-4)
    assert moved[1].min() > 0.1


def test_sgd_decay_is_torchs_l2_and_spares_biases():
    variables = _variables()
    options = Training(
        optimizer="sgd", learning_rate=0.1, schedule="constant", momentum=0.9, nesterov=True, weight_decay=0.5
    )
    optimizer = make_optimizer(options, variables, {}, 1.0, steps=1)
    weight, velocity = 1.0, 0.0
    for gradient in (0.3, -0.2, 0.1):
        optimizer.apply([np.full((2, 2), gradient, "float32")] * 2 + [np.zeros(2, "float32")], variables)
        total = gradient + 0.5 * weight
        velocity = 0.9 * velocity + total
        weight -= 0.1 * (total + 0.9 * velocity)
    np.testing.assert_allclose(variables[1].numpy(), weight, rtol=1e-5)
    np.testing.assert_array_equal(variables[2].numpy(), 1)


def test_adamw_decay_is_decoupled():
    variables = _variables()
    options = Training(optimizer="adamw", learning_rate=0.1, schedule="constant", weight_decay=0.2)
    optimizer = make_optimizer(options, variables, {variables[0].path: 1}, 0.5, steps=1)
    optimizer.apply([np.zeros((2, 2), "float32")] * 2 + [np.zeros(2, "float32")], variables)
    np.testing.assert_allclose(variables[0].numpy(), 1 - 0.1 * 0.5 * 0.2, rtol=1e-6)
    np.testing.assert_allclose(variables[1].numpy(), 1 - 0.1 * 0.2, rtol=1e-6)
