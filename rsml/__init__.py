"""rsml: classify remote-sensing scenes with Keras.

Importing it makes its layers and losses known to Keras, and `keras.models.load_model` reads any rsml checkpoint.
"""

from rsml import quiet

quiet.import_tensorflow()

from rsml import layers, losses  # noqa: E402  (Keras must find TensorFlow already imported)

__version__ = "0.1.0"
__all__ = ["__version__", "layers", "losses"]
