"""The CPU as several devices, for trying what otherwise takes several GPUs: RSML_CPU_DEVICES=2."""

from __future__ import annotations

import os

from rsml.utils.errors import UserError

VARIABLE = "RSML_CPU_DEVICES"


def wanted() -> int | None:
    """How many devices the CPU is to be, or None where nobody has asked."""
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return None
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"{VARIABLE}={text}: expected a number of devices, such as 2; unset it to use what there is")
    return int(text)


def split_cpu() -> None:
    """Splits the CPU as RSML_CPU_DEVICES says; TensorFlow allows it before its first operation only."""
    number = wanted()
    if number is None:
        return
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * number)
    except RuntimeError:
        found = len(tf.config.list_logical_devices("CPU"))
        if found != number:
            raise UserError(
                f"{VARIABLE}={number}: TensorFlow has started with {found} already; set it before Python starts"
            ) from None
