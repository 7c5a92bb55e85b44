"""GeoKR's two losses: agreement with land-cover proportions, and with a teacher network."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from rsml.losses.numerics import working


@keras.saving.register_keras_serializable("rsml")
class LandCoverClassification(keras.losses.Loss):
    """Cross entropy of the student's logits s with the land-cover proportions q of a tile.

    The loss is `mean(-q log softmax(s))`, the mean over batch AND classes, as published: the usual categorical cross
    entropy divided by the number of classes.

    Shapes:
        Proportions `(batch, classes)` and logits `(batch, classes)`.

    Reference:
        Li et al., "Geographical knowledge-driven representation learning for remote sensing images" (GeoKR), TGRS
        2021.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "land_cover_classification",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        log_p = ops.log_softmax(working(y_pred), axis=-1)
        return -ops.mean(ops.cast(y_true, log_p.dtype) * log_p, axis=-1)


@keras.saving.register_keras_serializable("rsml")
class TeacherConsistency(keras.losses.Loss):
    """Cross entropy that draws the student's distribution towards the teacher's.

    With logits t of the teacher and s of the student, the loss is `mean(-softmax(s) log softmax(t))`, the mean over
    batch AND classes. The student is the distribution and the teacher the code, as published; the teacher takes no
    gradient.

    Shapes:
        Teacher's logits `(batch, classes)` in the labels' place, student's logits `(batch, classes)`.

    Reference:
        Li et al., "Geographical knowledge-driven representation learning for remote sensing images" (GeoKR), TGRS
        2021.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "teacher_consistency",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        student = ops.softmax(working(y_pred), axis=-1)
        teacher = ops.log_softmax(ops.stop_gradient(working(y_true)), axis=-1)
        return -ops.mean(student * ops.cast(teacher, student.dtype), axis=-1)
