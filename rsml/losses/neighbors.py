"""Scalable neighbour discriminative loss (SNDL) of GRN against a memory bank, in blocks of its rows.

TensorFlow does the blocks: its loop runs one at a time (`parallel_iterations`), which bounds memory; Keras's cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
from keras import ops

from rsml.losses.numerics import choice, with_gradient, working

ReadRows = Callable[[Any], Any]
"""From row numbers `(rows,)` to those rows of a matrix."""


def scalable_neighbor_loss(
    features: Any,
    index: Any,
    memory: Any,
    labels: Any,
    temperature: float = 0.05,
    margin: float = 0.0,
    block: int = 4096,
    reduction: str | None = "mean",
) -> Any:
    """Scalable neighbour discriminative loss of a batch against a memory bank.

    With `w_ij = 1 - hamming(y_i, y_j) / L` the share of labels on which two images agree, and `p_ij` the softmax of
    `f_i . M_j / T` over all rows j but i itself,

        SNDL = -1/B sum_i log(sum_j w_ij p_ij).

    A margin m divides the mass `sum_j w_ij p_ij` by `exp(m / T)` before it is normalised again with the rest,
    `1 - mass`. An image whose mass is 0 (no other row agrees with it on any label) counts 0 in the sum, and still
    counts in B. The gradient flows into the features through the dot products only: features are taken as they are,
    so normalise them before.

    The bank is read once, in blocks. Each block adds to the sums of value and gradient, which are rescaled to the
    largest dot product so far (log-sum-exp, in float32 at least), so memory beyond the bank is a few `(batch, block)`
    arrays, and the number of rows in a block changes nothing but rounding.

    Args:
        features: `(batch, dim)`, L2-normalised.
        index: `(batch,)`, each image's row in the bank.
        memory: `(images, dim)`, array, tensor or variable.
        labels: `(images, labels)`, 0/1.
        temperature: T.
        margin: m.
        block: Rows of the bank worked through at once.
        reduction: "mean" for the loss above, or "none" (or None) for its summands `(batch,)`.

    Examples:
        >>> memory = np.eye(2, dtype="float32")[[0, 0, 1]]
        >>> loss = scalable_neighbor_loss(memory[:1], [0], memory, labels=np.array([[1, 0], [1, 0], [0, 1]]))
        >>> round(float(loss), 4)  # its neighbour has the same labels
        0.0

    Reference:
        Kang et al., "Graph relation network: modeling relations between scenes for multilabel remote-sensing image
        classification and retrieval" (GRN), TGRS 2020.
    """
    images = memory.shape[0]
    if labels.shape[0] != images:
        raise ValueError(f"labels must have one row for each of the {images} rows of memory, found {labels.shape[0]}")
    labels = tf.convert_to_tensor(labels)
    losses = neighbor_losses(
        features, index, read_rows(memory), read_rows(labels), images, labels.shape[1], temperature, margin, block
    )
    return reduced(losses, reduction)


def reduced(losses: Any, reduction: str | None) -> Any:
    """Reduces losses of images as asked."""
    if reduction not in ("mean", "none", None):
        raise ValueError(f'reduction must be "mean", "none" or None, found {reduction!r}')
    return ops.mean(losses) if reduction == "mean" else losses


def read_rows(matrix: Any) -> ReadRows:
    """Reads parts of an array, tensor or variable; of a variable nothing but the part is copied."""
    # Slicing a variable that is updated row by row would first copy it as a whole; gathering does not.
    matrix = matrix if isinstance(matrix, tf.Variable) else tf.convert_to_tensor(matrix)
    return lambda numbers: tf.gather(matrix, numbers)


class _Sums(NamedTuple):
    """Sums over the rows read so far, all relative to `exp(top)`; weights are twice the number of agreeing labels."""

    top: Any  # (batch, 1) largest logit
    total: Any  # (batch, 1) sum_j e_ij
    agreeing: Any  # (batch, 1) sum_j a_ij e_ij
    total_rows: Any  # (batch, dim) sum_j e_ij M_j
    agreeing_rows: Any  # (batch, dim) sum_j a_ij e_ij M_j


def neighbor_losses(
    features: Any,
    index: Any,
    read_memory: ReadRows,
    read_labels: ReadRows,
    images: int,
    labels: int,
    temperature: float,
    margin: float,
    block: int,
) -> Any:
    """SNDL's summands `(batch,)`; see `scalable_neighbor_loss`."""
    choice("temperature", temperature, 1e-6)
    features = working(features)
    index = ops.cast(index, "int32")
    dtype = features.dtype
    queries = ops.stop_gradient(features) / temperature
    # Labels as -1/+1 beside a column of L and of ones: their products are y_i . y_j + L, integers from 0 to 2 L.
    signs = _signs(read_labels(index), labels, dtype)

    def add(start: Any, count: Any, sums: _Sums) -> _Sums:
        numbers = start + tf.range(count)
        rows = tf.cast(read_memory(numbers), dtype)
        logits = without_itself(tf.matmul(queries, rows, transpose_b=True), index, start)
        agreement = tf.matmul(signs, _signs(read_labels(numbers), 1.0, dtype), transpose_b=True)
        top = tf.maximum(sums.top, tf.reduce_max(logits, axis=1, keepdims=True))
        powers = tf.exp(logits - top)
        agreeing = agreement * powers
        scale = tf.exp(sums.top - top)
        return _Sums(
            top,
            sums.total * scale + tf.reduce_sum(powers, axis=1, keepdims=True),
            sums.agreeing * scale + tf.reduce_sum(agreeing, axis=1, keepdims=True),
            sums.total_rows * scale + tf.matmul(powers, rows),
            sums.agreeing_rows * scale + tf.matmul(agreeing, rows),
        )

    column, wide = tf.zeros_like(queries[:, :1]), tf.zeros_like(queries)
    sums = over_blocks(add, _Sums(column + dtype.min, column, column, wide, wide), images, block)

    # With h = sum a e (agreeing) and u = sum (2 L - a) e (the rest), the summand is log(1 + exp(m / T) u / h).
    # Asked this way round, features that are not a number give a loss that is none, rather than 0.
    massless = sums.agreeing <= 0
    agreeing = tf.where(massless, 1.0, sums.agreeing)
    rest = tf.maximum(2.0 * labels * sums.total - sums.agreeing, 0.0)
    rest_rows = 2.0 * labels * sums.total_rows - sums.agreeing_rows
    odds = tf.math.log(rest) - tf.math.log(agreeing) + margin / temperature
    values = tf.where(massless, 0.0, tf.math.softplus(odds))
    # Its derivative is sigmoid(odds) (d log u - d log h); sigmoid(odds) / u is written so that u may be 0.
    by_rest = tf.where(massless | (rest <= 0), 0.0, tf.exp(margin / temperature - tf.math.log(agreeing) - values))
    by_agreeing = tf.where(massless, 0.0, tf.sigmoid(odds) / agreeing)
    gradient = (by_rest * rest_rows - by_agreeing * sums.agreeing_rows) / temperature
    return with_gradient(features, values[:, 0], gradient)


