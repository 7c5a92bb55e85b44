"""One layer's arrays as a file holds them, whatever wrote it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class SourceLayer:
    """One layer's arrays in a file.

    Args:
        name: The layer's name, or None where the file does not keep it.
        kind: The class of the layer in snake case ("conv2d"), or "" where the file does not keep it.
        values: Array by place in the layer: "vars/0" for its own, "query/vars/0" for those of a layer inside it; in old
            HDF5 files only the order counts.
        ordered: Whether `values` is known by order alone.
    """

    name: str | None
    kind: str
    values: dict[str, np.ndarray] = field(default_factory=dict)
    ordered: bool = False

    @property
    def arrays(self) -> list[np.ndarray]:
        """The arrays in order."""
        return list(self.values.values())

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(array.size for array in self.values.values())


def bfloat16(bits: np.ndarray) -> np.ndarray:
    """Numbers from the upper halves of float32, which numpy has no type for."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
