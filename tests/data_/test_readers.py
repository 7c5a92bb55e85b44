import json
import logging
import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from rsml.data import catalog
from rsml.data.readers import READERS, read_samples
from rsml.data.samples import Samples
from rsml.utils.errors import UserError

SETS = Path(__file__).parents[1] / "data" / "sets"
UCM = catalog.find("UC Merced-ML").labels
REAL = Path(os.environ["RSML_TEST_DATA"]) / "data" if "RSML_TEST_DATA" in os.environ else None
real = pytest.mark.skipif(REAL is None, reason="RSML_TEST_DATA is not set")


def labels_of(samples: Samples) -> dict[str, set[str]]:
    names = np.array(samples.label_names)
    return {
        Path(path).name: set(names[row == 1].tolist()) for path, row in zip(samples.paths, samples.labels, strict=True)
    }


def images(folder: Path, *names: str) -> Path:
    for below in {os.path.dirname(name) for name in names}:
        (folder / below).mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


# Layouts


def test_class_folders_of_any_format():
    samples = read_samples(SETS / "class_folders")
    assert samples.task == "single-label" and samples.label_names == ("field", "harbor", "tennis_court")
    assert samples.paths.tolist() == [
        "field/field_1.png", "field/field_2.jpg", "field/field_3.tif",
        "harbor/harbor_4.PNG", "harbor/harbor_5.bmp",
        "tennis_court/tennis_court_6.jpeg", "tennis_court/tennis_court_7.gif",
    ]  # fmt: skip
    assert samples.classes.tolist() == [0, 0, 0, 1, 1, 2, 2] and set(samples.splits) == {""}
    assert all(Path(file).is_file() for file in samples.files)


def test_split_folders_of_class_folders():
    samples = read_samples(SETS / "split_folders")
    assert samples.label_names == ("field", "harbor")
    assert {side: int((samples.splits == side).sum()) for side in ("train", "valid", "test")} == {
        "train": 6, "valid": 2, "test": 4,
    }  # fmt: skip
    assert samples.part("valid").paths.tolist() == ["val/field/014.png", "val/harbor/015.png"]


def test_folders_around_the_class_folders_are_passed_over(tmp_path):
    images(tmp_path, "Set/Images/a/1.png", "Set/Images/b/1.png", "Set/Images/b/.hidden.png", "Set/__MACOSX/a/1.png")
    samples = read_samples(tmp_path)
    assert samples.label_names == ("a", "b") and len(samples) == 2
    images(tmp_path / "other", "train/img/a/1.png", "train/img/b/2.png", "test/img/a/3.png", "test/img/b/4.png")
    assert read_samples(tmp_path / "other").label_names == ("a", "b")


def test_uc_merced_multilabel_finds_tif_images_by_name():
    samples = read_samples(SETS / "ucm_ml")
    assert samples.task == "multi-label" and samples.label_names == UCM
    assert labels_of(samples)["beach01.tif"] == {"sand", "sea", "trees"}
    assert labels_of(samples)["harbor01.tif"] == {"dock", "ship", "water", "cars"}
    assert samples.scenes.tolist() == ["airplane", "airplane", "beach", "beach", "harbor", "harbor"]
    assert samples.paths[0] == "Images/airplane/airplane00.tif"


def test_uc_merced_as_single_label_reads_its_folders():
    samples = read_samples(SETS / "ucm_ml", task="single-label")
    assert samples.label_names == ("airplane", "beach", "harbor") and samples.classes.tolist() == [0, 0, 1, 1, 2, 2]


def test_aid_multilabel_is_divided_by_its_folders():
    samples = read_samples(SETS / "aid_ml")
    assert samples.label_names == UCM and samples.task == "multi-label"
    assert labels_of(samples)["storagetanks_7.jpg"] == {"tanks", "pavement"}
    assert dict(zip(samples.scenes, samples.splits, strict=True)) == {
        "Airport": "train", "BareLand": "train", "StorageTanks": "train",
    }  # fmt: skip
    assert samples.part("test").paths.tolist() == ["images_test/Airport/airport_2.jpg"]


