import numpy as np
import pytest

from rsml.data.samples import Samples
from rsml.utils.errors import UserError


def table(**changes):
    columns = {
        "paths": ["b/1.png", "a/2.png", "/elsewhere/3.png"],
        "labels": [[1, 0], [0, 1], [1, 1]],
        "label_names": ("water", "bare-soil"),
        "task": "multi-label",
        "root": "/data",
        "scenes": ["lake", "", "coast, rocky"],
        "splits": ["train", "", "test"],
    }
    return Samples(**{**columns, **changes})


def test_columns_have_their_types_and_files_join_the_root():
    samples = table()
    assert samples.labels.dtype == np.uint8 and samples.labels.shape == (3, 2)
    assert samples.files.tolist() == ["/data/b/1.png", "/data/a/2.png", "/elsewhere/3.png"]
    assert len(samples) == 3


def test_part_and_select_keep_rows_together():
    samples = table()
    assert samples.part("test").paths.tolist() == ["/elsewhere/3.png"]
    assert len(samples.part("valid")) == 0 and samples.part("valid").labels.shape == (0, 2)
    picked = samples.select([2, 0])
    assert picked.scenes.tolist() == ["coast, rocky", "lake"] and picked.labels.tolist() == [[1, 1], [1, 0]]
    assert samples.select(np.array([False, True, False])).paths.tolist() == ["a/2.png"]
    with pytest.raises(UserError, match="'tset'"):
        samples.part("tset")


def test_classes_are_the_columns_of_one_hot_labels():
    samples = table(labels=[[0, 1], [1, 0], [0, 1]], task="single-label")
    assert samples.classes.tolist() == [1, 0, 1]
    assert samples.select([]).classes.shape == (0,)


def test_csv_gives_back_every_column(tmp_path):
    samples = table(label_names=("water, deep", 'bare "soil"'))
    samples.write_csv(tmp_path / "deep" / "samples.csv")
    back = Samples.read_csv(tmp_path / "deep" / "samples.csv", "/data", "multi-label")
    assert back.fingerprint() == samples.fingerprint()
    assert back.label_names == ("water, deep", 'bare "soil"') and back.splits.tolist() == ["train", "", "test"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["samples.csv"]


def test_csv_names_a_cell_that_is_not_binary(tmp_path):
    (tmp_path / "samples.csv").write_text("path,scene,split,water,soil\na.png,,,0,1\nb.png,,,1,2\n")
    with pytest.raises(UserError, match=r"line 3 \(b.png\), column 'soil': expected 0 or 1, found '2'"):
        Samples.read_csv(tmp_path / "samples.csv", tmp_path, "multi-label")


@pytest.mark.parametrize(
    "changes",
    [
        {"paths": ["b/1.png", "a/2.png", "/elsewhere/4.png"]},
        {"labels": [[1, 0], [0, 1], [0, 1]]},
        {"label_names": ("water", "soil")},
        {"scenes": ["lake", "", ""]},
        {"splits": ["train", "test", "test"]},
    ],
)
def test_fingerprint_sees_every_column_but_not_the_root(changes):
    assert table(**changes).fingerprint() != table().fingerprint()
    assert table(root="/other").fingerprint() == table().fingerprint()
    assert table().select([1, 0, 2]).fingerprint() != table().fingerprint()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_names": ("water", "water")}, "named twice"),
        ({"splits": ["train", "tset", ""]}, "'tset'"),
        ({"task": "both"}, "'both'"),
    ],
)
def test_faults_of_the_user_are_one_line(changes, message):
    with pytest.raises(UserError, match=message):
        table(**changes)


def test_shapes_must_fit():
    with pytest.raises(ValueError, match=r"\(3, 2\)"):
        table(label_names=("water", "soil", "trees"))
    with pytest.raises(ValueError, match="scenes"):
        table(scenes=["lake"])


def test_a_label_cannot_be_called_path():
    with pytest.raises(UserError, match="'path'"):
        table(label_names=("water", "path")).frame()


def shares(**changes):
    return table(labels=[[0.25, 0.75], [1, 0], [0.5, 0.5]], task="proportions", **changes)


def test_shares_are_floats_and_count_for_their_dominant_class():
    samples = shares()
    assert samples.labels.dtype == np.float32 and samples.classes.tolist() == [1, 0, 0]
    assert samples.present.dtype == np.uint8 and samples.present.tolist() == [[0, 1], [1, 0], [1, 0]]
    assert samples.part("train").labels.tolist() == [[0.25, 0.75]]
    as_classes = samples.by_dominant_class()
    assert as_classes.task == "single-label" and as_classes.labels.tolist() == [[0, 1], [1, 0], [1, 0]]
    assert table().present is not None and table().by_dominant_class().task == "multi-label"


def test_shares_come_back_from_csv_bit_by_bit(tmp_path):
    random = np.random.default_rng(0).dirichlet(np.ones(2) / 4, 3).astype(np.float32)
    samples = shares().select([0, 1, 2])
    object.__setattr__(samples, "labels", random)
    samples.write_csv(tmp_path / "samples.csv")
    back = Samples.read_csv(tmp_path / "samples.csv", "/data", "proportions")
    np.testing.assert_array_equal(back.labels, random)
    assert back.fingerprint() == samples.fingerprint()
    assert back.fingerprint() != shares().fingerprint()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([0.5, 0.4], r"a/2.png: its 2 shares sum to 0.9"),
        ([1.2, -0.2], r"a/2.png: .* the least is -0.2"),
        ([np.nan, 1], r"a/2.png: its 2 shares sum to nan"),
    ],
)
def test_what_are_no_shares_is_named(row, said):
    with pytest.raises(UserError, match=said):
        table(labels=[[0.25, 0.75], row, [0.5, 0.5]], task="proportions")
    # Rounding to three places is none of these.
    table(labels=[[0.25, 0.75], [0.333, 0.6666], [0.5, 0.5]], task="proportions")
