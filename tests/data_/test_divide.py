import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rsml.data.divide import divide
from rsml.data.groups import duplicate_groups
from rsml.data.parts import divide_samples, parse_shares, split_table
from rsml.data.readers import apply_split_files, read_samples
from rsml.data.readers.division import DivisionFolder
from rsml.data.samples import SPLITS, Samples
from rsml.data.stratify import part_sizes, stratify
from rsml.utils.errors import UserError

SETS = Path(__file__).parents[1] / "data" / "sets"
REAL = Path(os.environ["RSML_TEST_DATA"]) / "data" if "RSML_TEST_DATA" in os.environ else None
real = pytest.mark.skipif(REAL is None, reason="RSML_TEST_DATA is not set")


def single(*counts: int) -> Samples:
    classes = np.repeat(np.arange(len(counts)), counts)
    names = tuple(f"class{number}" for number in range(len(counts)))
    paths = [f"{names[c]}/{number:05}.png" for number, c in enumerate(classes)]
    return Samples(paths, np.eye(len(counts), dtype=np.uint8)[classes], names, "single-label", "/data")


def multi(rows: int = 997, labels: int = 12, seed: int = 3) -> Samples:
    random = np.random.default_rng(seed)
    table = (random.random((rows, labels)) < np.linspace(0.02, 0.6, labels)).astype(np.uint8)
    return Samples(
        [f"{n:05}.png" for n in range(rows)], table, [f"l{n}" for n in range(labels)], "multi-label", "/data"
    )


def sizes(samples: Samples) -> list[int]:
    return [int((samples.splits == side).sum()) for side in SPLITS]


def side_of(samples: Samples) -> dict[str, str]:
    return dict(zip(samples.paths.tolist(), samples.splits.tolist(), strict=True))


def deviation(samples: Samples, percent: tuple[float, ...]) -> np.ndarray:
    """By how many images each label's count on each side differs from its share."""
    counts = np.array([samples.labels[samples.splits == side].sum(axis=0) for side in SPLITS])
    return counts - np.outer(np.array(percent) / 100, samples.labels.sum(axis=0))


# Sizes


@pytest.mark.parametrize(
    ("count", "shares", "expected"),
    [
        (2100, (7, 1, 2), [1470, 210, 420]),
        (10, (1, 1, 1), [4, 3, 3]),
        (7, (7, 1, 2), [5, 1, 1]),
        (3342, (8, 2), [2674, 668]),
        (1005, (3333, 3333, 3334), [335, 335, 335]),
    ],
)
def test_part_sizes_are_largest_remainders(count, shares, expected):
    assert part_sizes(count, shares) == expected and sum(expected) == count


@pytest.mark.parametrize("percent", [(70, 10, 20), (80, 20, 0), (60, 0, 40), (33.33, 33.33, 33.34), (98, 1, 1)])
@pytest.mark.parametrize("samples", [single(50, 41, 67, 120), multi()], ids=["single", "multi"])
def test_sizes_add_up_exactly_and_labels_are_within_one_of_their_share(samples, percent):
    divided = divide_samples(samples, percent, seed=5)
    ideal = np.array(percent) / 100 * len(samples)
    assert sum(sizes(divided)) == len(samples) and np.abs(sizes(divided) - ideal).max() < 1
    assert [size > 0 for size in sizes(divided)] == [share > 0 for share in percent]
    assert np.abs(deviation(divided, percent)).max() <= 1


def test_many_small_classes_are_all_divided_fairly():
    divided = divide_samples(single(*[7] * 45), (70, 10, 20))
    counts = np.array([divided.labels[divided.splits == side].sum(axis=0) for side in SPLITS])
    assert sizes(divided) == [221, 31, 63]
    assert counts[0].min() >= 4 and counts[2].min() >= 1 and counts.sum(axis=0).tolist() == [7] * 45


def test_better_than_chance_by_far():
    samples = multi(2000, 17)
    random = np.random.default_rng(0).permutation(np.repeat(SPLITS, [1400, 200, 400]))
    by_chance = np.abs(deviation(samples.with_splits(random), (70, 10, 20))).mean()
    assert np.abs(deviation(divide_samples(samples), (70, 10, 20))).mean() < by_chance / 8


