import json

import numpy as np
import pytest

from rsml.data.corrections import FORMAT, with_corrections
from rsml.data.options import Data
from rsml.data.samples import Samples
from rsml.data.source import load_samples
from rsml.utils.errors import UserError


def journal(folder, decided, root):
    lines = [{"journal": FORMAT, "root": str(root)}]
    lines += [
        {"id": str(number), "path": path, "labels": labels, "at": ""} for number, (path, labels) in enumerate(decided)
    ]
    file = folder / "journal.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


@pytest.fixture
def samples(tmp_path):
    return Samples(["a.png", "b.png", "c.png"], [[1, 0], [0, 1], [1, 1]], ("sea", "sand"), "multi-label", tmp_path)


def test_decisions_replace_labels_and_leave_the_rest(samples, tmp_path):
    file = journal(tmp_path, [("a.png", ["sand"]), ("b.png", None), ("c.png", [])], tmp_path)
    np.testing.assert_array_equal(with_corrections(samples, file).labels, [[0, 1], [0, 1], [0, 0]])
    np.testing.assert_array_equal(samples.labels, [[1, 0], [0, 1], [1, 1]])


def test_the_last_decision_holds_and_moved_data_are_known_by_their_paths(samples, tmp_path):
    file = journal(tmp_path, [("a.png", ["sand"]), ("a.png", ["sea", "sand"])], "/elsewhere")
    assert with_corrections(samples, file).labels[0].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("decided", "fault"),
    [
        ([("x.png", ["sea"])], "none of its 1 images is in"),
        ([("a.png", ["lake"])], "label 'lake' is none of the data's"),
    ],
)
def test_a_journal_of_other_data_is_refused(samples, tmp_path, decided, fault):
    with pytest.raises(UserError, match=fault):
        with_corrections(samples, journal(tmp_path, decided, tmp_path))


def test_single_label_data_take_one_label(tmp_path):
    single = Samples(["a.png"], [[1, 0]], ("sea", "sand"), "single-label", tmp_path)
    with pytest.raises(UserError, match="has 2 labels; expected one"):
        with_corrections(single, journal(tmp_path, [("a.png", ["sea", "sand"])], tmp_path))
    assert with_corrections(single, journal(tmp_path, [("a.png", ["sand"])], tmp_path)).classes.tolist() == [1]


def test_no_image_changes_its_part_with_its_label(scene_folder, tmp_path):
    """The division is stratified by label; corrected runs are measured on the images of the run they correct."""
    before = load_samples(Data(source=str(scene_folder)))
    moved = [(str(path), ["sand"]) for path in before.paths if "forest" in path][:6]
    after = load_samples(Data(source=str(scene_folder), corrections=str(journal(tmp_path, moved, before.root))))
    np.testing.assert_array_equal(after.splits, before.splits)
    assert (after.labels != before.labels).any(axis=1).sum() == 6
