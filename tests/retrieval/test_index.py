import json
import os

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from rsml.data.samples import Samples
from rsml.evaluation.neighbors import unit
from rsml.retrieval import Index, build_index
from rsml.retrieval import index as index_module
from rsml.utils.errors import UserError


class FakeEmbedder:
    """Embeds a file by the seed written in it; "bad" in a file makes it unreadable; may be killed after some images."""

    def __init__(self, width=16, seed=0, die_after=None):
        self.width, self.seed, self.die_after = width, seed, die_after
        self.fingerprint = f"model{seed}"
        self.about = {"source": f"run{seed}"}
        self.seen = []

    def vector(self, file):
        with open(file) as text:
            number = int(text.read())
        return np.random.default_rng([self.seed, number]).normal(size=self.width).astype(np.float32) * (1 + number)

    def stream(self, files, bad, batch_size):
        for begin in range(0, len(files), batch_size):
            names, vectors = [], []
            for file in files[begin : begin + batch_size]:
                if self.die_after is not None and len(self.seen) >= self.die_after:
                    raise KeyboardInterrupt
                self.seen.append(file)
                try:
                    vectors.append(self.vector(file))
                    names.append(file)
                except (ValueError, OSError) as error:
                    bad.append(UserError(f"{file}: {error}"))
            if names:
                yield names, np.stack(vectors)


