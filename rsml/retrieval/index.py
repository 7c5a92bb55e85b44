"""What an index folder is: the embeddings of an archive with its paths, labels and model, kept whole and searched."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from rsml.data.samples import Samples
from rsml.evaluation.neighbors import by_distance, check_count, top_rows, unit
from rsml.retrieval import approximate
from rsml.utils.errors import UserError
from rsml.utils.files import remove, replacing, reserve, write_json
from rsml.utils.guard import Damaged, map_npy, read_json, read_npy
from rsml.utils.manifest import Finding, digest

Metric = Literal["cosine", "l2"]
FORMAT = 1
ABOUT, BUILDING, JOB = "index.json", "building", "job.json"
_OURS = re.compile(r"\.?(embeddings|images|stamps|hnsw|ivf)-\d+(\.writing-[\w@-]+)?\.(npy|csv|faiss)(\.part)?")
_AGAIN = "make the index again with --fresh"
_PRODUCTS = 16_777_216
_BLOCK = 65_536


class Index:
    """An archive of embedded images in a folder, open for searching.

    `index.json` names the other files and is written last, so a folder either holds a whole index or none.

    Args:
        folder: The index folder.
        about: What `index.json` says.
    """

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder, self.about = folder, about
        self.metric: Metric = about["metric"]
        self.fingerprint: str = about["model"]["fingerprint"]

    def __len__(self) -> int:
        return self.about["images"]

    def __repr__(self) -> str:
        return f"Index({str(self.folder)!r}, {len(self)} images, {self.metric})"

    @classmethod
    def open(cls, folder: str | Path) -> Index:
        """Opens a whole index; a half written one is refused."""
        folder = Path(folder)
        if not (folder / ABOUT).is_file():
            if (job := read_job(folder)) is not None:
                raise UserError(
                    f"{folder}: a half written index (its {job['images']} images are not all embedded); "
                    "run the command that began it again, it goes on where it stopped"
                )
            raise UserError(f"{folder}: not an index folder (no {ABOUT} in it); make one: rsml retrieve index")
        about = read_json(folder / ABOUT, advice=_AGAIN)
        if about.get("format") != FORMAT:
            raise UserError(
                f"{folder}: an index of format {about.get('format')}, this rsml reads {FORMAT}; "
                "make it again with --fresh"
            )
        _check_about(folder / ABOUT, about)
        index = cls(folder, about)
        if index.vectors.shape != (about["images"], about["width"]) or len(index.samples) != about["images"]:
            raise UserError(
                f"{folder}: its files do not fit together ({len(index.vectors)} embeddings, "
                f"{len(index.samples)} paths, {about['images']} expected); make it again with --fresh"
            )
        return index

    def file(self, name: str) -> Path:
        """The file that holds "embeddings", "samples", "stamps" or "approximate"."""
        return self.folder / self.about["files"][name]

    @cached_property
    def vectors(self) -> np.ndarray:
        """`(images, width)` float32, mapped into memory; of unit length for cosine."""
        return map_npy(self.file("embeddings"), kinds="f", ndim=2, advice=_AGAIN)

    @cached_property
    def samples(self) -> Samples:
        """Paths, and labels where they are known (else no label columns)."""
        return Samples.read_csv(self.file("samples"), root=Path(self.about["root"]), task=self.about["task"])

    @cached_property
    def stamps(self) -> np.ndarray:
        """`(images,)` int64: when each image file was last changed as it was embedded."""
        return read_npy(self.file("stamps"), kinds="i", ndim=1, advice=_AGAIN)

    @cached_property
    def _approximate(self) -> Any:
        # FAISS believes what a file says of its sizes.
        known = self.about.get("checksums", {}).get(self.about["files"]["approximate"])
        if known is not None and self.file("approximate").is_file() and digest(self.file("approximate")) != known:
            raise Damaged(
                f"{self.file('approximate')}: damaged (its checksum is another); search with --exact, or {_AGAIN}"
            )
        return approximate.read(self.file("approximate"))

    @cached_property
    def _half_squares(self) -> np.ndarray | None:
        """|x - q|^2 falls with x.q - |x|^2 / 2."""
        return None if self.metric == "cosine" else -0.5 * np.einsum("nw,nw->n", self.vectors, self.vectors)

    def check_model(self, fingerprint: str, name: str) -> None:
        """Refuses a model whose embeddings mean something else."""
        if fingerprint != self.fingerprint:
            raise UserError(
                f"{self.folder}: an index made by another model ({self.about['model'].get('source')}, "
                f"{self.fingerprint}) than {name} ({fingerprint}); search with that one, or make an index with this one"
            )

    def search(
        self,
        queries: np.ndarray,
        k: int = 10,
        own: Sequence[int] | np.ndarray | None = None,
        exact: bool | None = None,
        effort: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k images nearest to each query, nearest first; all of the archive where it is smaller.

        Exact search is a product with the whole archive: the BLAS of numpy uses all cores for one query, FAISS's flat
        index one, and takes three times as long (`benchmarks/retrieval.py`).

        Args:
            queries: `(queries, width)` embeddings by the same model.
            k: How many.
            own: `(queries,)` row of the archive that is the query itself and is passed over; -1 for none.
            exact: None is approximate if the index was made with an approximate one.
            effort: Of an approximate search; see `approximate.search`.

        Returns:
            Rows `(queries, neighbours)` int64, -1 where an approximate search found fewer, and cosine similarities or
            Euclidean distances.
        """
        queries = np.asarray(queries, np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.about["width"]:
            raise UserError(f"{self.folder}: holds embeddings of {self.about['width']} values, found {queries.shape}")
        check_count(k)
        if not np.isfinite(queries).all():
            raise UserError("a query's embedding holds NaN or infinity; its model has diverged")
        own = np.full(len(queries), -1) if own is None else np.asarray(own, np.int64)
        count = min(int(k), len(self) - bool((own >= 0).any()))
        if count < 1:
            raise UserError(f"{self.folder}: an archive of one, the query itself; it has no neighbour")
        if exact is False and "approximate" not in self.about["files"]:
            raise UserError(
                f"{self.folder}: has no approximate index; make it with --approximate hnsw, or search exactly"
            )
        if self.metric == "cosine":
            queries = unit(queries)
        if exact or "approximate" not in self.about["files"]:
            return self._exact(queries, count, own)
        rows = approximate.search(self._approximate, queries, count + 1, effort)
        rows = np.where(rows == own[:, None], -1, rows)
        # What was found first, what was not (-1) last, without disturbing the order.
        rows = np.take_along_axis(rows, np.argsort(rows < 0, axis=1, kind="stable"), 1)[:, :count]
        return self._with_values(rows, queries)

    def _exact(self, queries: np.ndarray, count: int, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # As many queries at once as keep the products of the usual block in bounds, and then as long blocks as fit.
        found = [np.empty((0, count), np.int64)]
        step = _PRODUCTS // _BLOCK
        for begin in range(0, len(queries), step):
            some = slice(begin, begin + step)
            found.append(top_rows(self._blocks(len(queries[some])), queries[some], count, own[some]))
        return self._with_values(np.concatenate(found), queries)

    def _blocks(self, queries: int) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
        vectors, bias, step = np.asarray(self.vectors), self._half_squares, max(_BLOCK, _PRODUCTS // queries)
        for begin in range(0, len(vectors), step):
            rows = slice(begin, begin + step)
            yield begin, vectors[rows], None if bias is None else bias[rows]

    def _with_values(self, rows: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sorts by exact distances: those of the search are rounded differently in every kind of index."""
        distances = np.empty(rows.shape)
        step = max(1, _PRODUCTS // max(1, rows.shape[1] * queries.shape[1]))
        for begin in range(0, len(rows), step):
            some = slice(begin, begin + step)
            apart = self.vectors[rows[some]].astype(np.float64) - queries[some, None]
            distances[some] = np.sqrt(np.einsum("qkw,qkw->qk", apart, apart))
        rows, distances = by_distance(rows, np.where(rows < 0, np.inf, distances))
        if self.metric == "cosine":
            return rows, np.where(rows < 0, -np.inf, 1 - distances**2 / 2)
        return rows, distances


def write_index(
    folder: Path,
    samples: Samples,
    stamps: np.ndarray,
    fill: Iterator[tuple[np.ndarray, np.ndarray]],
    width: int,
    *,
    metric: Metric,
    model: dict[str, Any],
    kind: approximate.Kind | None = None,
) -> Index:
    """Writes an index whole; one that is there serves until its successor is.

    Args:
        folder: Where.
        samples: The images, in order.
        stamps: `(images,)` when each file was last changed.
        fill: Rows `(n,)` and their embeddings `(n, width)`, part by part, until all rows have one.
        width: Of the embeddings.
        metric: "cosine" or "l2".
        model: "fingerprint", and what else is to be known of the model.
        kind: Of an approximate index beside the exact one.
    """
    before = read_json(folder / ABOUT, advice=_AGAIN)["files"] if (folder / ABOUT).is_file() else {}
    number = 1 + max((int(Path(name).stem.rpartition("-")[2]) for name in before.values()), default=0)
    files = {
        "embeddings": f"embeddings-{number}.npy",
        "samples": f"images-{number}.csv",
        "stamps": f"stamps-{number}.npy",
    }
    with replacing(folder / files["embeddings"]) as beside:
        vectors = np.lib.format.open_memmap(beside, "w+", np.float32, (len(samples), width))
        reserve(beside)
        for rows, values in fill:
            vectors[rows] = unit(values) if metric == "cosine" else values
        vectors.flush()
    samples.write_csv(folder / files["samples"])
    with replacing(folder / files["stamps"]) as beside:
        np.save(beside, stamps)
    about = {
        "format": FORMAT,
        "images": len(samples),
        "width": width,
        "metric": metric,
        "model": model,
        "root": str(samples.root),
        "task": samples.task,
        "files": files,
        "approximate": None,
    }
    if kind is not None:
        built = approximate.build(kind, vectors, metric)
        files["approximate"] = f"{kind}-{number}.faiss"
        approximate.write(built, folder / files["approximate"])
        del built
        about["approximate"] = {"kind": kind, "recall@10": _recall(Index(folder, about))}
    about["checksums"] = {name: digest(folder / name) for name in files.values()}
    write_json(folder / ABOUT, about)
    _remove_files(folder, but=files.values())
    return Index.open(folder)


def check_files(folder: str | Path) -> list[Finding]:
    """Compares the files of an index with their checksums; returns what is damaged.

    Args:
        folder: The index folder.
    """
    path = Path(folder) / ABOUT
    about = read_json(path, advice=_AGAIN)
    _check_about(path, about)
    found = []
    for name in about["files"].values():
        file, known = path.parent / name, about.get("checksums", {}).get(name)
        if not file.is_file():
            found.append(Finding(file, "is gone", _AGAIN))
        elif known is not None and digest(file) != known:
            found.append(Finding(file, "its checksum is another than when it was written", _AGAIN))
    if not found:
        Index.open(folder)  # whether the files fit each other
    return found


def _check_about(path: Path, about: dict[str, Any]) -> None:
    """Refuses an `index.json` that lacks something or points out of its folder."""
    kinds = {"images": int, "width": int, "metric": str, "model": dict, "root": str, "task": str, "files": dict}
    wrong = [key for key, kind in kinds.items() if not isinstance(about.get(key), kind)]
    names = [] if wrong else [about["files"].get(key) for key in ("embeddings", "samples", "stamps")]
    names += [] if wrong else [name for key, name in about["files"].items() if key == "approximate"]
    if (
        wrong
        or "fingerprint" not in about["model"]
        or not all(isinstance(n, str) and _OURS.fullmatch(n) for n in names)
    ):
        raise Damaged(
            f"{path}: damaged ({wrong[0] if wrong else 'its files'} in it is not as it was written); {_AGAIN}"
        )


def read_job(folder: Path) -> dict[str, Any] | None:
    """What an unfinished embedding is of, or None."""
    job = folder / BUILDING / JOB
    return read_json(job, advice=_AGAIN) if job.is_file() else None


def clear(folder: Path) -> None:
    """Removes an index and an unfinished one, and nothing else in the folder."""
    remove(folder / ABOUT)
    _remove_files(folder)
    remove(folder / BUILDING)


def _remove_files(folder: Path, but: Collection[str] = ()) -> None:
    """Removes what indexes left in a folder, stand-ins of killed writers too."""
    if folder.is_dir():
        for file in folder.iterdir():
            if _OURS.fullmatch(file.name) and file.name not in but:
                remove(file)


def check_metric(metric: str) -> None:
    """Refuses an unknown metric."""
    if metric not in get_args(Metric):
        raise UserError(f'metric is {metric!r}; expected "cosine" or "l2"')


def _recall(index: Index, count: int = 10) -> float:
    """Share of the true ten neighbours that approximate search finds, over images of the archive."""
    rows = np.random.default_rng(0).permutation(len(index))[:200]
    queries = index.vectors[np.sort(rows)]
    found, _ = index.search(queries, count, own=np.sort(rows), exact=False)
    true, _ = index.search(queries, count, own=np.sort(rows), exact=True)
    return float(np.mean([len(np.intersect1d(a, b)) for a, b in zip(found, true, strict=True)]) / true.shape[1])
