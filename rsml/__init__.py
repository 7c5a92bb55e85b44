"""rsml: classify remote-sensing scenes with Keras.

Importing the package makes its layers and losses known to Keras, so `keras.models.load_model` reads any rsml checkpoint.
"""

from rsml import quiet

quiet.import_tensorflow()

from rsml import layers, losses  # noqa: E402  (Keras must find TensorFlow already imported)

__version__ = "0.1.0"
__all__ = ["__version__", "layers", "losses"]