@pytest.fixture
def archive(tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    for number in range(60):
        (root / f"{number:03d}.jpg").write_text(str(number))
    labels = (np.random.default_rng(0).random((60, 4)) < 0.5).astype(np.uint8)
    return Samples([f"{n:03d}.jpg" for n in range(60)], labels, ("a", "b", "c", "d"), "multi-label", root)


def vectors_of(samples, embedder):
    return np.stack([embedder.vector(file) for file in samples.files])


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_exact_search_is_that_of_scikit_learn(archive, tmp_path, metric, monkeypatch):
    monkeypatch.setattr(index_module, "_PRODUCTS", 100)  # several blocks of queries and of the archive
    monkeypatch.setattr(index_module, "_BLOCK", 20)
    embedder = FakeEmbedder()
    index, bad = build_index(tmp_path / "index", embedder, archive, metric=metric, batch_size=7)
    assert len(index) == 60 and not bad
    queries = np.random.default_rng(5).normal(size=(11, 16)).astype(np.float32)
    rows, values = index.search(queries, 6)
    oracle = NearestNeighbors(metric="cosine" if metric == "cosine" else "euclidean", algorithm="brute")
    distances, expected = oracle.fit(vectors_of(archive, embedder).astype(float)).kneighbors(queries.astype(float), 6)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(values, 1 - distances if metric == "cosine" else distances, rtol=1e-5, atol=1e-6)


def test_what_is_kept_is_what_was_given(archive, tmp_path):
    embedder = FakeEmbedder()
    build_index(tmp_path / "index", embedder, archive, metric="l2")
    index = Index.open(tmp_path / "index")
    np.testing.assert_array_equal(index.vectors, vectors_of(archive, embedder))
    assert isinstance(index.vectors, np.memmap)
    assert index.samples.fingerprint() == archive.fingerprint()
    assert index.samples.files.tolist() == archive.files.tolist()
    assert index.fingerprint == "model0" and index.metric == "l2"


def test_paths_without_labels_keep_their_folder(archive, tmp_path, monkeypatch):
    monkeypatch.chdir(archive.root.parent)
    build_index("index", FakeEmbedder(), ["images/003.jpg", "images/001.jpg", "images/../images/003.jpg"])
    monkeypatch.chdir("/")
    index = Index.open(tmp_path / "index")
    assert index.samples.files.tolist() == [str(archive.root / "003.jpg"), str(archive.root / "001.jpg")]
    assert index.samples.label_names == ()
    one, _ = build_index(tmp_path / "one", FakeEmbedder(), [archive.files[5]])
    assert one.samples.paths.tolist() == ["005.jpg"]


def test_own_row_is_passed_over_and_a_small_archive_gives_all_it_has(archive, tmp_path):
    index, _ = build_index(tmp_path / "index", FakeEmbedder(), archive.select([0, 1, 2]))
    rows, values = index.search(index.vectors, 10, own=[0, 1, 2])
    assert rows.shape == (3, 2) and not (rows == np.arange(3)[:, None]).any()
    assert (np.diff(values) <= 0).all()
    whole, _ = index.search(index.vectors, 10)
    np.testing.assert_array_equal(whole[:, 0], [0, 1, 2])
    single, _ = build_index(tmp_path / "single", FakeEmbedder(), archive.select([4]))
    assert single.search(index.vectors[:1], 10)[0].tolist() == [[0]]
    with pytest.raises(UserError, match="an archive of one, the query itself"):
        single.search(single.vectors, 10, own=[0])


@pytest.mark.parametrize("die_after", [1, 23, 59])
def test_an_interrupted_embedding_goes_on_and_ends_the_same(archive, tmp_path, die_after):
    whole, _ = build_index(tmp_path / "whole", FakeEmbedder(), archive)
    folder = tmp_path / "index"
    first = FakeEmbedder(die_after=die_after)
    with pytest.raises(KeyboardInterrupt):
        build_index(folder, first, archive, batch_size=4, part_images=8)
    with pytest.raises(UserError, match=r"half written.*60 images.*run the command that began it again"):
        Index.open(folder)
    second = FakeEmbedder()
    index, _ = build_index(folder, second, archive, batch_size=4, part_images=8)
    # Nothing whole was embedded twice: only the batch in hand was lost.
    assert len(second.seen) == 60 - die_after // 4 * 4
    np.testing.assert_array_equal(index.vectors, whole.vectors)
    assert index.samples.fingerprint() == whole.samples.fingerprint()
    assert not (folder / "building").exists()


def test_a_damaged_part_is_embedded_again(archive, tmp_path):
    folder = tmp_path / "index"
    with pytest.raises(KeyboardInterrupt):
        build_index(folder, FakeEmbedder(die_after=40), archive, batch_size=4, part_images=8)
    part = sorted((folder / "building").glob("part-*.npz"))[1]
    part.write_bytes(part.read_bytes()[:100])
    embedder = FakeEmbedder()
    index, _ = build_index(folder, embedder, archive, batch_size=4)
    assert len(embedder.seen) == 28
    np.testing.assert_array_equal(index.vectors, unit(vectors_of(archive, embedder)))


def test_a_kill_without_warning_loses_only_the_part_in_hand(archive, tmp_path):
    folder = tmp_path / "index"
    with pytest.raises(KeyboardInterrupt):
        build_index(folder, FakeEmbedder(die_after=22), archive, batch_size=4, part_images=8)
    # As if the last part had been in the middle of its writing.
    *whole, last = sorted((folder / "building").glob("part-*.npz"))
    (folder / "building" / f".{last.stem}.writing-1.npz").write_bytes(last.read_bytes()[:50])
    last.unlink()
    embedder = FakeEmbedder()
    index, _ = build_index(folder, embedder, archive, batch_size=4)
    assert len(whole) == 2 and len(embedder.seen) == 60 - 16
    np.testing.assert_array_equal(index.vectors, unit(vectors_of(archive, embedder)))


def test_a_whole_index_is_brought_up_to_date(archive, tmp_path):
    folder = tmp_path / "index"
    build_index(folder, FakeEmbedder(), archive.select(range(50)))
    (archive.root / "007.jpg").write_text("1007")
    os.utime(archive.root / "007.jpg", ns=(1, 1))
    embedder = FakeEmbedder()
    index, _ = build_index(folder, embedder, archive.select(range(5, 60)))
    assert len(embedder.seen) == 11 and str(archive.root / "007.jpg") in embedder.seen
    fresh, _ = build_index(tmp_path / "fresh", FakeEmbedder(), archive.select(range(5, 60)))
    np.testing.assert_array_equal(index.vectors, fresh.vectors)
    again = FakeEmbedder()
    same, _ = build_index(folder, again, archive.select(range(5, 60)))
    assert not again.seen and same.about == index.about
    # One generation of files is left.
    assert sorted(file.name for file in folder.iterdir()) == [
        "embeddings-2.npy",
        "images-2.csv",
        "index.json",
        "stamps-2.npy",
    ]


def test_an_old_index_serves_until_its_successor_is_whole(archive, tmp_path):
    folder = tmp_path / "index"
    build_index(folder, FakeEmbedder(), archive.select(range(20)))
    with pytest.raises(KeyboardInterrupt):
        build_index(folder, FakeEmbedder(die_after=10), archive, batch_size=5)
    assert len(Index.open(folder)) == 20
    embedder = FakeEmbedder()
    index, _ = build_index(folder, embedder, archive)
    assert len(index) == 60 and len(embedder.seen) == 30


def test_unreadable_images_are_named_and_left_out(archive, tmp_path):
    (archive.root / "010.jpg").write_text("bad")
    (archive.root / "020.jpg").unlink()
    index, bad = build_index(tmp_path / "index", FakeEmbedder(), archive)
    assert len(index) == 58 and [str(fault).split(":")[0][-7:] for fault in bad] == ["010.jpg", "020.jpg"]
    keep = [n for n in range(60) if n not in (10, 20)]
    np.testing.assert_array_equal(index.samples.labels, archive.labels[keep])
    (archive.root / "010.jpg").write_text("10")
    mended, bad = build_index(tmp_path / "index", FakeEmbedder(), archive)
    assert len(mended) == 59 and len(bad) == 1
    for file in archive.files:
        (archive.root / file).write_text("bad")
    with pytest.raises(UserError, match="none of 60 images could be read, the first"):
        build_index(tmp_path / "none", FakeEmbedder(), archive)


def test_another_model_or_metric_is_refused(archive, tmp_path):
    folder = tmp_path / "index"
    with pytest.raises(KeyboardInterrupt):
        build_index(folder, FakeEmbedder(die_after=10), archive, batch_size=5)
    for _ in range(2):  # half written, then whole
        with pytest.raises(UserError, match=r"made by another model \(run0, model0\) than run1 \(model1\).*--fresh"):
            build_index(folder, FakeEmbedder(seed=1), archive)
        with pytest.raises(UserError, match="an index for cosine, not l2"):
            build_index(folder, FakeEmbedder(), archive, metric="l2")
        index, _ = build_index(folder, FakeEmbedder(), archive)
    with pytest.raises(UserError, match="made by another model"):
        index.check_model("model1", "run1")
    index.check_model("model0", "run0")
    other, _ = build_index(folder, FakeEmbedder(seed=1), archive, metric="l2", fresh=True)
    assert other.fingerprint == "model1" and other.metric == "l2"


def test_a_diverged_model_is_refused(archive, tmp_path):
    class Diverged(FakeEmbedder):
        def vector(self, file):
            return super().vector(file) * (np.nan if "012" in file else 1)

    with pytest.raises(UserError, match=r"012\.jpg: its embedding holds NaN or infinity"):
        build_index(tmp_path / "index", Diverged(), archive)


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_approximate_search_finds_nearly_all(tmp_path, kind, metric):
    for number in range(1200):
        (tmp_path / f"{number}.jpg").write_text(str(number % 1150))
    paths = [tmp_path / f"{number}.jpg" for number in range(1200)]
    index, _ = build_index(tmp_path / "index", FakeEmbedder(8), paths, metric=metric, kind=kind)
    queries = index.vectors[:100] + 0.01
    exact, true = index.search(queries, 10, exact=True)
    found, values = index.search(queries, 10, effort=64)
    recall = np.mean([len(set(a) & set(b)) for a, b in zip(exact, found, strict=True)]) / 10
    assert recall > 0.9 and index.about["approximate"]["recall@10"] > 0.5
    same = exact[:, 0] == found[:, 0]
    np.testing.assert_allclose(values[same, 0], true[same, 0])
    own, _ = index.search(index.vectors[:50], 10, own=np.arange(50))
    assert not (own == np.arange(50)[:, None]).any()
    spoils = ((lambda f: f.write_bytes(b"x"), "checksum is another"), (lambda f: f.unlink(), "no such file"))
    for spoil, words in spoils:
        spoil(index.file("approximate"))
        with pytest.raises(UserError, match=rf"{kind}-1\.faiss: .*{words}.*--exact"):
            Index.open(tmp_path / "index").search(queries, 10)
    # Built later over the same images, without embedding any.
    embedder = FakeEmbedder(8)
    other, _ = build_index(tmp_path / "index", embedder, paths, metric=metric, kind="ivf" if kind == "hnsw" else "hnsw")
    assert not embedder.seen and other.about["approximate"]["kind"] != kind


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "index.json").write_text("{"), "damaged"),
        (lambda folder: (folder / "index.json").unlink(), "not an index folder"),
        (lambda folder: (folder / "embeddings-1.npy").unlink(), "is not there"),
        (lambda folder: (folder / "embeddings-1.npy").write_bytes(b"\x93NUMPY"), "damaged"),
        (lambda folder: np.save(folder / "embeddings-1.npy", np.zeros((3, 16))), "do not fit together"),
        (
            lambda folder: (folder / "index.json").write_text(
                json.dumps({**json.loads((folder / "index.json").read_text()), "format": 99})
            ),
            "format 99",
        ),
    ],
)
def test_a_damaged_folder_is_reported_and_fresh_mends_it(archive, tmp_path, spoil, words):
    folder = tmp_path / "index"
    build_index(folder, FakeEmbedder(), archive)
    spoil(folder)
    with pytest.raises(UserError, match=words):
        Index.open(folder)
    assert len(build_index(folder, FakeEmbedder(), archive, fresh=True)[0]) == 60


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda index: index.search(np.zeros((1, 3)), 5), "embeddings of 16 values"),
        (lambda index: index.search(np.zeros((1, 16)), 0), "k is 0"),
        (lambda index: index.search(np.full((1, 16), np.nan), 5), "NaN"),
        (lambda index: index.search(np.zeros((1, 16)), 5, exact=False), "has no approximate index"),
        (lambda index: build_index(index.folder, FakeEmbedder(), []), "no image to embed"),
        (lambda index: build_index(index.folder / "x", FakeEmbedder(), index.samples, metric="dot"), "metric is 'dot'"),
        (lambda index: build_index(index.folder / "x", FakeEmbedder(), index.samples, kind="hnsw"), "gains nothing"),
    ],
)
def test_faults_are_one_line(archive, tmp_path, call, words):
    index, _ = build_index(tmp_path / "index", FakeEmbedder(), archive)
    with pytest.raises(UserError, match=words):
        call(index)
