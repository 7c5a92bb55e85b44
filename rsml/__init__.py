"""rsml: classify remote-sensing scenes with Keras.

Importing it makes its layers and losses known to Keras, and `keras.models.load_model` reads any rsml checkpoint.
"""

import sys

__version__ = "0.1.0"


def _runs_on_rasters_alone() -> bool:
    """Whether this process is `python -m rsml.geo`, which needs no TensorFlow and should not wait seconds for it."""
    # While Python looks for the module, "-m" stands for the script; the module's name is what the arguments follow.
    return sys.argv[:1] == ["-m"] and sys.orig_argv[-len(sys.argv)] == "rsml.geo"


if _runs_on_rasters_alone():
    __all__ = ["__version__"]
else:
    from rsml import quiet

    # Keras must find TensorFlow already imported.
    quiet.import_tensorflow()

    from rsml import layers, losses

    __all__ = ["__version__", "layers", "losses"]
