"""Helpers of the loss tests, as fixtures: derivatives by tape and by finite differences."""

import numpy as np
import pytest
import tensorflow as tf


@pytest.fixture
def value_and_gradient():
    def compute(loss, labels, predictions, dtype="float32"):
        predictions = tf.constant(predictions, dtype)
        with tf.GradientTape() as tape:
            tape.watch(predictions)
            value = loss(labels, predictions)
        return value.numpy(), tape.gradient(value, predictions).numpy()

    return compute


@pytest.fixture
def numeric_gradient():
    """Central differences of a numpy function of one float64 array."""

    def compute(function, point, step=1e-6):
        point = np.array(point, np.float64)
        gradient = np.zeros_like(point)
        for place in np.ndindex(point.shape):
            kept = point[place]
            point[place] = kept + step
            above = function(point)
            point[place] = kept - step
            gradient[place] = (above - function(point)) / (2 * step)
            point[place] = kept
        return gradient

    return compute
