"""What became of each layer when weights were loaded."""

from __future__ import annotations

from dataclasses import dataclass, field

from rsml.utils.text import some
from rsml.weights.source_layer import SourceLayer


@dataclass
class LoadReport:
    """What became of each layer when weights were loaded.

    Args:
        source: Where the weights came from.
        rule: "name" or "order": how layers were paired.
        matched: Layer of the model -> layer of the source.
        skipped: Layers of the model that the source has nothing for; they keep what they had.
        unused: Layers of the source that the model has no place for.
        shape_mismatch: Layer of the model -> (its shapes, the source's shapes); not loaded.
        adapted: Layer -> what was done to fit it to the number of bands.
        parameters: Number of parameters loaded, and of the whole model.
        left: The layers that are unused, with their arrays, for who goes on from the same source.
    """

    source: str
    rule: str = "name"
    matched: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    shape_mismatch: dict[str, tuple[list[tuple], list[tuple]]] = field(default_factory=dict)
    adapted: dict[str, str] = field(default_factory=dict)
    parameters: tuple[int, int] = (0, 0)
    left: list[SourceLayer] = field(default_factory=list, repr=False, compare=False)

    @property
    def layers(self) -> tuple[int, int]:
        """Number of layers loaded, and of layers with weights in the model."""
        return len(self.matched), len(self.matched) + len(self.skipped) + len(self.shape_mismatch)

    def text(self) -> str:
        """The counts, and what was left out, in one line."""
        loaded, total = self.layers
        line = (
            f"Weights from {self.source}: {loaded} of {total} layers loaded by {self.rule}, "
            f"{_millions(self.parameters[0])} of {_millions(self.parameters[1])} parameters"
        )
        for layer, how in self.adapted.items():
            line += f"; {layer} adapted {how}"
        if self.shape_mismatch:
            line += f"; other shapes: {some(list(self.shape_mismatch))}"
        if self.skipped:
            line += f"; not in the source: {some(self.skipped)}"
        if self.unused:
            line += f"; not used: {some(self.unused)}"
        return line + "."

    def table(self) -> str:
        """One line a layer: what it got."""
        rows = [
            (name, f"loaded from {source}" + (f", adapted {self.adapted[name]}" if name in self.adapted else ""))
            for name, source in self.matched.items()
        ]
        for name, (ours, theirs) in self.shape_mismatch.items():
            rows.append((name, f"not loaded: {ours} here, {theirs} there"))
        rows += [(name, "not in the source") for name in self.skipped]
        rows += [(name, "in the source only") for name in self.unused]
        width = max((len(name) for name, _ in rows), default=0)
        return "\n".join(f"{name:<{width}}  {what}" for name, what in rows)


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 1e5 else f"{count}"
