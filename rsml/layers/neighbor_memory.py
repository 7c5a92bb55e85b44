"""Memory bank of GRN: one unit vector for each training image, its loss, its update and its neighbours.

TensorFlow moves the rows: its `scatter_update` writes in place, where keras.ops.scatter_update copies the whole bank.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from rsml.losses.neighbors import neighbor_losses, over_blocks, read_rows, reduced, without_itself
from rsml.losses.numerics import choice, working

_PART = 8192  # rows prepared at once when bank and labels are set; the result does not depend on it


@keras.saving.register_keras_serializable("rsml")
class NeighborMemory(keras.layers.Layer):
    """One vector for each training image, against which a batch's neighbour discriminative loss is taken.

    The bank starts as uniform noise in `(-s, s)`, `s = 1 / sqrt(dim / 3)`, and after each step the batch's rows
    become `M_i <- normalise(momentum M_i + (1 - momentum) f_i)`. An image that occurs several times in a batch
    contributes the mean of its features and moves once, whatever the order. A row that cannot be normalised (a sum of
    0, or not finite) stays as it was.

    Calling the layer returns the summands of the loss `(batch,)` and, with `training=True`, updates the bank
    afterwards; `loss`, `update` and `neighbors` do the single parts. No gradient flows into the bank. Everything runs
    in float32 whatever the precision of the model, and reads the bank in blocks: memory beyond the bank is a few
    `(batch, block)` arrays.

    The bank and the momentum are weights, so they are saved and resumed. The label matrix belongs to the data: it is
    kept as bytes beside the weights, is not saved, and is given again by `set_labels` after loading.

    Args:
        images: Number of training images N.
        dim: Width of the embedding.
        labels: `(images, labels)` 0/1; or None, and `set_labels` before the first loss.
        momentum: Share of the old row that an update keeps. Assign to `memory.momentum` to follow a schedule.
        temperature: T of the softmax over the bank.
        margin: Divides the mass of the neighbours alike by `exp(margin / temperature)`.
        block: Rows of the bank worked through at once; changes nothing but rounding.
        seed: Seed of the random start.
        **kwargs: As for every Keras layer.

    Shapes:
        Features `(batch, dim)`, L2-normalised; index `(batch,)`, the images' rows in the bank.

    Examples:
        >>> labels = np.eye(4)[[0, 1, 2, 3, 0]]  # of five training images
        >>> memory = NeighborMemory(images=5, dim=2, labels=labels, seed=0)
        >>> features, index = np.eye(2, dtype="float32"), np.array([0, 4])
        >>> losses = memory(features, index, training=True)  # moves rows 0 and 4 of the bank
        >>> losses.shape
        TensorShape([2])
        >>> similarities, rows = memory.neighbors(features, k=1)
        >>> rows.numpy().ravel().tolist()
        [0, 4]

    Reference:
        Kang et al., "Graph relation network: modeling relations between scenes for multilabel remote-sensing image
        classification and retrieval" (GRN), TGRS 2020.
    """

    def __init__(
        self,
        images: int,
        dim: int = 128,
        labels: Any = None,
        momentum: float = 0.5,
        temperature: float = 0.05,
        margin: float = 0.0,
        block: int = 4096,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        # Half precision would round the features before the dot products; Keras casts them up on the way in.
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.images = int(choice("images", images, 1))
        self.dim = int(choice("dim", dim, 1))
        self.temperature = choice("temperature", temperature, 1e-6)
        self.margin = choice("margin", margin, 0)
        self.block = int(choice("block", block, 1))
        self.seed = seed
        # Compiled by XLA, an update would copy the whole bank.
        self.supports_jit = False
        self._labels: tf.Tensor | None = None
        weight = {"trainable": False, "autocast": False}
        start = keras.initializers.Constant(choice("momentum", momentum, 0, 1))
        self._momentum = self.add_weight(shape=(), initializer=start, name="momentum", **weight)
        self.memory = self.add_weight(shape=(self.images, self.dim), initializer="zeros", name="memory", **weight)
        self._fill()
        if labels is not None:
            self.set_labels(labels)
        self.built = True

    def _fill(self) -> None:
        """Writes the random start part by part, since Keras's initialisers would hold the bank several times over."""
        seed = np.random.randint(2**31) if self.seed is None else self.seed
        random = np.random.default_rng(seed)
        half_width = np.float32(1.0 / np.sqrt(self.dim / 3.0))
        with tf.init_scope():
            for start in range(0, self.images, _PART):
                stop = min(start + _PART, self.images)
                part = random.random((stop - start, self.dim), dtype=np.float32)
                self._write(tf.range(start, stop), (2.0 * part - 1.0) * half_width)

    def _write(self, rows: Any, vectors: Any) -> None:
        """Overwrites rows of the bank in place."""
        self.memory.value.scatter_update(tf.IndexedSlices(tf.convert_to_tensor(vectors), rows))

    @property
    def momentum(self) -> float:
        """Share of the old row that an update keeps."""
        return float(self._momentum.numpy())

    @momentum.setter
    def momentum(self, value: float) -> None:
        self._momentum.assign(choice("momentum", value, 0, 1))

    def set_labels(self, labels: Any) -> None:
        """Gives the label matrix `(images, labels)`, 0/1, in the order of the bank's rows."""
        labels = np.asarray(labels)
        if labels.ndim != 2 or len(labels) != self.images:
            raise ValueError(
                f"labels must have the shape (images, labels) = ({self.images}, any), found {labels.shape}"
            )
        stored = np.empty(labels.shape, np.uint8)
        for start in range(0, self.images, _PART):
            part = labels[start : start + _PART]
            if not ((part == 0) | (part == 1)).all():
                raise ValueError("labels must be 0 or 1 (multi-hot or one-hot), found other values")
            stored[start : start + _PART] = part
        with tf.init_scope():
            self._labels = tf.constant(stored)

    def call(self, features: Any, index: Any, training: bool | None = None) -> Any:
        losses = self.loss(features, index, reduction="none")
        if training:
            self.update(features, index)
        return losses

    def compute_output_shape(self, features_shape: tuple, index_shape: tuple) -> tuple:
        return (features_shape[0],)

    def loss(self, features: Any, index: Any, reduction: str | None = "mean") -> Any:
        """Scalable neighbour discriminative loss of a batch: a scalar, or its summands `(batch,)` for "none"."""
        if self._labels is None:
            raise ValueError(
                f"{self.name} has no labels: call set_labels(labels) with the ({self.images}, labels) matrix"
            )
        losses = neighbor_losses(
            features,
            index,
            read_rows(self.memory.value),
            read_rows(self._labels),
            self.images,
            self._labels.shape[1],
            self.temperature,
            self.margin,
            self.block,
        )
        return reduced(losses, reduction)

    def update(self, features: Any, index: Any) -> None:
        """Moves the rows of a batch's images towards their features `(batch, dim)`."""
        features = ops.stop_gradient(ops.cast(features, "float32"))
        index = ops.cast(index, "int32")
        # Every occurrence of an image takes part in the group of its first one, and all write the same row.
        first = tf.argmax(index[:, None] == index[None, :], axis=1, output_type=tf.int32)
        means = tf.gather(tf.math.unsorted_segment_mean(features, first, tf.shape(index)[0]), first)
        old = tf.gather(self.memory.value, index)
        moved = self._momentum * old + (1.0 - self._momentum) * means
        norms = tf.norm(moved, axis=1, keepdims=True)
        usable = (norms > 0) & tf.math.is_finite(norms)
        self._write(index, tf.where(usable, moved / tf.where(usable, norms, 1.0), old))

    def neighbors(self, features: Any, k: int, exclude: Any = None) -> tuple[Any, Any]:
        """The rows of the bank with the largest dot products.

        Args:
            features: `(batch, dim)`.
            k: Number of neighbours.
            exclude: `(batch,)` row numbers that are left out, an image's own row say; or None.

        Returns:
            Dot products `(batch, k)`, largest first, and row numbers `(batch, k)` int32. Of equal ones the lower row
            comes first.
        """
        available = self.images - (exclude is not None)
        if not 1 <= k <= available:
            raise ValueError(f"k must be from 1 to {available}, the rows to choose from, found {k}")
        features = working(features)
        exclude = None if exclude is None else ops.cast(exclude, "int32")

        def add(start: Any, count: Any, best: tuple[Any, Any]) -> tuple[Any, Any]:
            numbers = start + tf.range(count)
            rows = tf.cast(tf.gather(self.memory.value, numbers), features.dtype)
            products = tf.matmul(features, rows, transpose_b=True)
            if exclude is not None:
                products = without_itself(products, exclude, start)
            values, places = tf.math.top_k(products, min(k, count))
            values, rows = tf.concat([best[0], values], axis=1), tf.concat([best[1], places + start], axis=1)
            values, places = tf.math.top_k(values, k)
            return values, tf.gather(rows, places, batch_dims=1)

        none = tf.zeros((tf.shape(features)[0], k), features.dtype)
        return over_blocks(add, (none - float("inf"), tf.cast(none, tf.int32) - 1), self.images, self.block)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "images": self.images,
            "dim": self.dim,
            "momentum": self.momentum,
            "temperature": self.temperature,
            "margin": self.margin,
            "block": self.block,
            "seed": self.seed,
        }
