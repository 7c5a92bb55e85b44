"""Adaptive pooling against PyTorch's rule, cell by cell."""

import numpy as np
import pytest

from rsml.layers import AdaptiveAveragePool, Probe, SqueezeExcite
from tests.layers.checks import check_layer

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(16, 16), (8, 11), (7, 7), (3, 5), (1, 1)])
def test_each_cell_is_the_mean_of_its_pixels(shape):
    maps = RANDOM.normal(size=(2, *shape, 3)).astype("float32")
    found = AdaptiveAveragePool(7)(maps)
    (height, width) = shape
    for i in range(7):
        for j in range(7):
            rows = slice(i * height // 7, -(-(i + 1) * height // 7))
            columns = slice(j * width // 7, -(-(j + 1) * width // 7))
            np.testing.assert_allclose(found[:, i, j], maps[:, rows, columns].mean((1, 2)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(AdaptiveAveragePool(2), (5, 4, 6)), (Probe(3), (6,)), (SqueezeExcite(2), (5, 4, 6))],
    ids=lambda value: type(value).__name__,
)
def test_they_pass_the_check_of_all_layers(layer, shape, tmp_path):
    check_layer(layer, RANDOM.normal(size=(4, *shape)).astype("float32"), tmp_path)
