"""Mean teacher: a copy of a network that takes no gradient and follows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops


class MeanTeacher(keras.layers.Layer):
    """A copy of a network that moves to `alpha * teacher + (1 - alpha) * student` when it is due.

    The copy sees images in training mode: its batch normalisation works with the batch and its moving averages follow
    what it sees itself, while a move mixes the trainable weights only. Part of a training, never of a saved model.

    A call takes images, and how many the whole batch has where these are a part of it.

    Args:
        student: The network that is followed, with the weights to begin from.
        alpha: What the teacher keeps of itself in a move.
        moves_after: From the number of images seen to the number of moves due by then; None moves before every step
            but the first, that is after each step of the student.

    Examples:
        >>> student = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> teacher = MeanTeacher(student, alpha=0.5)
        >>> before = teacher(np.ones((2, 3)))
        >>> _ = student.layers[-1].bias.assign([1.0])
        >>> float((teacher(np.ones((2, 3))) - before)[0, 0])
        0.5
    """

    def __init__(
        self, student: keras.Model, alpha: float, moves_after: Callable[[Any], Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.alpha, self.moves_after = alpha, moves_after
        self.teacher = keras.models.clone_model(student)
        self.teacher.set_weights(student.get_weights())
        self._move = _mover(self.teacher, student, alpha)
        # Not `self.teacher.trainable = False`: batch normalisation would take that for inference.
        for variable in self.teacher.trainable_variables:
            variable.trainable = False
        self.images = self.add_weight(shape=(), dtype="int64", initializer="zeros", trainable=False, name="images")
        self.moved = self.add_weight(shape=(), dtype="int64", initializer="zeros", trainable=False, name="moved")
        self.built = True

    def call(self, images: Any, batch: Any = None) -> Any:
        # The student's step comes after the loss, so what is due after a step is done before the next one.
        if self.moves_after is None:
            due = ops.cast(self.images > 0, "int64")
        else:
            due = self.moves_after(ops.convert_to_tensor(self.images)) - self.moved

        def move() -> Any:
            self._move()
            return self.moved.assign_add(1)

        ops.cond(due > 0, move, lambda: ops.convert_to_tensor(self.moved))
        self.images.assign_add(ops.cast(ops.shape(images)[0] if batch is None else batch, "int64"))
        return self.teacher(images, training=True)


def _mover(teacher: keras.Model, student: keras.Model, alpha: float) -> Callable[[], None]:
    """What moves the teacher's weights towards the student's; a function, so that the student is not tracked twice."""
    pairs = [(own, other) for own, other in zip(teacher.weights, student.weights, strict=True) if own.trainable]

    def move() -> None:
        for own, other in pairs:
            own.assign(alpha * own + (1 - alpha) * other)

    return move
