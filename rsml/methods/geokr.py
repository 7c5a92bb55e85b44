"""GeoKR: pretraining on land-cover shares, with a slowly following teacher that evens out what the maps get wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveInt, field_validator

from rsml.methods.base import LabelContext, Method, Term

if TYPE_CHECKING:
    import keras

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
    most: ClassVar[int] = 100_000_000
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
        from keras import ops

        last = self.update_steps[-1] * BATCH
        first = sum(ops.cast(images >= step * BATCH, "int64") for step in self.update_steps[:-1])
        return first + images // last

    def terms(self, context: LabelContext) -> list[Term]:
        return [TeacherTerm(self)] if self.teacher else []


class TeacherTerm(Term):
    """Consistency of the student with its teacher, which follows it.

    Args:
        options: The method's options.
    """

    name = "consistency"

    def __init__(self, options: GeoKR) -> None:
        self._options = options

    def attach(self, network: keras.Model) -> None:
        import keras

        from rsml.layers import MeanTeacher
        from rsml.losses import TeacherConsistency

        student = keras.Model(network.input, network.output["logits"], name="student_logits")
        schedule = self._options.updates_after if self._options.update == "schedule" else None
        self.state = MeanTeacher(student, self._options.alpha, schedule, name=self.name)
        self._loss = TeacherConsistency(reduction=None)

    def prepare(self, images: Any, batch: Any) -> dict[str, Any]:
        assert self.state is not None  # attached
        return {"teacher": self.state(images, batch=batch)}

    def __call__(self, labels: Any, index: Any, outputs: Mapping[str, Any]) -> Any:
        from keras import ops

        return ops.mean(self._loss(outputs["teacher"], outputs["logits"]))
