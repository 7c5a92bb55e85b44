"""The plain backbone: pooled features, one dense layer, the task's own loss."""

from typing import ClassVar, Literal

from rsml.methods.base import Method


class Plain(Method):
    """Brings nothing, so that a comparison can name the baseline."""

    kind: Literal["plain"] = "plain"
    tasks: ClassVar[tuple[str, ...]] = ("multi-label", "single-label", "proportions")
