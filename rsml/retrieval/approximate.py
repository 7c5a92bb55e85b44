"""Approximate search with FAISS for archives of millions: most of the neighbours in a fraction of the time."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rsml.utils.errors import UserError
from rsml.utils.files import replacing
from rsml.utils.packages import require

Kind = Literal["hnsw", "ivf"]
SMALLEST = 1000
"""Images below which there is nothing to gain."""
_LINKS, _BREADTH = 32, 80
_BLOCK = 100_000


def build(kind: Kind, vectors: np.ndarray, metric: str) -> Any:
    """Builds a FAISS index over vectors `(images, width)` float32.

    `hnsw` is a graph of neighbours: the fastest and most accurate search, slow to build, 1.5 times the memory.
    `ivf` is a division into `4 sqrt(images)` cells of which a query opens a few: quick to build.

    Args:
        kind: "hnsw" or "ivf".
        vectors: Unit vectors for cosine.
        metric: "cosine" or "l2".
    """
    check(kind, len(vectors))
    faiss = import_faiss()
    width, measure = vectors.shape[1], faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(width, _LINKS, measure)
        index.hnsw.efConstruction = _BREADTH
    else:
        # FAISS wants at least 39 vectors a cell to place it.
        cells = max(1, min(round(4 * math.sqrt(len(vectors))), len(vectors) // 39))
        quantizer = faiss.IndexFlatIP(width) if metric == "cosine" else faiss.IndexFlatL2(width)
        index = faiss.IndexIVFFlat(quantizer, width, cells, measure)
        index.cp.max_points_per_centroid = 64
        chosen = np.random.default_rng(0).permutation(len(vectors))[: 64 * cells]
        index.train(np.ascontiguousarray(vectors[np.sort(chosen)]))
    for begin in range(0, len(vectors), _BLOCK):
        index.add(np.ascontiguousarray(vectors[begin : begin + _BLOCK]))
    return index


def check(kind: str, images: int) -> None:
    """Refuses an unknown kind, or an archive too small for any."""
    if kind not in ("hnsw", "ivf"):
        raise UserError(f'approximate index {kind!r} is unknown; expected "hnsw" or "ivf"')
    if images < SMALLEST:
        raise UserError(f"an approximate index of {images} images gains nothing (it needs {SMALLEST}); search exactly")
    import_faiss()


def search(index: Any, queries: np.ndarray, count: int, effort: int | None = None) -> np.ndarray:
    """Rows `(queries, count)`, nearest first; -1 where fewer were found.

    Args:
        index: What `build` made.
        queries: `(queries, width)` float32.
        count: How many.
        effort: Candidates kept (hnsw) or cells opened (ivf): more is slower and finds more.
    """
    faiss = import_faiss()
    if isinstance(index, faiss.IndexHNSW):
        options = faiss.SearchParametersHNSW(efSearch=max(effort or 128, count))
    else:
        options = faiss.SearchParametersIVF(nprobe=min(effort or max(8, index.nlist // 32), index.nlist))
    _, rows = index.search(np.ascontiguousarray(queries, dtype=np.float32), count, params=options)
    return rows


def write(index: Any, path: Path) -> None:
    """Writes an index whole or not at all."""
    with replacing(path) as beside:
        import_faiss().write_index(index, str(beside))


def read(path: Path) -> Any:
    """Reads what `write` wrote."""
    faiss = import_faiss()
    if not path.is_file():
        raise UserError(f"{path}: no such file; search with --exact, or make the index again with --fresh")
    try:
        return faiss.read_index(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1][:200]
        raise UserError(
            f"{path}: not an index that FAISS can read ({reason}); search with --exact, or make it again with --fresh"
        ) from None


def import_faiss() -> Any:
    """FAISS, or what to do without it."""
    logging.getLogger("faiss").setLevel(logging.WARNING)  # it tells of every processor feature it tries
    require("faiss")
    import faiss

    return faiss
