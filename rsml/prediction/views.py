"""Score an image from several sides: its flips and quarter turns, averaged."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from rsml.layers.scene_predictions import logits_of, predictions_of
from rsml.utils.errors import UserError

# Quarter turns and whether left and right are exchanged first; the first so many are what a number of views means.
_VIEWS = ((0, False), (0, True), (2, False), (2, True), (1, False), (1, True), (3, False), (3, True))
NUMBERS = (1, 2, 4, 8)


class Views(keras.Model):
    """A classifier that answers for the mean over an image's views; aerial scenes have no upright.

    Two views are the image and its mirror image, four add both upside down, eight all quarter turns (square images).
    Logits are averaged, so that calibration and thresholds mean what they mean for one view; of a model that does not
    end in an rsml layer, probabilities.

    Args:
        model: Images to probabilities.
        number: 1, 2, 4 or 8.

    Examples:
        ```python
        scores = Views(rsml.load_model("checkpoint/scenes"), 8).predict(images)
        ```
    """

    def __init__(self, model: keras.Model, number: int) -> None:
        super().__init__(name=f"{model.name}_views")
        height, width = model.input_shape[1:3]
        if number not in NUMBERS:
            raise UserError(f"views: expected 1, 2, 4 or 8, found {number}")
        if number == 8 and height != width:
            raise UserError(f"views: quarter turns need square images, these are {height} x {width}; take 4 views")
        self.number = number
        logits = logits_of(model)
        self.body = model if logits is None else keras.Model(model.input, logits)
        self.last = None if logits is None else predictions_of(model)

    def call(self, images: Any, training: bool = False) -> Any:
        outputs = [self.body(view(images, *how), training=False) for how in _VIEWS[: self.number]]
        mean = ops.mean(ops.stack(outputs), axis=0)
        return mean if self.last is None else self.last(mean)


def view(images: Any, turns: int, mirrored: bool) -> Any:
    """One view of images `(batch, height, width, bands)`."""
    images = ops.flip(images, axis=2) if mirrored else images
    return ops.rot90(images, turns, axes=(1, 2)) if turns else images
