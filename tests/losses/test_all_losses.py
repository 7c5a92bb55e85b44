"""Every loss of the room through the one check."""

import keras
import numpy as np
import pytest

from rsml import losses
from tests.layers.checks import check_loss

RANDOM = np.random.default_rng(0)
LABELS = (RANDOM.random((6, 4)) < 0.5).astype("float32")
ONE_HOT = np.eye(4)[RANDOM.integers(0, 4, 6)]
LOGITS = RANDOM.normal(0, 1, (6, 4))
CASES = {
    "asymmetric": (losses.AsymmetricLoss(3.0, 0.5, 0.1, from_logits=True), LABELS, LOGITS),
    "focal": (losses.FocalLoss(1.5, 0.3, from_logits=True), LABELS, LOGITS),
    "improved cross entropy": (losses.ImprovedCrossEntropy(True, 0.1), ONE_HOT, LOGITS),
    "label ranking": (losses.LabelRanking(True, 10.0, 3, 0.2), LABELS, LOGITS),
    "sample ranking": (losses.SampleRanking(True, 10.0, 3, 0.2), LABELS, LOGITS),
    "feature ranking": (losses.FeatureRanking(5.0), LABELS, LOGITS),
    "teacher consistency": (losses.TeacherConsistency(), LOGITS[::-1], LOGITS),
}


@pytest.mark.parametrize("name", CASES)
def test_it_passes_the_check(name, tmp_path):
    check_loss(*CASES[name], tmp_path)


def test_none_is_left_out():
    known = {type(loss).__name__ for loss, _, _ in CASES.values()}
    found = {name for name in losses.__all__ if isinstance(getattr(losses, name), type)}
    assert known == {name for name in found if issubclass(getattr(losses, name), keras.losses.Loss)}
