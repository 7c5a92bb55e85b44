"""Every objective against its formula in numpy, its refusals, and its names on the command line."""

import numpy as np
import pytest
import tensorflow as tf

from rsml.config import Experiment, override
from rsml.methods.objectives import Asymmetric, CrossEntropy, Focal, ImprovedCrossEntropy, NoObjective
from rsml.utils.errors import UserError

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(0, 2, (6, 4)).astype("float32")
LABELS = (RANDOM.random((6, 4)) < 0.4).astype("float32")
ONE_HOT = np.eye(4, dtype="float32")[RANDOM.integers(0, 4, 6)]


def objective(*settings):
    return override(Experiment(name="x"), settings)[0].objective


def test_asymmetric_follows_its_formula():
    found = Asymmetric(gamma_negative=3, gamma_positive=0.5, clip=0.1).function("multi-label")(LABELS, LOGITS)
    p = 1 / (1 + np.exp(-LOGITS.astype("float64")))
    shifted = np.maximum(p - 0.1, 0)
    expected = -LABELS * (1 - p) ** 0.5 * np.log(p) - (1 - LABELS) * shifted**3 * np.log(1 - shifted)
    assert float(found) == pytest.approx(expected.mean(), rel=1e-5)


@pytest.mark.parametrize("alpha", [0.3, None])
def test_focal_follows_its_formula(alpha):
    found = Focal(gamma=1.5, alpha=alpha).function("multi-label")(LABELS, LOGITS)
    p = 1 / (1 + np.exp(-LOGITS.astype("float64")))
    present, absent = (1, 1) if alpha is None else (alpha, 1 - alpha)
    expected = -present * LABELS * (1 - p) ** 1.5 * np.log(p) - absent * (1 - LABELS) * p**1.5 * np.log(1 - p)
    assert float(found) == pytest.approx(expected.mean(), rel=1e-5)


def test_improved_cross_entropy_follows_its_formula():
    found = ImprovedCrossEntropy(label_smoothing=0.1).function("single-label")(ONE_HOT, LOGITS)
    p = np.exp(LOGITS.astype("float64"))
    p /= p.sum(axis=1, keepdims=True)
    target = 0.9 * ONE_HOT + 0.1 / 4
    expected = -(target * np.log(p)).sum(axis=1) + p.max(axis=1) - (target * p).sum(axis=1)
    assert float(found) == pytest.approx(expected.mean(), rel=1e-5)


def test_shares_in_half_precision_are_finite_at_saturation():
    logits = tf.Variable([[6e4, -6e4, 0.0]], dtype=tf.float16)
    with tf.GradientTape() as tape:
        value = CrossEntropy().function("proportions")(tf.constant([[0.0, 0.0, 1.0]]), tf.cast(logits, tf.float32))
    assert np.isfinite(value) and np.isfinite(tape.gradient(value, logits)).all()


def test_none_is_zero():
    assert float(NoObjective().function("multi-label")(LABELS, LOGITS)) == 0


@pytest.mark.parametrize(
    ("kind", "task", "said"),
    [
        (Asymmetric(), "single-label", "'asymmetric' is for multi-label data, found single-label data"),
        (Focal(), "single-label", "'focal' is for multi-label data"),
        (ImprovedCrossEntropy(), "multi-label", "'improved-cross-entropy' is for single-label data"),
    ],
)
def test_the_other_task_is_refused(kind, task, said):
    with pytest.raises(UserError, match=said) as fault:
        kind.function(task)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(
    ("kind", "task"),
    [(Asymmetric(), "multi-label"), (Focal(), "multi-label"), (ImprovedCrossEntropy(), "single-label")],
)
def test_class_weights_are_refused_where_they_are_not_defined(kind, task):
    with pytest.raises(UserError, match=f"'{kind.kind}' takes no class weights; leave out training.class_weights"):
        kind.function(task, np.ones(4))


def test_an_objective_is_named_by_its_kind_and_then_entered():
    assert objective("objective=asymmetric", "objective.clip=0.1") == Asymmetric(clip=0.1)
    assert objective("objective=focal", "objective.alpha=None") == Focal(alpha=None)
    assert objective('objective={"kind": "focal", "gamma": 1}') == Focal(gamma=1)
    assert objective("objective=none") == NoObjective()
    assert objective() is None
    assert Experiment(name="x", objective="focal").objective == Focal()


def test_another_kind_begins_with_its_own_options_and_the_same_kind_keeps_them():
    assert objective("objective.kind=focal", "objective.gamma=3") == Focal(gamma=3)
    assert objective("objective=focal", "objective.gamma=3", "objective.kind=focal") == Focal(gamma=3)
    smooth = ("objective=cross-entropy", "objective.label_smoothing=0.1")
    assert objective(*smooth) == CrossEntropy(label_smoothing=0.1)
    assert objective(*smooth, "objective.kind=asymmetric") == Asymmetric()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["objective=hinge"], "'hinge'"),
        (["objective.clip=0.1"], "set it first: --set objective=... objective.clip=..."),
        (["objective=asymmetric", "objective.klip=0.1"], "did you mean 'clip'?"),
        (["objective=asymmetric", "objective.clip=2"], "clip' is 2"),
        (["objective=focal", "objective.gamma=-1"], "gamma' is -1"),
    ],
)
def test_a_wrong_objective_is_one_line_that_names_it(settings, said):
    with pytest.raises(UserError) as fault:
        objective(*settings)
    assert said in str(fault.value)
    assert "\n" not in str(fault.value)
