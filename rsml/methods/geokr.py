"""GeoKR: pretraining on land-cover shares, with a slowly following teacher that evens out what the maps get wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import keras
from keras import ops
from pydantic import Field, PositiveInt, field_validator

from rsml.losses import TeacherConsistency
from rsml.methods.base import LabelContext, Method, Term

BATCH = 16
"""The batch that the published steps are counted in."""


class GeoKR(Method):
    """Cross entropy with the land-cover shares, and consistency of the student with a mean teacher.

    The classifier is the student and is what is saved. The teacher is a copy of it that takes no gradient and moves
    to `alpha * teacher + (1 - alpha) * student` now and then. It sees the same images in training mode, so its batch
    normalisation works with the batch, and its moving averages follow what it sees itself; the update mixes weights
    only, as in the authors' code.

    Attributes:
        teacher: Without it, only the cross entropy is left (the ablation).
        alpha: What the teacher keeps of itself in an update.
        update: When it moves: at the steps of the "schedule", or after every "step".
        update_steps: The schedule, in steps of 16 images, so that other batches see as many images between updates;
            after the last of them the teacher moves whenever as many steps have passed again.

    Reference:
        Li et al., Geographical Knowledge-Driven Representation Learning for Remote Sensing Images, TGRS 2021.
    """

    kind: Literal["geokr"] = "geokr"
    tasks: ClassVar[tuple[str, ...]] = ("proportions",)
    teacher: bool = True
    alpha: float = Field(0.95, ge=0, lt=1)
    update: Literal["schedule", "step"] = "schedule"
    update_steps: tuple[PositiveInt, ...] = Field((500, 10500, 20500, 30500), min_length=1)

    @field_validator("update_steps")
    @classmethod
    def _rising(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if list(steps) != sorted(set(steps)):
            raise ValueError(f"expected steps that rise, found {list(steps)}")
        return steps

    def updates_after(self, images: Any) -> Any:
        """How many times the teacher has moved once that many images were seen, by the schedule."""
        last = self.update_steps[-1] * BATCH
        first = sum(ops.cast(images >= step * BATCH, "int64") for step in self.update_steps[:-1])
        return first + images // last

    def terms(self, context: LabelContext) -> list[Term]:
        return [TeacherTerm(self)] if self.teacher else []


class TeacherTerm(keras.layers.Layer, Term):
    """Consistency of the student with its teacher, which follows it.

    Args:
        options: The method's options.
    """

    def __init__(self, options: GeoKR) -> None:
        super().__init__(name="consistency", dtype="float32")
        self._options = options
        self._loss = TeacherConsistency()

    def attach(self, network: keras.Model) -> None:
        logits = keras.Model(network.input, network.output["logits"], name="student_logits")
        self.teacher = keras.models.clone_model(logits)
        self.teacher.set_weights(logits.get_weights())
        self._move = _mover(self.teacher, logits, self._options.alpha)
        # Not `self.teacher.trainable = False`: batch normalisation would take that for inference.
        for variable in self.teacher.trainable_variables:
            variable.trainable = False
        self.images = self.add_weight(shape=(), dtype="int64", initializer="zeros", trainable=False, name="images")
        self.moved = self.add_weight(shape=(), dtype="int64", initializer="zeros", trainable=False, name="moved")
        self.built = True

    def call(self, labels: Any, index: Any, outputs: Mapping[str, Any]) -> Any:
        # The student's step comes after the loss, so what is due after a step is done before the next one.
        self._follow()
        self.images.assign_add(ops.cast(ops.shape(labels)[0], "int64"))
        return self._loss(self.teacher(outputs["images"], training=True), outputs["logits"])

    def _follow(self) -> None:
        if self._options.update == "step":
            due = ops.cast(self.images > 0, "int64")
        else:
            due = self._options.updates_after(ops.convert_to_tensor(self.images)) - self.moved

        def move() -> Any:
            self._move()
            return self.moved.assign_add(1)

        ops.cond(due > 0, move, lambda: ops.convert_to_tensor(self.moved))


def _mover(teacher: keras.Model, student: keras.Model, alpha: float) -> Callable[[], None]:
    """What moves the teacher's weights towards the student's; a function, so that the student is not tracked twice."""
    pairs = [(own, other) for own, other in zip(teacher.weights, student.weights, strict=True) if own.trainable]

    def move() -> None:
        for own, other in pairs:
            own.assign(alpha * own + (1 - alpha) * other)

    return move