def test_dfc15_multilabel_lies_flat():
    samples = read_samples(SETS / "dfc15_ml")
    assert samples.label_names == catalog.find("DFC15-ML").labels
    assert labels_of(samples) == {
        "1.png": {"impervious", "water"}, "2.png": {"clutter", "car"}, "10.png": {"boat", "water"},
    }  # fmt: skip
    assert set(samples.scenes) == {""} and len(samples.part("test")) == 1


def test_grn_dictionary_equals_the_text_file():
    from_text = read_samples(SETS / "ucm_ml")
    from_npy = read_samples(SETS / "ucm_ml", labels=SETS / "ucm_ml.npy")
    assert from_npy.fingerprint() == from_text.fingerprint()


def test_label_columns_with_split_and_scene(tmp_path):
    images(tmp_path, "img/a.png", "img/b.JPG", "img/c.tif")
    (tmp_path / "labels.csv").write_text(
        "path,scene,split,water,trees\nimg/a.png,lake,train,1,0\nimg/b.JPG,lake,val,1,1\nimg/c.tif,wood,testing,0,1\n"
    )
    samples = read_samples(tmp_path)
    assert samples.splits.tolist() == ["train", "valid", "test"] and samples.scenes.tolist() == ["lake", "lake", "wood"]
    assert samples.labels.tolist() == [[1, 0], [1, 1], [0, 1]] and samples.label_names == ("water", "trees")
    single = read_samples(tmp_path, task="single-label")
    assert single.label_names == ("lake", "wood") and single.classes.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image,labels\na,water;bare soil\nb,water\nc,\n", [{"water", "bare soil"}, {"water"}, set()]),
        ("image,labels\na,water|trees\nb,water\nc,trees\n", [{"water", "trees"}, {"water"}, {"trees"}]),
        ('image,labels\na,"water, trees"\nb,water\nc,trees\n', [{"water", "trees"}, {"water"}, {"trees"}]),
        (
            "image_name,tags\na,haze primary\nb,haze\nc,primary haze\n",
            [{"haze", "primary"}, {"haze"}, {"haze", "primary"}],
        ),
        ("image\tlabels\na\t['water', 'trees']\nb\t['water']\nc\t[]\n", [{"water", "trees"}, {"water"}, set()]),
        (",image,labels\n0,a,x;y\n1,b,y\n2,c,x\n", [{"x", "y"}, {"y"}, {"x"}]),
    ],
)
def test_label_lists(tmp_path, text, expected):
    images(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "table.csv").write_text(text)
    samples = read_samples(tmp_path)
    assert samples.task == "multi-label" and list(labels_of(samples).values()) == expected


def test_class_column_keeps_spaces(tmp_path):
    images(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "table.csv").write_text("file,class\na.png,tennis court\nb.png,parking lot\nc.png,tennis court\n")
    samples = read_samples(tmp_path)
    assert samples.task == "single-label" and samples.label_names == ("parking lot", "tennis court")
    assert samples.classes.tolist() == [1, 0, 1]


def test_table_without_header_and_other_suffix(tmp_path):
    images(tmp_path, "river/river1.jpg", "river/river2.jpg", "lake/lake1.jpg")
    (tmp_path / "list.csv").write_text("river/river1.tif,river\nlake/lake1.tif,lake\n")
    samples = read_samples(tmp_path / "list.csv")
    assert samples.paths.tolist() == ["lake/lake1.jpg", "river/river1.jpg"] and samples.label_names == ("lake", "river")


