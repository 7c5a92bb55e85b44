"""Semantic interleaving (SIGNA, eq. 5): the softmax over channels that weights each image's channels by each other.

With the expansion that all channels share, head `h` has logits of rank one plus a constant row,

    s[b, h, d] = sum_e softmax_e(z[b, d] * slope[h, e] + offset[h, e]) * z[b, e],

so `s[b, h, d]` is a function of the one number `z[b, d]`. The exact form evaluates it at every channel, O(D^2) a head;
the interpolated form at few Chebyshev nodes, O(D) a head, and knows how many it needs. With an expansion of their own
for each channel the logits are a product over labels, and only the exact form is there.

Written in TensorFlow, not keras.ops: the gradients are by hand, so that no (batch, D, D) array outlives its use.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import tensorflow as tf

BLOCK = 1 << 21  # elements of a softmax in memory at a time: 8 MB in float32, which stays in a processor's cache
TOLERANCE = 1e-6  # of the interpolation, relative to half the spread of an image's z
Evaluated = tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, ...]]]  # the values, and what their gradient is


def interleave_exact(z: tf.Tensor, slope: tf.Tensor, offset: tf.Tensor, block: int = BLOCK) -> tf.Tensor:
    """Evaluate the interleaving at every channel, in blocks of heads and images.

    Backward, the softmax is computed again instead of kept, and its gradient is never formed: all that is needed are
    products of the softmax with a few vectors.

    Args:
        z: globally averaged features, `(batch, channels)`.
        slope: logits per unit of `z`, `(heads, channels)`.
        offset: constant part of the logits, `(heads, channels)`.
        block: elements of a softmax to hold in memory at a time (one head and image at the least).

    Returns:
        Interleaved features, `(batch, heads, channels)`.
    """
    return tf.custom_gradient(lambda z, slope, offset: _exact(z, slope, offset, block))(z, slope, offset)


def interleave_interpolated(
    z: tf.Tensor, slope: tf.Tensor, offset: tf.Tensor, nodes: int = 16, block: int = BLOCK
) -> tf.Tensor:
    """Evaluate the interleaving at Chebyshev nodes and interpolate.

    The range of the batch's `z` is cut into cells, each with `nodes` nodes, so many that within a cell no two logits
    move against each other by more than `cell_width(nodes)`: then the interpolation is good to `TOLERANCE` whatever
    the weights are. Sharp attention has large slopes and so needs more cells. Once they would have more nodes together
    than there are channels, the exact form is cheaper and is used instead.

    Args:
        z: globally averaged features, `(batch, channels)`.
        slope: logits per unit of `z`, `(heads, channels)`.
        offset: constant part of the logits, `(heads, channels)`.
        nodes: Chebyshev nodes a cell.
        block: see `interleave_exact`.

    Returns:
        Interleaved features, `(batch, heads, channels)`, off by at most `TOLERANCE` times half the spread of the
        image's `z`, and by float32's rounding.
    """
    cells = cells_needed(z, slope, nodes)
    return tf.cond(
        # False also where z or slope is not finite, which the exact form passes on.
        cells * nodes <= tf.cast(tf.shape(z)[1], cells.dtype),
        lambda: tf.custom_gradient(
            lambda z, slope, offset: _interpolated(z, slope, offset, tf.cast(cells, tf.int32), nodes)
        )(z, slope, offset),
        lambda: interleave_exact(z, slope, offset, block),
    )


def cells_needed(z: tf.Tensor, slope: tf.Tensor, nodes: int) -> tf.Tensor:
    """Return how many cells `interleave_interpolated` needs, a whole number as float."""
    extent = tf.reduce_max(z) - tf.reduce_min(z)
    spread = tf.reduce_max(tf.reduce_max(slope, axis=1) - tf.reduce_min(slope, axis=1))
    return tf.stop_gradient(tf.maximum(tf.math.ceil(extent * spread / cell_width(nodes)), 1.0))


@lru_cache
def cell_width(nodes: int, tolerance: float = TOLERANCE) -> float:
    """Return how far the logits may move against each other within a cell of `nodes` Chebyshev nodes.

    Let `r` be the spread of the slopes. The sum of exponentials under the softmax has no zero where `|Im z| r < pi`,
    and where `|Im z| r <= y` the interleaving stays within `V / cos(y / 2)` of the middle of the image's z, `V` being
    half their spread. If the Bernstein ellipse `rho` of a cell of width `w` fits into that strip, which it does for
    `rho - 1 / rho = 4 y / (w r)`, the interpolant errs by at most `4 V / cos(y / 2) * rho^(1 - nodes) / (rho - 1)`
    (Trefethen, Approximation Theory and Approximation Practice, theorem 8.2). The largest such `w r` is returned.
    """
    widest = 0.0
    for y in np.linspace(0.5, math.pi, 200, endpoint=False).tolist():
        low, high = 1.0 + 1e-9, 1e9
        for _ in range(100):
            rho = math.sqrt(low * high)
            error = 4 / math.cos(y / 2) / (rho - 1) * math.exp((1 - nodes) * math.log(rho))
            low, high = (rho, high) if error > tolerance else (low, rho)
        widest = max(widest, 4 * y / (high - 1 / high))
    return widest


def interleave_full(queries: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, block: int = BLOCK) -> tf.Tensor:
    """Evaluate the interleaving of the "full" expansion, in blocks of heads and images.

    Args:
        queries: expanded features `Zs`, `(heads, batch, channels, labels)`.
        keys: label features times the logit scale, `(heads, labels, channels)`.
        values: the features that are weighted, `(heads, batch, channels)`.
        block: see `interleave_exact`.

    Returns:
        Interleaved features, `(batch, heads, channels)`.
    """
    return tf.custom_gradient(lambda queries, keys, values: _full(queries, keys, values, block))(queries, keys, values)


def _exact(z: tf.Tensor, slope: tf.Tensor, offset: tf.Tensor, block: int) -> Evaluated:
    heads, batch, channels = slope.shape[0], tf.shape(z)[0], z.shape[1]

    def softmax(pair: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The interleaving matrices of some pairs, `(size, channels, channels)`, with their z and slopes."""
        values, slopes = tf.gather(z, pair % batch), tf.gather(slope, pair // batch)
        logits = values[:, :, None] * slopes[:, None] + tf.gather(offset, pair // batch)[:, None]
        return tf.nn.softmax(logits), values, slopes

    def forward(pair: tf.Tensor) -> tuple[tf.Tensor, ...]:
        weights, values, slopes = softmax(pair)
        rows = tf.stack([values, slopes * values, slopes], axis=1)
        mean, both, slope_mean = tf.unstack(tf.matmul(rows, weights, transpose_b=True), axis=1)
        return mean, both - slope_mean * mean

    mean, derivative = _in_blocks(forward, [(channels,)] * 2, z.dtype, heads, batch, channels, block)

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
        upstream = tf.transpose(upstream, (1, 0, 2))
        ups, means = _flat(upstream), _flat(mean)

        def backward(pair: tf.Tensor) -> tuple[tf.Tensor, ...]:
            weights, values, _ = softmax(pair)
            up, up_mean = tf.gather(ups, pair), tf.gather(ups * means, pair)
            rows = tf.stack([up, up * values, up_mean, up_mean * values], axis=1)
            plain, first, centre, first_centre = tf.unstack(tf.matmul(rows, weights), axis=1)
            return plain, values * first - first_centre, values * plain - centre

        to_values, to_slope, to_offset = _in_blocks(backward, [(channels,)] * 3, z.dtype, heads, batch, channels, block)
        return (
            tf.reduce_sum(to_values + upstream * derivative, axis=0),
            tf.reduce_sum(to_slope, axis=1),
            tf.reduce_sum(to_offset, axis=1),
        )

    return tf.transpose(mean, (1, 0, 2)), gradient


def _full(queries: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, block: int) -> Evaluated:
    heads, batch = keys.shape[0], tf.shape(values)[1]
    labels, channels = keys.shape[1:]
    flat_queries, flat_values = _flat(queries), _flat(values)

    def softmax(pair: tf.Tensor) -> tuple[tf.Tensor, ...]:
        query, key = tf.gather(flat_queries, pair), tf.gather(keys, pair // batch)
        return tf.nn.softmax(tf.matmul(query, key)), query, key, tf.gather(flat_values, pair)

    def forward(pair: tf.Tensor) -> tuple[tf.Tensor, ...]:
        weights, _, _, value = softmax(pair)
        return (tf.matmul(value[:, None], weights, transpose_b=True)[:, 0],)

    (mean,) = _in_blocks(forward, [(channels,)], values.dtype, heads, batch, channels, block)

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
        upstream = tf.transpose(upstream, (1, 0, 2))
        ups, centres = _flat(upstream), _flat(upstream * mean)

        def backward(pair: tf.Tensor) -> tuple[tf.Tensor, ...]:
            weights, query, key, value = softmax(pair)
            up, centre = tf.gather(ups, pair)[:, :, None], tf.gather(centres, pair)[:, :, None]
            to_value = tf.matmul(up, weights, transpose_a=True)[:, 0]
            to_logits = weights * (up * value[:, None] - centre)
            return tf.matmul(to_logits, key, transpose_b=True), tf.matmul(query, to_logits, transpose_a=True), to_value

        tails = [(channels, labels), (labels, channels), (channels,)]
        to_queries, to_keys, to_values = _in_blocks(backward, tails, values.dtype, heads, batch, channels, block)
        return to_queries, tf.reduce_sum(to_keys, axis=1), to_values

    return tf.transpose(mean, (1, 0, 2)), gradient


def _in_blocks(
    function: Callable[[tf.Tensor], tuple[tf.Tensor, ...]],
    tails: list[tuple[int, ...]],
    dtype: tf.DType,
    heads: int,
    batch: tf.Tensor,
    channels: int,
    block: int,
) -> list[tf.Tensor]:
    """Runs `function(pair)` on one block of (head, image) pairs after another.

    `pair` counts the images head by head. Each output, `(size of the block, *tail)`, is joined to
    `(heads, batch, *tail)`.
    """
    pairs = heads * batch
    steps = _ceil(pairs, max(1, block // channels**2))
    size = _ceil(pairs, tf.maximum(1, steps))
    arrays = [tf.TensorArray(dtype, steps, element_shape=(None, *tail)) for tail in tails]

    def body(step: tf.Tensor, arrays: list[tf.TensorArray]) -> tuple[tf.Tensor, list[tf.TensorArray]]:
        pair = (step * size + tf.range(size)) % pairs  # the last block may begin again at the first pair
        return step + 1, [array.write(step, x) for array, x in zip(arrays, function(pair), strict=True)]

    _, arrays = tf.while_loop(lambda step, _: step < steps, body, (0, arrays), parallel_iterations=1)
    joined = [tf.reshape(array.stack(), (steps * size, *tail)) for array, tail in zip(arrays, tails, strict=True)]
    return [tf.reshape(x[:pairs], (heads, batch, *tail)) for x, tail in zip(joined, tails, strict=True)]


def _flat(x: tf.Tensor) -> tf.Tensor:
    """Joins the heads and the images of `(heads, batch, ...)` to one axis of pairs."""
    return tf.reshape(x, (-1, *x.shape[2:]))


def _ceil(number: tf.Tensor, divisor: tf.Tensor) -> tf.Tensor:
    return -(-number // divisor)


def _interpolated(z: tf.Tensor, slope: tf.Tensor, offset: tf.Tensor, cells: tf.Tensor, nodes: int) -> Evaluated:
    batch, channels, heads = tf.shape(z)[0], tf.shape(z)[1], slope.shape[0]
    angles = math.pi * (np.arange(nodes) + 0.5) / nodes
    # Values at the nodes -> coefficients of the Chebyshev polynomials.
    transform = np.cos(np.outer(np.arange(nodes), angles)) * (2 - (np.arange(nodes) == 0))[:, None] / nodes
    transform = tf.constant(transform, z.dtype)

    lowest = tf.reduce_min(z)
    width = tf.maximum((tf.reduce_max(z) - lowest) / tf.cast(cells, z.dtype), 1e-30)
    corners = tf.cast(tf.range(cells), z.dtype)[:, None]
    points = tf.reshape(lowest + width * (corners + tf.constant((np.cos(angles) + 1) / 2, z.dtype)), (-1,))

    place = (z - lowest) / width
    cell = tf.clip_by_value(tf.floor(place), 0.0, tf.cast(cells - 1, z.dtype))
    angle = tf.acos(tf.clip_by_value(2.0 * (place - cell) - 1.0, -1.0, 1.0))
    basis = tf.cos(angle[..., None] * tf.range(nodes, dtype=z.dtype))  # the Chebyshev polynomials of the place
    # A row of zeros but for the channel's own cell turns the look-up of its cell into one product.
    own_cell = tf.one_hot(tf.cast(cell, tf.int32), cells, dtype=z.dtype)
    basis = tf.reshape(own_cell[..., None] * basis[:, :, None], (batch, channels, cells * nodes))

    def coefficients(values: tf.Tensor) -> tf.Tensor:
        """Turns values at the nodes, `(heads, cells * nodes, batch)`, into `(batch, cells * nodes, heads)`."""
        values = tf.reshape(tf.transpose(values, (1, 2, 0)), (cells, nodes, batch * heads))
        return tf.transpose(tf.reshape(tf.matmul(transform, values), (cells * nodes, batch, heads)), (1, 0, 2))

    def node_gradients(gradients: tf.Tensor) -> tf.Tensor:
        """The transpose of `coefficients`."""
        gradients = tf.reshape(tf.transpose(gradients, (1, 0, 2)), (cells, nodes, batch * heads))
        values = tf.matmul(transform, gradients, transpose_a=True)
        return tf.transpose(tf.reshape(values, (cells * nodes, batch, heads)), (2, 0, 1))

    weights = tf.nn.softmax(points[:, None] * slope[:, None] + offset[:, None])  # (heads, cells * nodes, channels)
    centered = slope - tf.reduce_mean(slope, axis=1, keepdims=True)
    each_head = tf.tile(z[None], (heads, 1, 1))
    values = tf.matmul(weights, each_head, transpose_b=True)
    both = tf.matmul(weights, centered[:, None] * z, transpose_b=True)
    derivatives = both - tf.matmul(weights, centered[..., None]) * values  # by z, exact at the nodes
    mixed = tf.matmul(basis, tf.concat([coefficients(values), coefficients(derivatives)], axis=-1))
    mean, derivative = tf.split(tf.transpose(mixed, (0, 2, 1)), 2, axis=1)

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
        up = node_gradients(tf.matmul(basis, upstream, transpose_a=True, transpose_b=True))
        to_logits = weights * (tf.matmul(up, each_head) - tf.reduce_sum(up * values, axis=-1, keepdims=True))
        moments = tf.matmul(tf.stack([points, tf.ones_like(points)])[None], to_logits)
        return (
            tf.einsum("hne,hnb->be", weights, up) + tf.reduce_sum(upstream * derivative, axis=1),
            moments[:, 0],
            moments[:, 1],
        )

    return mean, gradient
