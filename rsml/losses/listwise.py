"""Approximate NDCG of many lists at once: the one expression under all three ranking losses.

TensorFlow does the blocks: keras.ops has no control dependencies, which keep all blocks from being worked on at once.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras import ops

from rsml.losses.numerics import with_gradient

# Pairs worked through at once: large enough to keep every core busy, small enough to stay near the cache.
PAIRS_AT_ONCE = 1 << 20
BLOCKS_IN_FLIGHT = 2
MOST_UNROLLED = 16


def discounts(count: Any, dtype: str) -> Any:
    """Returns 1 / ln(k + 1) for the places k = 1 ... count.

    Natural logarithms serve as well as the usual base 2: the factor cancels in DCG / IDCG.
    """
    return 1.0 / ops.log1p(ops.cast(ops.arange(1, count + 1), dtype))


def ideal_of_sorted(gains: Any) -> Any:
    """Returns the ideal DCG `(lists,)` of gains `(lists, items)`: the largest gain at the first place, and so on."""
    ordered = tf.sort(gains, axis=-1, direction="DESCENDING")
    return ops.sum(ordered * discounts(ops.shape(gains)[-1], gains.dtype), axis=-1)


def approximate_ndcg_loss(scores: Any, gains: Any, ideal: Any, alpha: float) -> Any:
    """One minus DCG / IDCG with differentiable ranks, for each list.

    Item i's rank is `pi_i = 0.5 + sum_j sigmoid(alpha (s_j - s_i))` over all items j, itself included; its discount
    is `1 / log2(pi_i + 1)`. The lists are worked through in blocks of about a million pairs, and each block yields
    value and gradient in one pass, so the (lists, items, items) array never exists as a whole.

    Args:
        scores: `(lists, items)`, larger is better.
        gains: `(lists, items)`, `2^relevance - 1`; no gradient flows into them.
        ideal: `(lists,)`, the ideal DCG in the units of `discounts`; a list with 0 has loss 0 and no gradient.
        alpha: Steepness of the approximate ranks.

    Returns:
        `(lists,)`.

    Reference:
        Qin, Liu and Li, "A general approximation framework for direct optimization of information retrieval
        measures", 2010.
    """
    fixed = ops.stop_gradient(scores)
    # A list without an ideal has gains of 0 only: any divisor will do.
    counts = ideal > 0
    shares = gains / ops.expand_dims(ops.where(counts, ideal, ops.ones_like(ideal)), -1)
    ratio, slope = _in_blocks(fixed, shares, alpha)
    losses = ops.where(counts, 1.0 - ratio, ops.zeros_like(ratio))
    return with_gradient(scores, losses, -slope)


def _in_blocks(scores: Any, shares: Any, alpha: float) -> tuple[Any, Any]:
    """DCG `(lists,)` and its slope `(lists, items)`, a block of lists after the other."""
    lists, items = scores.shape
    if lists is None or items is None:
        return _in_loop(scores, shares, alpha)
    block = max(1, PAIRS_AT_ONCE // max(1, items * items))
    if lists > block * MOST_UNROLLED:
        return _in_loop(scores, shares, alpha)
    # Unrolled, since XLA runs the inside of a loop on one core.
    done: list[tuple[Any, Any]] = []
    for start in range(0, max(lists, 1), block):
        # A graph would start all blocks at once if none had to wait for an earlier one.
        with tf.control_dependencies([slope for _, slope in done[-BLOCKS_IN_FLIGHT:][:1]]):
            part = tf.identity(scores[start : start + block])
            done.append(_dcg_and_slope(part, shares[start : start + block], alpha))
    if len(done) == 1:
        return done[0]
    return ops.concatenate([value for value, _ in done]), ops.concatenate([slope for _, slope in done])


def _in_loop(scores: Any, shares: Any, alpha: float) -> tuple[Any, Any]:
    """As `_in_blocks`, for numbers of lists that are large or not known beforehand."""
    lists, items = ops.shape(scores)[0], ops.shape(scores)[1]
    block = tf.maximum(1, PAIRS_AT_ONCE // tf.maximum(1, items * items))
    blocks = -(-lists // block)
    padding = [[0, blocks * block - lists], [0, 0]]
    stacked = tuple(tf.reshape(tf.pad(values, padding), (blocks, block, items)) for values in (scores, shares))
    value, slope = tf.map_fn(
        lambda pair: _dcg_and_slope(pair[0], pair[1], alpha),
        stacked,
        fn_output_signature=(scores.dtype, scores.dtype),
        parallel_iterations=BLOCKS_IN_FLIGHT,
    )
    return tf.reshape(value, (-1,))[:lists], tf.ensure_shape(tf.reshape(slope, (-1, items))[:lists], scores.shape)


def _dcg_and_slope(scores: Any, shares: Any, alpha: float) -> tuple[Any, Any]:
    """DCG of each list and its derivative with respect to each score.

    With t_ij = tanh(alpha (s_j - s_i) / 2), sigmoid = (1 + t) / 2 and its derivative is (1 - t^2) / 4, which is
    symmetric.
    So with c_i = d DCG / d pi_i, the derivative by s_k is alpha / 4 (sum_i c_i (1 - t_ik^2) - c_k sum_i (1 -
    t_ik^2)): one product of the symmetric block with the two columns (1, c).
    """
    half = scores * (0.5 * alpha)
    count = ops.cast(ops.shape(scores)[1], scores.dtype)
    steps = ops.tanh(half[:, None, :] - half[:, :, None])
    ranks = 0.5 + 0.5 * (count + ops.sum(steps, axis=-1))
    discount = 1.0 / ops.log1p(ranks)
    value = ops.sum(shares * discount, axis=-1)
    by_rank = -shares * discount * discount / (1.0 + ranks)
    columns = ops.stack([ops.ones_like(by_rank), by_rank], axis=-1)
    sums = ops.matmul(1.0 - steps * steps, columns)
    return value, (0.25 * alpha) * (sums[..., 1] - by_rank * sums[..., 0])