def test_bom_windows_paths_and_case(tmp_path):
    images(tmp_path, "Harbor/Dock 1.PNG", "Harbor/Dock 2.png")
    text = "path;ship;water\r\nharbor\\dock 1.png;1;1\r\nHARBOR\\DOCK 2.PNG;0;1\r\n\r\n"
    (tmp_path / "labels.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    samples = read_samples(tmp_path)
    assert samples.paths.tolist() == ["Harbor/Dock 1.PNG", "Harbor/Dock 2.png"]
    assert samples.labels.tolist() == [[1, 1], [0, 1]]


def test_images_elsewhere_keep_their_absolute_path(tmp_path):
    images(tmp_path / "far", "a.png", "b.png")
    (tmp_path / "near").mkdir()
    table = tmp_path / "near" / "table.csv"
    table.write_text(f"path,x,y\n{tmp_path}/far/a.png,1,0\n{tmp_path}/far/b.png,1,1\n")
    samples = read_samples(table)
    assert samples.files.tolist() == [f"{tmp_path}/far/a.png", f"{tmp_path}/far/b.png"]
    images(tmp_path / "near", "c.png")
    table.write_text("path,x,y\n../far/a.png,1,0\nc,1,1\n")
    assert [Path(file).name for file in read_samples(table).files] == ["c.png", "a.png"]


def test_manifest_without_scenes_is_read_back(tmp_path):
    images(tmp_path, "a.png", "b.png")
    samples = Samples(
        ["a.png", "b.png"], [[1, 0], [1, 1]], ("x", "y"), "multi-label", tmp_path, None, ["train", "test"]
    )
    samples.write_csv(tmp_path / "samples.csv")
    assert read_samples(tmp_path).fingerprint() == samples.fingerprint()


def test_class_names_keep_their_brackets(tmp_path):
    images(tmp_path, "a.png", "b.png")
    (tmp_path / "table.csv").write_text("file,class\na.png,field (bare)\nb.png,field (green)\n")
    assert read_samples(tmp_path).label_names == ("field (bare)", "field (green)")


# Spelling


def test_columns_in_other_spelling_and_order_are_matched_and_logged_once(tmp_path, caplog):
    shutil.copytree(SETS / "ucm_ml", tmp_path / "set")
    file = tmp_path / "set" / "LandUse_Multilabeled.txt"
    header, *rows = [line.split("\t") for line in file.read_text().splitlines()]
    renamed = {"bare-soil": "soil", "mobile-home": "mobile home", "cars": "Car"}
    order = [0, *range(len(header) - 1, 0, -1)]
    rows = [[renamed.get(name, name) for name in header], *rows]
    file.write_text("\n".join("\t".join(row[column] for column in order) for row in rows) + "\n")
    with caplog.at_level(logging.INFO, "rsml"):
        samples = read_samples(tmp_path / "set")
    assert samples.fingerprint() == read_samples(SETS / "ucm_ml").fingerprint()
    said = [record.message for record in caplog.records if "spelt as in" in record.message]
    assert len(said) == 1 and all(part in said[0] for part in ("soil -> bare-soil", "Car -> cars", "UC Merced-ML"))


def test_the_number_of_images_of_a_known_set_is_checked(caplog):
    read_samples(SETS / "dfc15_ml")
    assert any("DFC15-ML has 3342 images; 3 were found" in record.message for record in caplog.records)


# Faults


def test_missing_folder_names_the_known_set_it_should_hold(tmp_path):
    with pytest.raises(UserError, match=r"no such file or folder.*WHU-RS19.*BED4RS"):
        read_samples(tmp_path / "WHU-RS19")


def test_folder_without_images(tmp_path):
    images(tmp_path, "notes/readme.pdf")
    with pytest.raises(UserError, match="no images"):
        read_samples(tmp_path)


def test_flat_images_without_labels(tmp_path):
    with pytest.raises(UserError, match=r"2 images but neither class folders nor a label file"):
        read_samples(images(tmp_path, "a.png", "b.png"))


def test_one_class_is_none(tmp_path):
    with pytest.raises(UserError, match=r"one class folder \(a\)"):
        read_samples(images(tmp_path, "a/1.png", "a/2.png"))


DIVIDED = [f"{part}/{name}/{number}.png" for part in ("train", "valid") for name in "ab" for number in (1, 2)]


@pytest.mark.parametrize(
    ("more", "bare", "message"),
    [
        (["valid/c/1.png"], None, "train lacks c of valid; give each part every class"),
        (["train/c/1.png", "train/d/1.png"], None, "valid lacks c, d of train"),
        (["train/c/1.png", "valid/d/1.png"], None, "train lacks d of valid; valid lacks c of train"),
        (["test/a/1.png", "test/c/1.png"], None, "train lacks c of test"),
        ([], "valid/c", "a folder beside the class folders of {} without any image (such as valid/c)"),
        ([], "test", "a folder beside the class folders of {} without any image (such as test)"),
    ],
)
def test_parts_with_different_class_folders_are_refused(tmp_path, more, bare, message):
    folder = images(tmp_path, *DIVIDED, *more)
    if bare:
        (folder / bare).mkdir()
    with pytest.raises(UserError, match=re.escape(message.format(folder))) as fault:
        read_samples(folder)
    assert "\n" not in str(fault.value)
    assert len(read_samples(folder, allow_missing=True)) == len(DIVIDED) + len(more)


def test_a_test_part_may_have_fewer_classes(tmp_path, caplog):
    samples = read_samples(images(tmp_path, *DIVIDED, "test/a/1.png"))
    assert len(samples.part("test")) == 1
    assert "no image of b is in test" in caplog.text


@pytest.mark.parametrize("around", ["", "Images/", "set/Images/"])
def test_a_class_folder_without_images_is_refused_and_documents_are_not(tmp_path, around):
    folder = images(tmp_path, f"{around}a/1.png", f"{around}b/1.png")
    images(folder / around, "splits/train.txt", "a/deep/notes.md", ".hidden/x", "__MACOSX/x")
    assert read_samples(folder).label_names == ("a", "b")
    images(folder / around, "c/Thumbs.db")
    with pytest.raises(UserError, match=re.escape(f"(such as {around}c)")):
        read_samples(folder)


def test_class_folders_are_not_multilabel():
    with pytest.raises(UserError, match="needs a label file"):
        read_samples(SETS / "class_folders", task="multi-label")


def test_several_tables_must_be_chosen_from(tmp_path):
    images(tmp_path, "a.png", "one.csv", "two.csv")
    with pytest.raises(UserError, match=r"one.csv, two.csv"):
        read_samples(tmp_path)


def listed(message: str) -> list[str]:
    path = Path(message.split("listed in ")[1].split(";")[0])
    return path.read_text().splitlines()


def test_labels_without_image_are_counted_and_listed(tmp_path, caplog):
    shutil.copytree(SETS / "ucm_ml", tmp_path / "set")
    for name in ("beach00", "beach01"):
        (tmp_path / "set" / "Images" / "beach" / f"{name}.tif").unlink()
    with pytest.raises(UserError, match=r"2 of 6 rows of .* have no image") as fault:
        read_samples(tmp_path / "set")
    assert listed(str(fault.value)) == ["beach00", "beach01"] and "\n" not in str(fault.value)
    samples = read_samples(tmp_path / "set", allow_missing=True)
    assert len(samples) == 4 and any("2 of 6 rows" in record.message for record in caplog.records)


def test_images_without_labels_are_counted_and_listed(tmp_path):
    shutil.copytree(SETS / "ucm_ml", tmp_path / "set")
    images(tmp_path / "set", "Images/beach/beach02.tif")
    with pytest.raises(UserError, match=r"1 of 7 images under .* have no row") as fault:
        read_samples(tmp_path / "set")
    assert listed(str(fault.value)) == ["Images/beach/beach02.tif"]
    assert len(read_samples(tmp_path / "set", allow_missing=True)) == 6


def test_labels_of_another_set_are_refused():
    with pytest.raises(UserError, match=r"none of its 4 images \(the first is 'airport_1'\)"):
        read_samples(SETS / "ucm_ml", labels=SETS / "aid_ml" / "multilabel.csv")


def table_of(tmp_path: Path, text: str) -> Path:
    images(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "labels.csv").write_text(text)
    return tmp_path


def test_duplicate_rows_that_agree_are_dropped_and_logged(tmp_path, caplog):
    source = table_of(tmp_path, "path,x,y\na,1,0\nb,1,1\na.png,1,0\nc,0,0\n")
    assert len(read_samples(source)) == 3
    assert any("1 rows repeat" in record.message for record in caplog.records)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,x,y\na,1,0\nb,1,1\na.png,1,1\nc,0,0\n", r"lines 2 and 4 both describe 'a.png' and disagree in y;"),
        ("path,split,x\na,train,1\nb,train,0\na,test,1\nc,test,1\n", r"lines 2 and 4 .*disagree in split"),
        ("path,x,y\na,1,0\nb,1,2\nc,0,7\n", r"line 3 \(b\), column 'y': expected 0 or 1, found '2' \(2 such cells\)"),
        ("path,x,y\na,1,0\nb,1,\nc,0,0\n", r"line 3 \(b\), column 'y': expected 0 or 1, found ''"),
        ("path,x,y\na,1,0\nb,1\nc,0,0\n", r"line 3: expected 3 cells, found 2"),
        ("path,x,y\na,1,0\nb,1,0,1\nc,0,0\n", r"line 3: expected 3 cells, found 4"),
        ("path,x,x\na,1,0\nb,1,0\nc,0,0\n", r"two columns are named 'x'"),
        ("path,split,x\na,train,1\nb,tain,0\nc,test,1\n", r"line 3, column 'split': expected train, valid or test"),
        ("path\na\nb\nc\n", "only one column"),
        ("path,x,y\n", "a header but no rows"),
        ("", "the file is empty"),
    ],
)
def test_faulty_tables_are_one_clear_line(tmp_path, text, message):
    source = table_of(tmp_path, text)
    with pytest.raises(UserError, match=message) as fault:
        read_samples(source)
    assert "\n" not in str(fault.value) and "labels.csv" in str(fault.value)


