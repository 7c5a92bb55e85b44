"""GloVe 6B: fetched once with its hash, kept word by word, and plain about what to do without a network."""

import hashlib
import urllib.error
import zipfile

import numpy as np
import pytest

from rsml.graph import glove, word_vectors
from rsml.utils.errors import UserError

WORDS = ["the", "tree", "trees", "sea", "rare"]
VECTORS = {
    width: np.random.default_rng(width).normal(size=(5, width)).astype("float32").round(4) for width in (50, 300)
}


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A small archive in GloVe's layout where the real one would be fetched from, and an empty cache."""
    path = tmp_path / "there" / "glove.6B.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as opened:
        for width, vectors in VECTORS.items():
            lines = [f"{word} {' '.join(map(str, row))}" for word, row in zip(WORDS, vectors, strict=True)]
            opened.writestr(f"glove.6B.{width}d.txt", "\n".join(lines) + "\n")
    monkeypatch.setenv("RSML_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(glove, "SOURCE", path.as_uri())
    monkeypatch.setattr(glove, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(glove, "FREQUENT", 2)
    return path


def no_network(*_, **__):
    raise urllib.error.URLError("Name or service not known")


@pytest.mark.parametrize("width", [50, 300])
def test_it_is_fetched_once_and_the_words_are_kept(archive, width, monkeypatch, tmp_path):
    found = word_vectors(["trees", "sea"], f"glove-{width}d")
    np.testing.assert_array_equal(found, VECTORS[width][[2, 3]])
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [f"glove.6B.{width}d.words.npz"]
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    np.testing.assert_array_equal(word_vectors(["sea", "trees"], f"glove-{width}d"), found[::-1])
    # Among the most frequent, so kept without having been asked for.
    np.testing.assert_array_equal(word_vectors(["the-tree"], f"glove-{width}d")[0], VECTORS[width][:2].mean(axis=0))
    with pytest.raises(UserError, match="could not be fetched"):
        word_vectors(["rare"], f"glove-{width}d")


def test_a_word_that_glove_lacks_is_not_fetched_for_again(archive, monkeypatch):
    for _ in range(2):
        with pytest.raises(UserError, match=r'GloVe 6B .* lacks "xyzzy"'):
            word_vectors(["xyzzy"], "glove-300d")
        monkeypatch.setattr("urllib.request.urlopen", no_network)


def test_without_a_network_it_says_what_to_do_and_then_takes_the_file(archive, monkeypatch, tmp_path):
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    with pytest.raises(UserError) as fault:
        word_vectors(["sea"], "glove-300d")
    text = str(fault.value)
    assert "\n" not in text and f"put glove.6B.zip into {tmp_path / 'cache'}" in text and "word_vectors=" in text
    (tmp_path / "cache" / "glove.6B.zip").write_bytes(archive.read_bytes())
    np.testing.assert_array_equal(word_vectors(["sea"], "glove-300d"), VECTORS[300][[3]])
    assert (tmp_path / "cache" / "glove.6B.zip").is_file()


def test_another_hash_is_refused_and_nothing_kept(archive, monkeypatch, tmp_path):
    monkeypatch.setattr(glove, "SHA256", "0" * 64)
    with pytest.raises(UserError, match="expected 0000"):
        word_vectors(["sea"], "glove-300d")
    assert not list((tmp_path / "cache").iterdir())


def test_a_damaged_archive_is_one_line(archive, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "glove.6B.zip").write_bytes(archive.read_bytes()[:200])
    with pytest.raises(UserError, match=r"is no whole glove.6B.zip") as fault:
        word_vectors(["sea"], "glove-300d")
    assert "\n" not in str(fault.value)
