"""Start TensorFlow without its start-up notes, which no setting silences since 2.17: for commands alone."""

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rsml.utils.packages import require
from rsml.utils.virtual_devices import split_cpu

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


@contextmanager
def log_level_restored() -> Iterator[None]:
    """Within it TensorFlow's level of notes may be set; later processes must not take it for the user's wish."""
    before = os.environ.get(_LEVEL)
    try:
        yield
    finally:
        os.environ.pop(_LEVEL, None)
        if before is not None:
            os.environ[_LEVEL] = before


def start_tensorflow(first: Callable[[], Any] = lambda: None) -> Any:
    """Imports and starts TensorFlow with the process's error stream held back; shows it if that fails.

    A user who sets TF_CPP_MIN_LOG_LEVEL has decided what to see and is left alone.

    Args:
        first: What has to be done before TensorFlow's first operation.

    Returns:
        What `first` has returned.
    """
    require("tensorflow")
    if _LEVEL in os.environ or "tensorflow" in sys.modules:
        return first()
    sys.stderr.flush()
    kept = os.dup(2)
    with log_level_restored(), tempfile.TemporaryFile() as held:
        os.environ[_LEVEL] = "2"
        os.dup2(held.fileno(), 2)
        try:
            import tensorflow as tf

            logging.getLogger("tensorflow").setLevel(logging.WARNING)
            split_cpu()
            made = first()
            # The first operation looks for devices, with notes of its own.
            tf.constant(0)
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    return made