def test_single_label_with_two_labels_names_the_image(tmp_path):
    source = table_of(tmp_path, "path,x,y\na,1,0\nb,1,1\nc,0,1\n")
    with pytest.raises(UserError, match=r"b.png has 2 labels; single-label needs exactly one"):
        read_samples(source, task="single-label")


def test_a_name_that_means_two_images(tmp_path):
    images(tmp_path, "one/1.png", "two/1.png", "two/2.png")
    (tmp_path / "labels.csv").write_text("path,x,y\n1,1,0\n2,0,1\n")
    with pytest.raises(UserError, match=r"'1' means 2 images .*one/1.png and two/1.png"):
        read_samples(tmp_path)
    (tmp_path / "labels.csv").write_text("path,x,y\none/1,1,0\ntwo/1,0,1\n2,1,1\n")
    assert read_samples(tmp_path).labels.tolist() == [[1, 0], [0, 1], [1, 1]]


# The dictionary of the GRN authors is a pickle: nothing in it may run.


class Exploit:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def write_npy(path: Path, content: object, protocol: int = 4) -> Path:
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        pickle.dump(np.array(content, dtype=object), file, protocol=protocol)
    return path


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("function", [os.system, eval, exec, getattr, np.load, np.fromfile, Path.touch])
def test_npy_runs_nothing(tmp_path, function, protocol):
    witness = tmp_path / "witness"
    argument = {
        os.system: f"touch {witness}",
        eval: f"open({str(witness)!r}, 'w')",
        exec: f"open({str(witness)!r}, 'w')",
    }
    content = {"nm2label": {"airplane00": Exploit(function, argument.get(function, str(witness)))}}
    file = write_npy(tmp_path / "labels.npy", content, protocol)
    with pytest.raises(UserError, match="refused, since reading it would run"):
        read_samples(SETS / "ucm_ml", labels=file)
    assert not witness.exists()


