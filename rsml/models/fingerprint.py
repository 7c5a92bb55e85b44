"""What tells one trained model from another: a digest of its weights and of what its numbers mean."""

import hashlib
import json
from typing import Any

import keras
import numpy as np


def fingerprint(model: keras.Model, about: dict[str, Any]) -> str:
    """16 hex digits that change with any weight, any kind of layer, or anything in `about`.

    They stay the same after saving and loading. (The config would not do: Keras numbers the tensors in it anew in
    every session.)
    """
    about = {**about, "kinds": [type(inner).__name__ for inner in model.layers]}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
    for weight in model.weights:
        array = np.ascontiguousarray(weight)
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]