def test_scenes_are_stratified_with_the_labels():
    samples = multi(600, 5)
    scenes = np.array([f"scene{number % 6}" for number in range(600)])
    divided = divide_samples(
        Samples(samples.paths, samples.labels, samples.label_names, "multi-label", "/data", scenes)
    )
    for scene in set(scenes):
        assert np.abs(np.array(sizes(divided.select(scenes == scene))) - [70, 10, 20]).max() <= 1


# The same division everywhere


def test_division_does_not_depend_on_order_root_or_format():
    samples = multi(300)
    expected = side_of(divide_samples(samples, seed=4))
    shuffled = samples.select(np.random.default_rng(1).permutation(300))
    assert side_of(divide_samples(shuffled, seed=4)) == expected
    other = Samples(
        [path.replace(".png", ".TIF") for path in samples.paths],
        samples.labels,
        samples.label_names,
        "multi-label",
        "/b",
    )
    assert divide_samples(other, seed=4).splits.tolist() == list(expected.values())


def test_division_is_the_recorded_one():
    """Fails if a library or an edit changes which image goes where: published results would no longer be comparable."""
    sides = divide_samples(single(10, 10), (60, 20, 20), seed=0).splits
    assert "".join(side[1] for side in sides) == RECORDED


RECORDED = "rerraerarrrrrreearra"  # r for train, a for valid, e for test


def test_seeds_differ_and_fractions_may_be_named():
    samples = multi(300)
    assert side_of(divide_samples(samples, seed=1)) != side_of(divide_samples(samples, seed=0))
    assert side_of(divide_samples(samples, {"train": 80, "valid": 20})) == side_of(divide_samples(samples, (80, 20, 0)))
    assert sizes(divide_samples(samples, (80, 20))) == [240, 0, 60]


# Groups


def test_groups_stay_together_with_sizes_exact():
    samples = multi(500)
    groups = np.arange(500)
    random = np.random.default_rng(2)
    for start in range(0, 120, 3):
        groups[random.choice(500, 3, replace=False)] = 10_000 + start
    divided = divide_samples(samples, seed=7, groups=groups)
    for group in np.unique(groups):
        assert len(set(divided.splits[groups == group])) == 1
    assert sizes(divided) == [350, 50, 100]
    renumbered = np.random.default_rng(3).permutation(20_000)[groups]
    assert side_of(divide_samples(samples, seed=7, groups=renumbered)) == side_of(divided)


def test_a_group_too_big_for_its_part_leaves_no_other_part_astray():
    groups = np.r_[np.zeros(60, int), np.arange(1, 41)]
    part = stratify(np.ones((100, 1), np.uint8), (5, 5), 0, groups)
    assert len(set(part[:60])) == 1 and np.bincount(part).tolist() in ([60, 40], [40, 60])


# Faults


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ((70, 20, 20), r"70/20/20 \(train/valid/test\) sum to 110"),
        ((0.7, 0.1, 0.2), r"sum to 1; expected percentages"),
        ({"train": 80}, "sum to 80"),
        ((110, -10, 0), "0 or more"),
        ((float("nan"), 50, 50), "0 or more"),
        ((0, 50, 50), "nothing to train on"),
        ({"train": 50, "tset": 50}, "'tset'"),
        ((100,), "expected two .* or three"),
    ],
)
def test_fractions_that_make_no_sense(fractions, message):
    with pytest.raises(UserError, match=message):
        parse_shares(fractions)


def test_a_class_of_one_image_is_refused():
    with pytest.raises(UserError, match="class 'class1' has one image and cannot be divided"):
        divide_samples(single(10, 1, 10))
    groups = np.r_[np.arange(10), [99, 99, 99], np.arange(20, 30)]
    with pytest.raises(UserError, match="class 'class1' has 3 images, all pixel-identical"):
        divide_samples(single(10, 3, 10), groups=groups)


def test_too_few_images_and_labels_missing_on_a_side(caplog):
    with pytest.raises(UserError, match="4 images are too few for 98/1/1 percent: valid would have none"):
        divide_samples(single(2, 2), (98, 1, 1))
    divide_samples(single(30, 2))
    assert any(re.search("no image with class1 is in valid", record.message) for record in caplog.records)


