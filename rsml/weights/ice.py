"""Tell files of the improved cross-entropy paper from others, and how their networks want their pixels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rsml.utils.guard import Damaged, parse_json
from rsml.utils.guard.hdf5_files import open_hdf5
from rsml.weights.keras2 import is_legacy

# The names that the authors gave their loss, and the widths of the dense layers of their classifier.
_LOSS = re.compile(r"ice|improved_cross_?entropy|new_?loss_?\d*", re.IGNORECASE)
_WIDTHS = [728, 256]


def ice_pixels(path: Path) -> str | None:
    """The preprocessing mode of a network in a Keras 2 file of Bahri et al., else None.

    Known by the name of its loss or by its dense layers. Their recipe divides pixels by 255.

    Args:
        path: A weights or model file.
    """
    try:
        if not is_legacy(path):
            return None
        with open_hdf5(path) as file:
            config = parse_json(file.attrs["model_config"], str(path), allow_nan=True)
            training = parse_json(file.attrs.get("training_config", "{}"), str(path), kind=object, allow_nan=True)
    except Damaged:
        return None  # whoever loads it says what is wrong with it
    loss = training.get("loss") if isinstance(training, dict) else None
    losses = list(loss.values()) if isinstance(loss, dict) else loss if isinstance(loss, list) else [loss]
    if any(isinstance(name, str) and _LOSS.fullmatch(name) for name in losses):
        return "unit"
    return "unit" if list(_dense_widths(config))[-3:-1] == _WIDTHS else None


def _dense_widths(config: Any) -> Iterator[Any]:
    """Units of the dense layers of a config in order, those of nested models in place."""
    inner = config.get("config") if isinstance(config, dict) else None
    layers = inner.get("layers", []) if isinstance(inner, dict) else inner
    for entry in layers if isinstance(layers, list) else []:
        if isinstance(entry, dict) and entry.get("class_name") == "Dense" and isinstance(entry.get("config"), dict):
            yield entry["config"].get("units")
        else:
            yield from _dense_widths(entry)
