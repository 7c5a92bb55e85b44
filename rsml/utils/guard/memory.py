"""How much memory there is, and whether a network fits into it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsml.utils.errors import UserError

if TYPE_CHECKING:
    import keras

_CGROUP_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
_UNKNOWN = 1 << 62


def available_memory() -> int:
    """Bytes that this process can still take: what the machine has free, or less where a container allows less."""
    free = _UNKNOWN
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) << 10
    except (OSError, ValueError):
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit, usage in _CGROUP_LIMITS:
        try:
            free = min(free, max(0, int(Path(limit).read_text()) - int(Path(usage).read_text())))
        except (OSError, ValueError):  # no such container, or "max"
            continue
    return free


def in_words(count: int) -> str:
    """A number of bytes as people write it.

    >>> in_words(3 << 30)
    '3.0 GiB'
    """
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def memory_of(model: keras.Model, batch_size: int = 1, *, training: bool = False) -> int:
    """Bytes that a step of a network takes at least, estimated from its shapes; nothing is computed or allocated.

    Weights once, or four times in training (gradients and an optimizer's two moments); the images; and the outputs of
    its layers: all of them in training, where the backward pass needs them, else the largest with its inputs. Sizes
    that a model leaves open count as 1.

    Args:
        model: A built functional model.
        batch_size: Images a step.
        training: Whether it is to learn.
    """
    weights = sum(_bytes(variable.shape, variable.dtype) for variable in model.weights)
    images = sum(_bytes((batch_size, *tensor.shape[1:]), tensor.dtype) for tensor in model.inputs)
    steps = list(_calls(model, batch_size))
    outputs = [after for _, after in steps]
    working = sum(outputs) if training else max((before + after for before, after in steps), default=0)
    return weights * (4 if training else 1) + images + working


def check_fits_memory(
    model: keras.Model,
    batch_size: int = 1,
    *,
    training: bool = False,
    title: str | None = None,
    advice: str = "make image_size or the batch smaller",
    available: int | None = None,
) -> None:
    """Refuses a network whose step would need more memory than there is.

    Args:
        model: A built functional model.
        batch_size: Images a step.
        training: Whether it is to learn.
        title: What it is called in the fault.
        advice: What to do, the end of the line.
        available: Bytes there are; None asks the machine.
    """
    needed, there = (
        memory_of(model, batch_size, training=training),
        available_memory() if available is None else available,
    )
    if needed <= there:
        return
    size = " x ".join(str(side) for side in model.inputs[0].shape[1:]) if model.inputs else "no"
    raise UserError(
        f"{title or model.name}: a {'training ' if training else ''}step of {batch_size} images of {size} needs about "
        f"{in_words(needed)} of memory, and {in_words(there)} are free; {advice}"
    )


def _calls(model: Any, batch_size: int) -> list[tuple[int, int]]:
    """Bytes of the inputs and of the outputs of each call in a model, those of models inside it too."""
    found: list[tuple[int, int]] = []
    for layer in model.layers:
        if hasattr(layer, "layers") and hasattr(layer, "inputs"):
            found += _calls(layer, batch_size)
            continue
        for node in getattr(layer, "_inbound_nodes", ()):
            sizes = [
                sum(_bytes((batch_size, *tensor.shape[1:]), tensor.dtype) for tensor in tensors if len(tensor.shape))
                for tensors in (node.input_tensors, node.output_tensors)
            ]
            found.append((sizes[0], sizes[1]))
    return found


def _bytes(shape: Any, dtype: str) -> int:
    count = 1
    for side in shape:
        count *= 1 if side is None else int(side)
    return count * {"float64": 8, "int64": 8, "uint64": 8, "float16": 2, "bfloat16": 2, "uint8": 1, "bool": 1}.get(
        dtype, 4
    )