# Split files


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_split_files_of_every_form(tmp_path):
    samples = read_samples(SETS / "class_folders")
    train = write(tmp_path / "train.csv", "field/field_1.tif,field\nharbor/harbor_4.tif,harbor\n")
    valid = write(tmp_path / "val.txt", "field_2\ntennis_court_6.jpeg\n")
    test = write(tmp_path / "test.csv", "path,field,harbor,tennis_court\nfield_3,1,0,0\ntennis_court_7,0,0,1\n")
    divided = apply_split_files(samples, train, valid, test)
    assert side_of(divided) == {
        "field/field_1.png": "train", "field/field_2.jpg": "valid", "field/field_3.tif": "test",
        "harbor/harbor_4.PNG": "train", "harbor/harbor_5.bmp": "",
        "tennis_court/tennis_court_6.jpeg": "valid", "tennis_court/tennis_court_7.gif": "test",
    }  # fmt: skip
    assert sizes(apply_split_files(samples, train, test)) == [2, 0, 2]


def test_split_files_that_do_not_fit(tmp_path, caplog):
    samples = read_samples(SETS / "class_folders")
    train = write(tmp_path / "train.txt", "field_1.png\nfield_2.jpg\n")
    with pytest.raises(UserError, match=r"test.txt, line 2: field/field_2.jpg is in .*train.txt too"):
        apply_split_files(samples, train, write(tmp_path / "test.txt", "field_3.tif\nfield_2.jpg\n"))
    with pytest.raises(UserError, match=r"1 of its 2 images \(such as 'field_9.tif'\) are not among the 7"):
        apply_split_files(samples, train, write(tmp_path / "test.txt", "field_3.tif\nfield_9.tif\n"))
    with pytest.raises(UserError, match="expected three"):
        apply_split_files(samples, train)
    apply_split_files(samples, train, write(tmp_path / "test.csv", "field/field_3.tif,harbor\n"))
    assert any("labels of 1 of 1 images" in record.message for record in caplog.records)


def test_labels_come_from_split_files_where_the_source_has_none(tmp_path):
    lines = (SETS / "ucm_ml" / "LandUse_Multilabeled.txt").read_text().splitlines()
    files = [
        write(tmp_path / f"{side}.csv", "\n".join([lines[0], *lines[1 + 2 * number : 3 + 2 * number]]) + "\n")
        for number, side in enumerate(SPLITS)
    ]
    samples = read_samples(SETS / "ucm_ml" / "Images", splits=files)
    assert samples.task == "multi-label" and sizes(samples) == [2, 2, 2]
    assert (samples.labels == read_samples(SETS / "ucm_ml").labels).all()


@real
@pytest.mark.parametrize(
    ("prefix", "task", "expected"),
    [("ucmerced", "single-label", [1260, 420, 420]), ("ucmercedmultilabel", "multi-label", [1285, 395, 420])],
)
def test_real_published_splits(prefix, task, expected, caplog):
    files = [REAL / "ucm" / "splits" / f"{prefix}_{side}.csv" for side in ("train", "val", "test")]
    samples = read_samples(REAL / "ucm", splits=files)
    assert samples.task == task and sizes(samples) == expected and not caplog.records


# Pixels


