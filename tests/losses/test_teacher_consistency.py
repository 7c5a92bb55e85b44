from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from rsml.losses import TeacherConsistency
from rsml.methods.objectives import CrossEntropy

DATA = Path(__file__).parents[1] / "data"


@pytest.mark.parametrize("case", [0, 1])
def test_equals_the_published_code(case):
    recorded = np.load(DATA / f"geokr_{case}.npz")
    student, teacher = tf.constant(recorded["student"]), tf.constant(recorded["teacher"])
    with tf.GradientTape() as tape:
        tape.watch([student, teacher])
        classification = CrossEntropy().function("proportions")(recorded["proportions"], student)
        consistency = TeacherConsistency()(teacher, student)
        total = classification + consistency
    by_student, by_teacher = tape.gradient(total, [student, teacher])
    np.testing.assert_allclose(classification, recorded["classification"], rtol=1e-6)
    np.testing.assert_allclose(consistency, recorded["consistency"], rtol=1e-6)
    np.testing.assert_allclose(by_student, recorded["grad_student"], rtol=1e-5, atol=1e-8)
    assert by_teacher is None


def test_sum_is_over_tiles_of_means_over_classes():
    recorded = np.load(DATA / "geokr_0.npz")
    found = TeacherConsistency(reduction="sum")(recorded["teacher"], recorded["student"])
    np.testing.assert_allclose(found, len(recorded["student"]) * recorded["consistency"], rtol=1e-6)


def test_half_precision_is_finite_at_saturation(value_and_gradient):
    first = tf.constant([[6e4, 0.0, -6e4]], "float16")
    value, gradient = value_and_gradient(TeacherConsistency(), first, [[6e4, -6e4, 0.0]], "float16")
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
