"""One file a method; here they are known by name.

A new method adds its file and one entry to `METHODS`.
"""

from rsml.methods.base import LabelContext, Method, Term
from rsml.methods.geokr import GeoKR
from rsml.methods.grn import GRN
from rsml.methods.ice import ICE
from rsml.methods.ml_gcn import MLGCN
from rsml.methods.plain import Plain
from rsml.methods.r4c import R4C
from rsml.methods.se_net import SENet
from rsml.methods.signa import Signa

METHODS: dict[str, type[Method]] = {
    method.model_fields["kind"].default: method for method in (Plain, SENet, MLGCN, Signa, GRN, R4C, ICE, GeoKR)
}

__all__ = [
    "GRN",
    "ICE",
    "METHODS",
    "MLGCN",
    "R4C",
    "GeoKR",
    "LabelContext",
    "Method",
    "Plain",
    "SENet",
    "Signa",
    "Term",
]