@pytest.fixture
def tree(tmp_path) -> Path:
    """Three classes of eight images, of which some have the same pixels in another format."""
    random = np.random.default_rng(0)
    for name in ("field", "harbor", "river"):
        (tmp_path / "source" / name).mkdir(parents=True)
        for number in range(8):
            pixels = random.integers(0, 255, (6, 5, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "source" / name / f"{name}{number}.tif")
    same = Image.open(tmp_path / "source" / "field" / "field0.tif")
    same.save(tmp_path / "source" / "field" / "field8.png")
    same.save(tmp_path / "source" / "river" / "river8.bmp")
    Image.fromarray(np.asarray(same).reshape(5, 6, 3)).save(tmp_path / "source" / "river" / "river9.png")
    return tmp_path / "source"


def test_duplicates_are_found_by_their_pixels(tree):
    samples = read_samples(tree)
    groups = duplicate_groups(samples, threads=2)
    names = dict(zip(samples.paths, groups, strict=True))
    assert names["field/field0.tif"] == names["field/field8.png"] == names["river/river8.bmp"]
    assert len(set(groups)) == len(samples) - 2, "equal bytes in another shape are another image"


def test_an_unreadable_image_is_named(tree):
    (tree / "river" / "river3.tif").write_bytes(b"II*\0 and no more")
    with pytest.raises(UserError, match=r"river3.tif"):
        duplicate_groups(read_samples(tree))


def test_rasters_of_many_bands_are_compared_by_their_bytes(tree):
    import tifffile

    for name in ("a", "b"):
        tifffile.imwrite(tree / "field" / f"{name}.tif", np.arange(180, dtype=np.uint16).reshape(6, 5, 6))
    samples = read_samples(tree)
    groups = dict(zip(samples.paths, duplicate_groups(samples), strict=True))
    assert groups["field/a.tif"] == groups["field/b.tif"] != groups["field/field1.tif"]


# The folder


def test_copy_makes_split_and_class_folders(tree, tmp_path, caplog):
    table = divide(tree, tmp_path / "out", shares={"train": 50, "valid": 25, "test": 25})
    divided = read_samples(tmp_path / "out")
    assert divided.task == "single-label" and sizes(divided) == [13, 7, 7]
    assert all(path.startswith(f"{side}/{name}/") for path, side, name in zip(
        divided.paths, divided.splits, np.array(divided.label_names)[divided.classes], strict=True))  # fmt: skip
    copy = tmp_path / "out" / next(path for path in divided.paths if path.endswith("harbor3.tif"))
    assert copy.read_bytes() == (tree / "harbor" / "harbor3.tif").read_bytes()
    by_name = {Path(path).name: side for path, side in side_of(divided).items()}
    assert by_name["field0.tif"] == by_name["field8.png"] == by_name["river8.bmp"]
    assert (tmp_path / "out" / "duplicates.csv").read_text().count("\n1,") == 3
    assert "all images" in table and re.search(r"all images +27 +13 \( ?48.1%\)", table)
    assert any("different labels" in record.message for record in caplog.records)
    (tmp_path / "out" / "samples.csv").unlink()
    (tmp_path / "out" / "division.json").unlink()
    (tmp_path / "out" / "duplicates.csv").unlink()
    assert side_of(read_samples(tmp_path / "out")) == side_of(divided), "the folders alone say the same"


def test_png_holds_the_same_pixels(tree, tmp_path):
    divide(tree, tmp_path / "out", png=True)
    divided = read_samples(tmp_path / "out")
    assert {Path(path).suffix for path in divided.paths} == {".png"} and len(divided) == 27
    copy = tmp_path / "out" / next(path for path in divided.paths if path.endswith("harbor3.png"))
    expected = np.asarray(Image.open(tree / "harbor" / "harbor3.tif"))
    assert (np.asarray(Image.open(copy)) == expected).all()


def test_names_that_would_collide_are_kept_apart(tmp_path):
    for number, folder in enumerate(("one/field", "two/field", "one/harbor", "two/harbor")):
        for image in range(3):
            path = tmp_path / "source" / folder / f"{image}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((4, 4, 3), 20 * number + image, np.uint8)).save(path)
    rows = [
        f"{p.relative_to(tmp_path / 'source').as_posix()},{p.parent.name}" for p in (tmp_path / "source").rglob("*.png")
    ]
    (tmp_path / "source" / "labels.csv").write_text("\n".join(["path,class", *rows]) + "\n")
    divide(tmp_path / "source", tmp_path / "out", shares={"train": 50, "test": 50})
    divided = read_samples(tmp_path / "out")
    assert len(divided) == 12 and len({Path(file).read_bytes() for file in divided.files}) == 12


def test_multilabel_tree_and_link(tmp_path):
    divide(SETS / "ucm_ml", tmp_path / "out", how="link", shares={"train": 50, "test": 50})
    divided = read_samples(tmp_path / "out")
    original = read_samples(SETS / "ucm_ml")
    assert divided.task == "multi-label" and sizes(divided) == [3, 0, 3]
    assert sorted(path.split("/", 1)[1] for path in divided.paths) == sorted(p.split("/", 1)[1] for p in original.paths)
    assert all(Path(file).resolve().is_relative_to(SETS.resolve()) for file in divided.files)
    labels = {Path(path).name: row.tolist() for path, row in zip(original.paths, original.labels, strict=True)}
    assert all(labels[Path(path).name] == row.tolist() for path, row in zip(divided.paths, divided.labels, strict=True))


def test_table_points_at_the_source(tree, tmp_path):
    divide(tree, tmp_path / "out", how="table")
    divided = read_samples(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "division.json",
        "duplicates.csv",
        "samples.csv",
    ]
    assert divided.root == tree.resolve() and all(Path(file).is_file() for file in divided.files)
    divide(tree, tmp_path / "copy")
    assert {Path(p).name: s for p, s in side_of(divided).items()} == {
        Path(p).name: s for p, s in side_of(read_samples(tmp_path / "copy")).items()
    }


def test_again_is_quick_and_otherwise_is_refused(tree, tmp_path, monkeypatch):
    table = divide(tree, tmp_path / "out")
    monkeypatch.setattr("rsml.data.divide.duplicate_groups", lambda *_: pytest.fail("pixels compared again"))
    assert divide(tree, tmp_path / "out") == table
    with pytest.raises(UserError, match=r"different division \(seed is 0 there, 1 now\)"):
        divide(tree, tmp_path / "out", seed=1)
    with pytest.raises(UserError, match=r"fractions is 70.0/10.0/20.0 there, 80.0/20.0/0.0 now"):
        divide(tree, tmp_path / "out", shares={"train": 80, "valid": 20})
    (tree / "river" / "river2.tif").unlink()
    with pytest.raises(UserError, match="source is"):
        divide(tree, tmp_path / "out")


def test_interrupted_and_run_again_it_finishes(tree, tmp_path, monkeypatch):
    divide(tree, tmp_path / "whole")
    from rsml.data.readers import division

    copy, done = division._copy, []

    def failing(source, target):
        if len(done) == 9:
            raise KeyboardInterrupt
        done.append(target)
        copy(source, target)

    monkeypatch.setattr(division, "_copy", failing)
    with pytest.raises(KeyboardInterrupt):
        divide(tree, tmp_path / "out")
    assert not (tmp_path / "out" / "division.json").exists()
    with pytest.raises(UserError, match="different division"):
        divide(tree, tmp_path / "out", seed=3)
    times = {path: path.stat().st_mtime_ns for path in done}
    killed = done[0].with_name(".field.writing-123.tif")
    killed.write_bytes(b"half of it")
    monkeypatch.setattr(division, "_copy", copy)
    divide(tree, tmp_path / "out")
    assert not killed.exists()
    assert {path: path.stat().st_mtime_ns for path in done} == times, "what was there is kept"
    assert side_of(read_samples(tmp_path / "out")) == side_of(read_samples(tmp_path / "whole"))
    assert not (tmp_path / "out" / "division.unfinished.json").exists()


def test_what_was_compared_is_not_compared_again(tree, tmp_path, monkeypatch):
    divide(tree, tmp_path / "whole")
    from rsml.data.readers import division

    with monkeypatch.context() as patch:
        patch.setattr(division, "_copy", lambda source, target: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            divide(tree, tmp_path / "out")
    monkeypatch.setattr("rsml.data.divide.duplicate_groups", lambda *_: pytest.fail("pixels compared again"))
    divide(tree, tmp_path / "out")
    for name in ("samples.csv", "duplicates.csv"):
        assert (tmp_path / "out" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_an_unfinished_division_is_no_data_set(tree, tmp_path):
    divide(tree, tmp_path / "out")
    (tmp_path / "out" / "division.json").rename(tmp_path / "out" / "division.unfinished.json")
    with pytest.raises(UserError, match="was not finished; divide again"):
        read_samples(tmp_path / "out")


@pytest.mark.parametrize("name", [".division.unfinished.writing-{}.json", "division.unfinished.json", "division.json"])
def test_what_a_killed_writer_left_is_removed(tree, tmp_path, name):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name.format(ended.pid)).touch()
    divide(tree, tmp_path / "out", how="table")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "division.json",
        "duplicates.csv",
        "samples.csv",
    ]


def test_a_writer_at_work_is_not_disturbed(tree, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f".samples.writing-{os.getppid()}.csv").touch()
    with pytest.raises(UserError, match=f"process {os.getppid()} is writing here"):
        divide(tree, tmp_path / "out")


def test_no_name_leads_out_of_the_folder(tree, tmp_path):
    images = sorted(tree.rglob("*.tif"))[:8]
    names = ["a/b", "a_b", ".hidden", "A/B"]
    rows = [f"../source/{p.relative_to(tree).as_posix()},{names[n % 4]}" for n, p in enumerate(images)]
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "table.csv").write_text("\n".join(["path,class", *rows]) + "\n")
    divide(tmp_path / "near" / "table.csv", tmp_path / "out", shares=(50, 0, 50))
    divided = read_samples(tmp_path / "out")
    assert {path.split("/")[1] for path in divided.paths} == {"_.hidden", "A_B", "a_b-2", "a_b-3"}
    assert sorted(divided.label_names) == sorted(names)
    shares = tmp_path / "near" / "shares.csv"
    shares.write_text("path,x,y\n" + "".join(f"../source/{p.relative_to(tree).as_posix()},0.5,0.5\n" for p in images))
    divide(shares, tmp_path / "other", task="proportions", shares=(50, 0, 50))
    assert len(list((tmp_path / "other").rglob("*.tif"))) == 8


