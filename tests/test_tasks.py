"""The table of tasks: what each row names is there, and decides as it says."""

import subprocess
import sys

import numpy as np
import pytest

from rsml.figures.run import _FIGURES as FIGURES
from rsml.tasks import TASKS, task
from rsml.utils.errors import UserError


@pytest.mark.parametrize("row", TASKS.values(), ids=TASKS.keys())
def test_what_a_row_names_is_there(row):
    definitions, metrics = row.load("definitions"), row.load("metrics")
    shown = [name for _, name in row.titles] + [name for _, names in row.averages for name in names if name]
    assert {*row.headline, row.monitor, *row.with_interval, *shown} <= set(definitions)
    assert row.monitor == row.headline[0], "what is chosen by is what is shown first"
    assert set(row.figures) <= set(FIGURES)
    labels = np.eye(6)
    assert set(metrics(labels, labels)) >= {*row.headline, *row.with_interval}
    assert row.measure(labels, labels)[row.monitor] == 1


def test_rows_decide_by_threshold_or_by_the_largest():
    scores = np.array([[0.2, 0.7, 0.6], [0.9, 0.1, 0.0]])
    assert task("multi-label").decide(scores, np.array([0.1, 0.7, 0.5])).tolist() == [[1, 0, 1], [1, 0, 0]]
    assert task("single-label").decide(scores).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert task("proportions").decide(scores).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert task("proportions").named(np.array([0.990, 0.006, 0.004])).tolist() == [True, True, False]
    with pytest.raises(UserError, match="unknown task 'both': choose multi-label, single-label, proportions"):
        task("both")


def test_the_cross_entropy_is_that_of_the_activation():
    labels, scores = np.array([[1, 0], [0, 1]]), np.array([[0.9, 0.1], [0.8, 0.2]])
    each = -np.log([0.9, 0.2])
    assert task("single-label").cross_entropy(labels, scores) == pytest.approx(each.mean())
    decisions = -np.log([0.9, 0.9, 0.2, 0.2])
    assert task("multi-label").cross_entropy(labels, scores) == pytest.approx(decisions.mean())


def test_the_table_loads_neither_tensorflow_nor_the_metrics():
    heavy = "{'tensorflow', 'keras', 'scipy', 'rsml.evaluation'}"
    code = f"import sys, rsml.tasks; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
