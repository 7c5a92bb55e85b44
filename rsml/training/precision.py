"""Which precision a training computes in, and how it is switched on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import tensorflow as tf

logger = logging.getLogger(__name__)


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Within it, layers are made under a dtype policy.

    Args:
        name: A policy of Keras's, or "auto": half precision where this machine computes faster in it.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(fastest() if name == "auto" else name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def fastest(cpu_flags: Path = Path("/proc/cpuinfo")) -> str:
    """The policy that trains fastest here: by the GPU's generation, else by what the processor can multiply."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        generation = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        chosen = "mixed_bfloat16" if generation >= (8, 0) else "mixed_float16" if generation >= (7, 0) else "float32"
    else:
        flags = cpu_flags.read_text(encoding="utf-8", errors="replace").split() if cpu_flags.is_file() else []
        chosen = "mixed_bfloat16" if {"avx512_bf16", "amx_bf16"} & set(flags) else "float32"
    logger.info("training.precision auto: %s", chosen)
    return chosen