def test_npy_refuses_codecs_that_unpack():
    import codecs

    from rsml.data.readers.npy import _RefusedError, _Unpickler

    data = pickle.dumps(Exploit(codecs.encode, "bomb", "rot13"), protocol=2)
    with pytest.raises(_RefusedError):
        _Unpickler(__import__("io").BytesIO(data)).load()


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_npy_of_every_protocol_and_numpy_type_is_read(tmp_path, protocol):
    rows = read_samples(SETS / "ucm_ml")
    table = {Path(path).stem: list(map(np.int64, row)) for path, row in zip(rows.paths, rows.labels, strict=True)}
    table["harbor01"] = rows.labels[5].astype(np.float32)
    table["harbor00"] = rows.labels[4].astype(bool)
    file = write_npy(tmp_path / "labels.npy", table, protocol)
    assert read_samples(SETS / "ucm_ml", labels=file).labels.tolist() == rows.labels.tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"nm2label": {"airplane00": np.arange(17)}}, r"airplane00, label 'buildings': expected 0 or 1, found 2"),
        ({"nm2label": {"a": np.ones(17), "b": np.ones(16)}}, "b has 16 labels, a has 17"),
        ([1, 2], "expected a dictionary of image name"),
    ],
)
def test_npy_of_other_content(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        read_samples(SETS / "ucm_ml", labels=write_npy(tmp_path / "labels.npy", content))


def test_npy_damaged(tmp_path):
    (tmp_path / "labels.npy").write_bytes((SETS / "ucm_ml.npy").read_bytes()[:300])
    with pytest.raises(UserError, match=r"not a readable \.npy file"):
        read_samples(SETS / "ucm_ml", labels=tmp_path / "labels.npy")
    np.save(tmp_path / "numbers.npy", np.zeros((3, 4)))
    with pytest.raises(UserError, match=r"expected one dictionary, found an array of float64 with shape \(3, 4\)"):
        read_samples(SETS / "ucm_ml", labels=tmp_path / "numbers.npy")


# Manifest of a division by table


def test_division_by_table_points_at_its_images(tmp_path):
    shutil.copytree(SETS / "ucm_ml", tmp_path / "set")
    samples = read_samples(tmp_path / "set")
    samples.with_splits(["train", "test"] * 3).write_csv(tmp_path / "division" / "samples.csv")
    about = {"task": "multi-label", "how": "table", "root": str(tmp_path / "set"), "root from here": "../set"}
    (tmp_path / "division" / "division.json").write_text(json.dumps(about))
    back = read_samples(tmp_path / "division")
    assert back.splits.tolist() == ["train", "test"] * 3 and back.root == tmp_path / "set"
    shutil.move(tmp_path, moved := tmp_path.with_name(tmp_path.name + "-moved"))
    assert Path(read_samples(moved / "division").files[0]).is_file()
    shutil.rmtree(moved / "set")
    with pytest.raises(UserError, match="are gone from"):
        read_samples(moved / "division")


# Which reader


@pytest.mark.parametrize(
    ("source", "options", "name"),
    [
        ("class_folders", {}, "class folders"),
        ("split_folders", {}, "class folders"),
        ("ucm_ml", {}, "UC Merced's multi-label folder"),
        ("ucm_ml", {"task": "single-label"}, "class folders"),
        ("ucm_ml", {"labels": SETS / "ucm_ml.npy"}, "the label file that was given"),
        ("aid_ml", {}, "a multi-label folder as AID's and DFC15's"),
        ("dfc15_ml", {}, "a multi-label folder as AID's and DFC15's"),
    ],
)
def test_the_reader_that_is_chosen_is_named(source, options, name, caplog):
    with caplog.at_level(logging.INFO, "rsml"):
        read_samples(SETS / source, **options)
    assert caplog.records[0].message == f"reading {SETS / source} as {name}"


def test_the_order_is_the_documented_one():
    rows = re.findall(r"^\| (\d) \| (.*?) \|", DOCS, re.MULTILINE)
    assert rows == [(str(number), reader.name.partition(" (")[0]) for number, reader in enumerate(READERS, start=1)]


def test_a_label_file_is_read_once(tmp_path, monkeypatch):
    from rsml.data.readers import label_tables

    images(tmp_path, "a.png", "b.png", "c.png")
    opened: list[str] = []
    read = label_tables.read_cells
    monkeypatch.setattr(label_tables, "read_cells", lambda path, **k: opened.append(Path(path).name) or read(path, **k))
    for name, text in {
        "labels.csv": "path,x,y\na.png,1,0\nb.png,0,1\nc.png,1,1\n",
        "one.txt": "a\nb\n",
        "two.txt": "c",
    }.items():
        (tmp_path / name).write_text(text)
    for source in (tmp_path, tmp_path / "labels.csv"):
        opened.clear()
        read_samples(source, splits=[tmp_path / "one.txt", tmp_path / "two.txt"])
        assert sorted(opened) == ["labels.csv", "one.txt", "two.txt"]


# The documentation

DOCS = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
EXAMPLES = [section for section in DOCS.split("\n### ") if "```layout" in section]


@pytest.mark.parametrize("section", EXAMPLES, ids=[section.splitlines()[0] for section in EXAMPLES])
def test_documented_layouts_read_as_documented(tmp_path, section):
    for kind, name, text in re.findall(r"```(layout|file) ?(\S*)\n(.*?)\n```", section, re.DOTALL):
        if kind == "layout":
            images(tmp_path, *text.split())
        else:
            (tmp_path / name).write_text(text + "\n")
    count, labels, task, splits = re.search(
        r"Reads as (\d+) images, (\d+) labels, ([a-z-]+)(?:: (.*?))?\.", section
    ).groups()
    samples = read_samples(tmp_path / "list.csv" if "```file list.csv" in section else tmp_path)
    assert (len(samples), len(samples.label_names), samples.task) == (int(count), int(labels), task)
    found = [f"{side} {len(samples.part(side))}" for side in ("train", "valid", "test") if len(samples.part(side))]
    assert ", ".join(found) == (splits or "")


def test_documented_catalog_is_the_catalog():
    assert len(EXAMPLES) == 8
    for known in catalog.CATALOG:
        row = f"| {known.name} | {known.task} | {len(known.labels)} | {known.images} | {known.source} | {known.terms} |"
        assert row in DOCS


# The published files


@real
def test_real_uc_merced_both_tasks(caplog):
    multi, single = read_samples(REAL / "ucm"), read_samples(REAL / "ucm", task="single-label")
    assert len(multi) == len(single) == 2100 and not caplog.records
    assert multi.labels.sum() == 7003 and set(single.labels.sum(axis=0)) == {100}
    assert (multi.paths == single.paths).all() and (multi.scenes == single.scenes).all()


@real
def test_real_tiffs_are_recognised_as_a_part(caplog):
    samples = read_samples(REAL / "ucm_tif")
    assert len(samples) == 63 and len(samples.label_names) == 21
    assert any("UC Merced has 2100 images; 63 were found" in record.message for record in caplog.records)


@real
def test_real_grn_dictionary_equals_the_text_file():
    from_npy = read_samples(REAL / "ucm", labels=REAL / "labels" / "ucm_ml.npy")
    assert from_npy.fingerprint() == read_samples(REAL / "ucm").fingerprint()


@real
@pytest.mark.parametrize(("file", "rows", "labels"), [("aid", 3000, 17), ("dfc15", 3342, 8)])
def test_real_label_files_join_their_images(tmp_path, caplog, file, rows, labels):
    shutil.copy(REAL / "labels" / f"{file}_multilabel.csv", tmp_path / "multilabel.csv")
    names = [line.split(",")[0] for line in (tmp_path / "multilabel.csv").read_text().splitlines()[1:]]
    sides = [f"images_{'test' if number % 5 == 0 else 'tr'}" for number in range(rows)]
    scenes = [f"/{name.split('_')[0]}" if file == "aid" else "" for name in names]
    images(tmp_path, *(f"{a}{b}/{c}.jpg" for a, b, c in zip(sides, scenes, names, strict=True)))
    images(tmp_path, f"{sides[0]}{scenes[0]}/of_the_bigger_set_it_was_taken_from.jpg")
    samples = read_samples(tmp_path)
    assert samples.labels.shape == (rows, labels) and not caplog.records
    assert len(samples.part("test")) == -(-rows // 5) and len(set(samples.scenes)) == (30 if file == "aid" else 1)
