"""rsml: classify remote-sensing scenes with Keras.

Importing it is light: what needs TensorFlow is loaded when it is first used (`rsml.train`, ...).
`import rsml.layers` makes its layers known to Keras; then plain `keras.models.load_model` reads any rsml checkpoint.
Give a model images that `rsml.images` has read: a plain resize without antialiasing loses some 3 points of accuracy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rsml.api import images, train
    from rsml.config import Experiment
    from rsml.explain.class_maps import ClassMaps
    from rsml.run import Run
    from rsml.weights.models import load_model

__version__ = "0.2.0"

_LAZY = {
    "ClassMaps": "rsml.explain.class_maps",
    "Experiment": "rsml.config",
    "Run": "rsml.run",
    "images": "rsml.api",
    "load_model": "rsml.weights.models",
    "train": "rsml.api",
}

__all__ = ["ClassMaps", "Experiment", "Run", "__version__", "images", "load_model", "train"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'rsml' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
