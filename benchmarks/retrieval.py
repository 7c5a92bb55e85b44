"""Times searching an archive of 128-d embeddings exactly (numpy's BLAS, FAISS's flat index) and approximately.

    python benchmarks/retrieval.py [--images 1000000] [--width 128] [--kinds ivf hnsw]

The vectors are a mixture: 2000 centres, around each of them noise in 20 directions. In Gaussian noise of full width all
images would be nearly equally far, and no approximate index of use.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import faiss
import numpy as np

from rsml.evaluation.neighbors import unit
from rsml.retrieval import approximate
from rsml.retrieval.index import Index

NEIGHBOURS = 10


def mixture(
    images: int, width: int, spread: float, seed: int = 0, centres: int = 2000, directions: int = 20
) -> np.ndarray:
    random = np.random.default_rng(seed)
    middle = random.normal(size=(centres, width)).astype(np.float32)
    basis = random.normal(size=(directions, width)).astype(np.float32) / np.sqrt(directions)
    vectors = np.empty((images, width), np.float32)
    for begin in range(0, images, 100_000):
        count = min(100_000, images - begin)
        offsets = random.normal(size=(count, directions)).astype(np.float32) @ basis
        vectors[begin : begin + count] = unit(middle[random.integers(0, centres, count)] + spread * offsets)
    return vectors


def milliseconds(functions: dict[str, Callable], rounds: int) -> dict[str, tuple[float, float]]:
    """Median and fastest of each, taken in turns so that what else the machine does falls on all alike."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds + 1):
        for name, function in functions.items():
            begun = time.perf_counter()
            function(turn)
            if turn:
                times[name].append(1000 * (time.perf_counter() - begun))
    return {name: (statistics.median(values), min(values)) for name, values in times.items()}


def in_memory(vectors: np.ndarray) -> Index:
    """An index without its folder."""
    about = {"images": len(vectors), "width": vectors.shape[1], "metric": "cosine", "files": {}}
    index = Index(None, {**about, "model": {"fingerprint": ""}})
    index.vectors = vectors
    return index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--spread", type=float, default=1.0, help="noise against the distance of centres")
    parser.add_argument("--kinds", nargs="*", default=["ivf", "hnsw"], choices=["ivf", "hnsw"])
    parser.add_argument("--efforts", type=int, nargs="+", help="candidates kept or cells opened (default: some)")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    vectors = mixture(options.images, options.width, options.spread)
    queries = unit(vectors[:: max(1, options.images // 500)][:500] + 0.02)
    index = in_memory(vectors)
    print(
        f"{options.images} images, {options.width} values, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}"
    )
    print(f"\n{'exact':<28} {'queries':>8} {'ms median':>10} {'ms fastest':>11}")
    for count in (1, 32):
        some = [queries[turn * count % 400 :][:count] for turn in range(options.rounds + 1)]
        functions = {
            "rsml (BLAS of numpy)": lambda turn, some=some: index.search(some[turn], NEIGHBOURS),
            "FAISS, flat": lambda turn, some=some: faiss.knn(
                some[turn], vectors, NEIGHBOURS, metric=faiss.METRIC_INNER_PRODUCT
            ),
        }
        for name, (middle, best) in milliseconds(functions, options.rounds if count == 1 else 5).items():
            print(f"{name:<28} {count:>8} {middle:>10.1f} {best:>11.1f}")
    true, _ = index.search(queries, NEIGHBOURS)
    flat = faiss.knn(queries[:100], vectors, NEIGHBOURS, metric=faiss.METRIC_INNER_PRODUCT)[1]
    agreement = np.mean([len(np.intersect1d(a, b)) for a, b in zip(true, flat, strict=False)]) / NEIGHBOURS
    print(f"neighbours in common with FAISS, flat: {100 * agreement:.2f} %")
    for kind in options.kinds:
        begun = time.perf_counter()
        built = approximate.build(kind, vectors, "cosine")
        print(f"\n{kind}: built in {time.perf_counter() - begun:.0f} s", flush=True)
        print(f"{'effort':<28} {'recall@10':>9} {'ms median':>10} {'ms fastest':>11}")
        for effort in options.efforts or ([8, 32, 125, 500] if kind == "ivf" else [32, 64, 128, 256]):
            found = approximate.search(built, queries, NEIGHBOURS, effort)
            recall = np.mean([len(np.intersect1d(a, b)) for a, b in zip(true, found, strict=True)]) / NEIGHBOURS
            one = {"": lambda turn, e=effort, b=built: approximate.search(b, queries[turn : turn + 1], NEIGHBOURS, e)}
            middle, best = milliseconds(one, options.rounds)[""]
            print(f"{effort:<28} {recall:>9.3f} {middle:>10.2f} {best:>11.2f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