def over_blocks(add: Callable[[Any, Any, Any], Any], state: Any, rows: int, block: int) -> Any:
    """Folds `add(start, count, state)` over all rows, `block` of them at a time, the last block being what is left."""
    full, left = divmod(rows, block)
    if full == 1:
        state = add(0, block, state)
    elif full > 1:
        _, state = tf.while_loop(
            lambda number, _: number < full,
            lambda number, kept: (number + 1, add(number * block, block, kept)),
            (tf.constant(0), state),
            parallel_iterations=1,  # each block needs the sums before it
        )
    return add(full * block, left, state) if left else state


def without_itself(logits: Any, index: Any, start: Any) -> Any:
    """Sets each image's own column to minus infinity, where the block that begins at row `start` has it."""
    place = index - start
    last = ops.shape(logits)[1] - 1
    own = tf.stack([tf.range(ops.shape(logits)[0]), tf.clip_by_value(place, 0, last)], axis=1)
    inside = (place >= 0) & (place <= last)
    return tf.tensor_scatter_nd_add(logits, own, tf.where(inside, tf.cast(-float("inf"), logits.dtype), 0.0))


def _signs(labels: Any, last: float, dtype: Any) -> Any:
    """Labels 0/1 as -1/+1 with one more column of a constant."""
    return tf.pad(2.0 * tf.cast(labels, dtype) - 1.0, [[0, 0], [0, 1]], constant_values=tf.cast(last, dtype))
