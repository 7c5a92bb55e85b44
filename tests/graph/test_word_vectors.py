"""Word vectors: the built-in table, text files of any width, damaged files and the spellings of labels."""

import gzip
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rsml.graph import word_vectors
from rsml.scenes.materials import LABELS
from rsml.utils.errors import UserError

UCM = list(LABELS)
DFC15 = ["impervious", "water", "clutter", "vegetation", "building", "tree", "boat", "car"]
TEXT = "the 0 0 0\nbare 1 2 3\nsoil 3 4 5\nship 1 1 1\ncars -1 0.5 2e-1\n"


@pytest.fixture
def glove(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize("names", [UCM, DFC15])
def test_the_built_in_table_knows_the_data_sets_of_the_paper(names):
    vectors = word_vectors(names)
    assert vectors.shape == (len(names), 100)
    assert vectors.dtype == np.float32
    assert np.linalg.matrix_rank(vectors) == len(names)


@pytest.mark.skipif("RSML_TEST_DATA" not in os.environ, reason="RSML_TEST_DATA is not set")
@pytest.mark.parametrize("width", [50, 100])
def test_text_files_of_any_width_and_the_built_in_table(width):
    path = Path(os.environ["RSML_TEST_DATA"], "data", "glove", f"glove.6B.{width}d.rs_subset.txt")
    rows = {line.split()[0]: np.array(line.split()[1:], float) for line in path.read_text().splitlines()}
    expected = [np.mean([rows[word] for word in name.split("-")], axis=0) for name in UCM]
    np.testing.assert_allclose(word_vectors(UCM, path), expected, rtol=1e-6, atol=1e-7)
    if width == 100:
        np.testing.assert_allclose(word_vectors(UCM), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("spelling", ["bare-soil", "bare soil", "BareSoil", "bare_soil", "baresoil"])
def test_words_of_a_label_are_averaged(glove, spelling):
    np.testing.assert_allclose(word_vectors([spelling], glove), [[2, 3, 4]])


def test_close_forms_are_found(glove):
    vectors = word_vectors(["ships", "car", "cars"], glove)
    np.testing.assert_allclose(vectors, [[1, 1, 1], [-1, 0.5, 0.2], [-1, 0.5, 0.2]])
    built_in = word_vectors(["harbour", "harbor", "grassland", "grass", "land", "storagetanks", "storage", "tanks"])
    np.testing.assert_array_equal(built_in[0], built_in[1])
    np.testing.assert_allclose(built_in[2], (built_in[3] + built_in[4]) / 2, rtol=1e-6)
    np.testing.assert_allclose(built_in[5], (built_in[6] + built_in[7]) / 2, rtol=1e-6)


def test_the_words_own_form_wins_over_a_close_one(tmp_path):
    path = tmp_path / "both.txt"
    path.write_text("ship 1 1\nships 2 2\n")
    np.testing.assert_allclose(word_vectors(["ships", "ship"], path), [[2, 2], [1, 1]])


def test_reading_stops_once_every_word_is_found(glove):
    glove.write_text(TEXT + "damaged 1\n")
    assert word_vectors(["ship", "bare-soil"], glove).shape == (2, 3)
    with pytest.raises(UserError, match="line 6 has 1 numbers"):
        word_vectors(["ship", "tree"], glove)


def test_packed_files_and_word2vec_headers(tmp_path):
    packed = tmp_path / "glove.txt.gz"
    packed.write_bytes(gzip.compress(TEXT.encode()))
    archive = tmp_path / "glove.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("glove.txt", TEXT)
    headed = tmp_path / "headed.txt"
    headed.write_text("5 3\n" + TEXT)
    for path in (packed, archive, headed):
        np.testing.assert_allclose(word_vectors(["soil"], path), [[3, 4, 5]])
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("other.txt", TEXT)
    with pytest.raises(UserError, match="holds 2 files"):
        word_vectors(["soil"], archive)
    packed.write_bytes(packed.read_bytes()[:40])
    with pytest.raises(UserError, match="cannot be read"):
        word_vectors(["pond"], packed)


def test_words_with_spaces_in_them_are_passed_over(glove):
    glove.write_text("the 0 0 0\nat name@example.com 1 2 3\n. . . 1 2 3\nsoil 3 4 5\n")
    np.testing.assert_allclose(word_vectors(["soil"], glove), [[3, 4, 5]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"soil 1 2 3\nwater 1 2\n", "line 2 has 2 numbers"),
        (b"soil 1 2 3\nwater 1 2 3 4\n", "line 2 has 4 numbers"),
        (b"soil 1 2 x\n", "finite numbers"),
        (b"soil 1 2 nan\n", "finite numbers"),
        (b"soil\n", "finite numbers"),
        (b"\x93NUMPY\x01\x00v\x00{'descr'", "not a text"),
        (b"\xff\xfe\xfa" * 50, "not a text"),
        (b"", "is empty"),
        (b"of 1 2\nand 3 4\n", "none of the label words"),
    ],
)
def test_bad_files_are_one_line(tmp_path, content, message):
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as fault:
        word_vectors(["soil", "water"], path)
    assert "bad.txt" in str(fault.value) and "\n" not in str(fault.value)


def test_missing_words_are_named_with_the_ways_out(glove):
    with pytest.raises(UserError, match=r'lacks "quux" \(labels: quux-soil\).*"one-hot"') as fault:
        word_vectors(["quux-soil", "ship"], glove)
    assert "\n" not in str(fault.value)
    with pytest.raises(UserError, match='built-in GloVe table lacks "quux"'):
        word_vectors(["quux", "ship"])
    with pytest.raises(UserError, match="lacks any word"):
        word_vectors(["---", "ship"])


def test_no_such_file():
    with pytest.raises(UserError, match='no file "one_hot"'):
        word_vectors(["ship"], "one_hot")


def test_one_hot_and_random():
    np.testing.assert_array_equal(word_vectors(UCM, "one-hot"), np.eye(17))
    vectors = word_vectors(UCM, "random", seed=3, width=64)
    assert vectors.shape == (17, 64)
    assert 0.35 < vectors.std() < 0.45
    np.testing.assert_array_equal(vectors[::-1], word_vectors(UCM[::-1], "random", seed=3, width=64))
    assert np.abs(vectors - word_vectors(UCM, "random", seed=4, width=64)).max() > 0.1


def test_own_array():
    own = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(word_vectors(["a", "b", "c"], own), own)
    for wrong in (own[:2], own[0], own * np.nan, [["a", "b"]] * 3):
        with pytest.raises(UserError, match="expected"):
            word_vectors(["a", "b", "c"], wrong)
