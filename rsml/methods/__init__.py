"""One file a method; here they are known by name.

A new method is one file in this folder, or one anywhere else: see "Add your own method" in docs/methods.md.
"""

from typing import Any

from rsml.methods.base import LabelContext, Method, Term
from rsml.methods.registry import built_in, find_method

METHODS: dict[str, type[Method]] = built_in()
"""The methods of this package by kind."""

__all__ = ["METHODS", "LabelContext", "Method", "Term", "find_method", *(cls.__name__ for cls in METHODS.values())]


def __getattr__(name: str) -> Any:
    """Each method under the name of its class, `rsml.methods.GRN`."""
    for method in globals().get("METHODS", {}).values():
        if method.__name__ == name:
            return method
    raise AttributeError(f"module 'rsml.methods' has no attribute '{name}'")
