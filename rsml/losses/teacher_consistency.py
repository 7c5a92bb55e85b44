"""GeoKR's consistency loss; its other loss is cross entropy with the shares of land cover."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from rsml.losses.numerics import working


@keras.saving.register_keras_serializable("rsml")
class TeacherConsistency(keras.losses.Loss):
    """Cross entropy that draws the student's distribution towards the teacher's.

    With logits t of the teacher and s of the student, the loss is `mean(-softmax(s) log softmax(t))`, the mean over
    batch AND classes. The student is the distribution and the teacher the code, as published; the teacher takes no
    gradient.

    Shapes:
        Teacher's logits `(batch, classes)` in the labels' place, student's logits `(batch, classes)`.

    Examples:
        >>> logits = [[0.0, 0.0]]
        >>> round(float(TeacherConsistency()(logits, logits)), 4)  # ln 2 over two classes
        0.3466

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
