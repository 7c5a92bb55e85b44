"""rsml: classify remote-sensing scenes with Keras.

Importing the package makes its layers and losses known to Keras, so `keras.models.load_model` reads any rsml checkpoint.
"""

import os

# TensorFlow reads this once, at import: its start-up notes would drown the one line a user needs.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from rsml import layers, losses

__version__ = "0.1.0"
__all__ = ["__version__", "layers", "losses"]
