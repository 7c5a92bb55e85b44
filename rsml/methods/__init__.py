"""One file a method; here they are known by name.

A new method adds its file and one entry to `METHODS`.
"""

from rsml.methods.base import LabelContext, Method, Term
from rsml.methods.plain import Plain

METHODS: dict[str, type[Method]] = {method.model_fields["kind"].default: method for method in (Plain,)}

__all__ = ["METHODS", "LabelContext", "Method", "Plain", "Term"]