def test_a_full_disk_names_the_destination(tree, tmp_path, monkeypatch):
    import errno

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", source, None, target)

    monkeypatch.setattr("rsml.data.readers.division.shutil.copyfile", full)
    with pytest.raises(OSError, match="No space left") as fault:
        divide(tree, tmp_path / "out")
    assert str(tmp_path / "out") in str(fault.value.filename) and fault.value.filename2 is None
    assert not list((tmp_path / "out").rglob(".*.writing-*"))


def test_a_lost_image_is_put_back(tree, tmp_path):
    divide(tree, tmp_path / "out")
    lost = Path(read_samples(tmp_path / "out").files[5])
    lost.unlink()
    divide(tree, tmp_path / "out")
    assert lost.is_file()


def test_folders_that_cannot_be_written_to(tree, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    for dest, message in (
        (tmp_path / "full", "not empty and holds no division"),
        (tmp_path / "full" / "notes.txt", "is a file"),
        (tree, "lies in the images it divides"),
        (tree / "inside", "lies in the images it divides"),
    ):
        with pytest.raises(UserError, match=message):
            divide(tree, dest)
    assert (tmp_path / "full" / "notes.txt").read_text() == "mine"
    for options, message in (
        ({"png": True, "how": "table"}, "--png writes new images"),
        ({"how": "move"}, "'move'"),
        ({"seed": -1}, "--seed is -1"),
        ({"split_files": ["a", "b"], "shares": {"train": 100}}, "leave --train"),
    ):
        with pytest.raises(UserError, match=message):
            divide(tree, tmp_path / "out", **options)


def test_folder_notes_are_machine_independent(tree, tmp_path):
    divide(tree, tmp_path / "out", how="table")
    note = json.loads((tmp_path / "out" / "division.json").read_text())
    assert note["parameters"]["fractions"] == [70.0, 10.0, 20.0] and note["parameters"]["seed"] == 0
    assert note["root from here"] == "../source"
    assert DivisionFolder(tmp_path / "out", note["parameters"]).state(tree) == "done"


def test_split_table_counts_and_shares():
    samples = single(2, 4).with_splits(["train", "test", "train", "train", "train", "test"])
    assert split_table(samples).splitlines() == [
        "label         images           train            test",
        "class0             2       1 (50.0%)       1 (50.0%)",
        "class1             4       3 (75.0%)       1 (25.0%)",
        "all images         6       4 (66.7%)       2 (33.3%)",
    ]


# The door


def test_door_divides_and_reports_faults_in_one_line(tree, tmp_path, capsys):
    from rsml.cli.main import main

    def door(*arguments: object) -> int:
        return main(["divide", *map(str, arguments)])

    assert door(tree, tmp_path / "out", "--train", 80, "--valid", 20) == 0
    assert "all images" in capsys.readouterr().out
    assert sizes(read_samples(tmp_path / "out")) == [22, 5, 0]
    for arguments in (
        (tmp_path / "nowhere", tmp_path / "new"),
        (tree, tmp_path / "out"),
        (tree, tmp_path / "new", "--train", 80),
        (tree, tmp_path / "new", "--split-files", tmp_path / "a", tmp_path / "b"),
        (tree, tmp_path / "new", "--labels", tmp_path / "a.csv"),
    ):
        assert door(*arguments) == 2
        error = capsys.readouterr().err.splitlines()
        assert error[-1].startswith("error: ") and sum(line.startswith("error") for line in error) == 1
        assert not (tmp_path / "new").exists()
