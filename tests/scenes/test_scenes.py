"""The built-in scenes: determinism, labels that agree with the pixels, a task that colour does not solve, writing."""

import csv
import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rsml import scenes
from rsml.scenes import LABELS, SCENES, contact_sheet, draw, write
from rsml.scenes import writing as writing_module
from rsml.scenes.canvas import Canvas, shifted
from rsml.scenes.materials import LABEL_OF, LAND_COVER, MATERIALS, VISIBLE, season
from rsml.utils import jobs
from rsml.utils.errors import UserError

ROOT = Path(scenes.__file__).resolve().parents[3]
CODES = {0, 10, 20, 30, 40, 50, 60, 80, 90, 255}


@pytest.fixture(scope="module")
def many():
    """1 029 small scenes: 49 of every class."""
    return [draw(index, seed=3, size=32) for index in range(49 * len(SCENES))]


def digest(scene):
    parts = scene.image.tobytes() + scene.labels.tobytes() + scene.land_cover.tobytes() + repr(scene.transform).encode()
    return hashlib.sha256(parts).hexdigest()


def test_labels_are_uc_merceds():
    assert len(SCENES) == 21 and len(LABELS) == 17
    assert tuple(sorted(SCENES)) == SCENES and tuple(sorted(LABELS)) == LABELS
    folder = os.environ.get("RSML_TEST_DATA")
    table = Path(folder or ".") / "data" / "ucm" / "LandUse_Multilabeled.txt"
    if not folder or not table.exists():
        pytest.skip("RSML_TEST_DATA is not set")
    header = table.read_text().splitlines()[0].split("\t")
    assert tuple(header[1:18]) == LABELS
    assert tuple(sorted(entry.name for entry in (table.parent / "Images").iterdir() if entry.is_dir())) == SCENES


def test_same_arguments_same_scene_in_any_order():
    indices = list(range(len(SCENES)))
    first = {index: digest(draw(index, seed=5, size=48)) for index in indices}
    random.Random(1).shuffle(indices)
    assert {index: digest(draw(index, seed=5, size=48)) for index in indices} == first
    assert len(set(first.values())) == len(first)


def test_another_process_and_hash_seed_draw_the_same():
    code = (
        "import sys, hashlib\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from rsml.scenes import draw\n"
        "for index in (43, 9, 28): print(hashlib.sha256(draw(index, seed=2, size=40).image.tobytes()).hexdigest())\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    done = subprocess.run([sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    expected = [hashlib.sha256(draw(i, seed=2, size=40).image.tobytes()).hexdigest() for i in (43, 9, 28)]
    assert done.stdout.split() == expected


def test_seed_and_index_change_the_scene():
    drawn = {digest(draw(index, seed=seed, size=40)) for seed in (0, 1) for index in (7, 28, 49)}
    assert len(drawn) == 6
    assert {draw(index, size=40).scene for index in (7, 28, 49)} == {"forest"}
    assert draw(7, scene="beach", size=40).scene == "beach"


@pytest.mark.parametrize("size", [32, 50, 64, 100, 160])
def test_any_size(size):
    scene = draw(10, size=size)
    assert scene.image.shape == (size, size, 3) and scene.image.dtype == np.uint8
    assert scene.land_cover.shape == (size, size) and scene.land_cover.dtype == np.uint8
    assert scene.labels.shape == (17,) and scene.labels.dtype == np.uint8
    a, b, _, d, e, _ = scene.transform
    assert (b, d) == (0, 0) and a == -e == scene.ground_sampling and scene.crs == "EPSG:32612"
    assert 40 < size * scene.ground_sampling < 120


@pytest.mark.parametrize("index", range(len(SCENES)))
def test_layout_does_not_depend_on_size(index):
    small, large = draw(index, seed=4, size=64), draw(index, seed=4, size=128)
    halved = large.image.astype(float).reshape(64, 2, 64, 2, 3).mean((1, 3))
    # Smoothed brightness of both pictures must rise and fall together.
    blocks = [
        picture.mean(2).reshape(16, 4, 16, 4).mean((1, 3)).ravel() for picture in (small.image.astype(float), halved)
    ]
    assert np.corrcoef(blocks)[0, 1] > 0.85
    assert (small.land_cover == large.land_cover[::2, ::2]).mean() > 0.7
    assert abs(small.labels.astype(int) - large.labels).sum() <= 1


@pytest.mark.parametrize("size", [32, 64, 100])
def test_masks_agree_with_labels(size):
    for index in range(0, len(SCENES), 2 if size < 100 else 5):
        scene = draw(index, seed=9, size=size)
        for number, label in enumerate(LABELS):
            coverage, mask = scene.coverage(label), scene.mask(label)
            assert mask.shape == (size, size) and mask.dtype == bool and coverage.dtype == np.float32
            assert bool(scene.labels[number]) == (coverage.mean(dtype=float) >= VISIBLE[number] - 1e-9), (index, label)
            assert mask.any() or not scene.labels[number]
            assert (mask == (coverage > 0)).all()
        # Every pixel is covered by labels, or by one of the materials without any.
        named = sum(scene.coverage(label) for label in LABELS)
        without = np.isin(scene.materials, [k for k, material in enumerate(MATERIALS) if material.label is None])
        finer = len(without) // size
        assert np.allclose(named + without.reshape(size, finer, size, finer).mean((1, 3)), 1, atol=1e-5)


def test_masks_lie_on_what_they_name(many):
    """What is under a mask looks like its label: trees greener than a beach's sand, sand brighter than the sea."""
    colours = {}
    for label in ("trees", "sand", "sea", "airplane"):
        under = [scene.image[scene.coverage(label) == 1] for scene in many if scene.labels[LABELS.index(label)]]
        colours[label] = np.concatenate(under).mean(0)
    red, green, blue = colours["trees"]
    assert green > red and green > blue
    assert (colours["sand"] > colours["sea"] + 20).all() and colours["sea"][2] > colours["sea"][0]
    assert colours["airplane"].min() > colours["trees"].max()
    with pytest.raises(UserError, match="tree'"):
        many[0].mask("tree")


def test_pixels_are_those_of_the_first_release():
    """Folders that were written earlier go on; a change of pixels needs another `writing.VERSION`."""
    sums = hashlib.sha256()
    for size, seed in ((32, 3), (64, 1), (128, 0)):
        for index in range(len(SCENES)):
            sums.update(digest(draw(index, seed=seed, size=size)).encode())
    assert writing_module.VERSION == 1
    assert sums.hexdigest()[:16] == "1ea76a5cadba70cc"


def test_wrong_arguments():
    with pytest.raises(UserError, match="from 32 pixels"):
        draw(0, size=31)
    with pytest.raises(UserError, match="0 or more"):
        draw(-1)
    with pytest.raises(UserError, match="beachh"):
        draw(0, scene="beachh")


def column(many, label):
    return np.array([scene.labels[LABELS.index(label)] for scene in many], bool)


def test_labels_follow_the_rules(many):
    names = np.array([scene.scene for scene in many])
    water = column(many, "water") | column(many, "sea")
    assert not (column(many, "ship") & ~water).any()
    assert not (column(many, "dock") & ~column(many, "water")).any()
    # A car is small: now and then it is in the picture while the drive under it is below that label's threshold.
    driven_on = column(many, "pavement") | column(many, "bare-soil") | column(many, "field")
    assert driven_on[column(many, "cars")].mean() > 0.99
    always = {
        "airplane": "airplane",
        "beach": "sea",
        "chaparral": "chaparral",
        "forest": "trees",
        "harbor": "ship",
        "mobilehomepark": "mobile-home",
        "overpass": "pavement",
        "river": "water",
        "storagetanks": "tanks",
        "tenniscourt": "court",
        "agricultural": "field",
        "baseballdiamond": "bare-soil",
        "denseresidential": "buildings",
        "parkinglot": "cars",
    }
    for scene, label in always.items():
        assert column(many, label)[names == scene].mean() > 0.95, (scene, label)
    for label in ("airplane", "court", "dock", "mobile-home", "tanks", "sea"):
        assert len(set(names[column(many, label)])) == 1, label


def test_every_label_is_frequent_and_varies_within_classes(many):
    table = np.array([scene.labels for scene in many])
    assert (table.mean(0) >= 0.03).all(), dict(zip(LABELS, table.mean(0), strict=True))
    assert (table.sum(1) >= 1).all()
    names = np.array([scene.scene for scene in many])
    for scene, label in (("beach", "trees"), ("runway", "grass"), ("runway", "bare-soil"), ("golfcourse", "sand")):
        assert 0.05 < column(many, label)[names == scene].mean() < 0.95, (scene, label)
    combinations = {scene: len({tuple(row) for row in table[names == scene]}) for scene in SCENES}
    assert sum(number >= 3 for number in combinations.values()) >= 18, combinations


def test_land_cover_agrees_with_labels(many):
    for scene in many:
        codes, counts = np.unique(scene.land_cover, return_counts=True)
        assert set(codes.tolist()) <= CODES
        share = dict(zip(codes.tolist(), counts / scene.land_cover.size, strict=True))
        there = dict(zip(LABELS, scene.labels.tolist(), strict=True))
        # 32 x 32 samples of the picture that the labels are read from: far from the threshold both must agree.
        assert there["sea"] or share.get(255, 0) < 0.02
        assert share.get(255, 0) > 0 or not there["sea"]
        assert there["water"] or there["ship"] or share.get(60, 0) < 0.02
        assert share.get(60, 0) > 0 or not there["water"] or scene.scene == "golfcourse"
        assert there["trees"] or share.get(20, 0) < 0.03
        assert share.get(0, 0) == 0


def test_materials_are_complete():
    assert {MATERIALS[i].label for i in range(len(MATERIALS))} - {None} == set(LABELS)
    assert set(LAND_COVER.tolist()) <= CODES and LABEL_OF.max() == len(LABELS)


def test_mean_colour_does_not_solve_the_task(many):
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    colours = np.array([scene.image.mean((0, 1)) for scene in many]) / 255
    table = np.array([scene.labels for scene in many])
    colours = (colours - colours[:729].mean(0)) / colours[:729].std(0)
    model = OneVsRestClassifier(LogisticRegression(C=10, max_iter=1000)).fit(colours[:729], table[:729])
    decided, true = model.predict(colours[729:]), table[729:]
    hits = (decided & true).sum(1)
    precision = np.divide(hits, decided.sum(1), out=np.zeros(len(hits)), where=decided.sum(1) > 0).mean()
    recall = (hits / true.sum(1)).mean()
    example_f1 = 2 * precision * recall / (precision + recall)
    assert 0.45 < example_f1 < 0.68
    classes = np.arange(len(many)) % len(SCENES)
    assert (
        LogisticRegression(C=10, max_iter=1000).fit(colours[:729], classes[:729]).score(colours[729:], classes[729:])
        < 0.35
    )


def test_shadow_falls_away_from_the_sun():
    canvas = Canvas(random.Random(0), 200, 100.0, season(random.Random(0)))
    canvas.turn(0.0)
    canvas.sun, canvas.shadow_length = (0.0, 1.0), 1.5
    canvas.fill(1, (100, 100, 100))
    canvas.rectangle(0, 0, 20, 20, 0, 11, (200, 200, 200), 10.0)
    shadow = canvas.shadows()
    # The sun stands in the south (down): a 10 m block throws 15 m of shadow, 30 pixels, to the north.
    assert shadow[79 - 26 : 79, 100].min() > 0.5
    assert shadow[:40].max() == 0 and shadow[125:].max() == 0 and shadow[:, :70].max() == 0
    assert shadow[90:110, 90:110].max() == 0


def test_shifted_reads_the_neighbour():
    array = np.arange(12).reshape(3, 4)
    assert shifted(array, 1, 0).tolist() == [[1, 2, 3, 0], [5, 6, 7, 0], [9, 10, 11, 0]]
    assert shifted(array, -1, 2).tolist() == [[0, 8, 9, 10], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert not shifted(array, 4, 0).any()


@pytest.mark.parametrize(
    ("count", "fractions", "totals"), [(210, (0.7, 0.1, 0.2), (147, 21, 42)), (101, (0.8, 0.1, 0.1), (81, 10, 10))]
)
def test_division_is_exact_and_stratified(count, fractions, totals):
    splits = writing_module.divide(count, fractions, 0)
    assert tuple(splits.count(name) for name in writing_module.SPLITS) == totals
    for first in range(len(SCENES)):
        members = splits[first :: len(SCENES)]
        for name, fraction in zip(writing_module.SPLITS, fractions, strict=True):
            assert abs(members.count(name) - len(members) * fraction) < 2
    assert splits == writing_module.divide(count, fractions, 0)
    assert splits != writing_module.divide(count, fractions, 1)


def test_division_of_any_count_adds_up():
    for count in (1, 2, 5, 20, 22, 43, 333):
        for fractions in ((0.7, 0.1, 0.2), (1.0, 0.0, 0.0), (0.5, 0.25, 0.25)):
            splits = writing_module.divide(count, fractions, 0)
            for name, fraction in zip(writing_module.SPLITS, fractions, strict=True):
                assert abs(splits.count(name) - count * fraction) < 1


def read(folder):
    with open(folder / "labels.csv", newline="") as file:
        return list(csv.reader(file))


def test_write_gives_a_complete_data_set(tmp_path):
    folder = write(tmp_path / "scenes", count=45, size=32, seed=6)
    header, *rows = read(folder)
    assert header == ["path", "scene", "split", *LABELS] and len(rows) == 45
    for index in (0, 20, 44):
        scene = draw(index, seed=6, size=32)
        assert rows[index][0] == f"images/{scene.scene}/{scene.scene}_{index:05d}.png"
        assert np.array_equal(np.asarray(Image.open(folder / rows[index][0])), scene.image)
        assert [int(value) for value in rows[index][3:]] == scene.labels.tolist()
    assert len(list(folder.rglob("*.png"))) == 45 and not list(folder.rglob(".*.writing-*"))


def test_write_again_draws_nothing(tmp_path, monkeypatch):
    write(tmp_path / "scenes", count=5, size=32)
    monkeypatch.setattr(writing_module, "draw", lambda *_, **__: pytest.fail("drew again"))
    assert write(tmp_path / "scenes", count=5, size=32) == tmp_path / "scenes"


def test_interrupted_writing_goes_on(tmp_path, monkeypatch):
    whole = write(tmp_path / "whole", count=12, size=32)
    drawn = []

    def stop_after_five(index, **options):
        if len(drawn) == 5:
            raise KeyboardInterrupt
        drawn.append(index)
        return draw(index, **options)

    folder = tmp_path / "part"
    monkeypatch.setattr(writing_module, "draw", stop_after_five)
    with pytest.raises(KeyboardInterrupt):
        write(folder, count=12, size=32)
    assert not (folder / "labels.csv").exists()
    # One finished file is damaged, as by a full disk; it must be drawn again, the other four kept.
    (folder / "images" / "airplane" / "airplane_00001.png").write_bytes(b"\x89PNG")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (folder / "images" / "airplane" / f".airplane_00001.writing-{ended.pid}.png").write_bytes(b"\x89PNG")
    monkeypatch.setattr(
        writing_module, "draw", lambda index, **options: (drawn.append(index), draw(index, **options))[1]
    )
    write(folder, count=12, size=32)
    assert sorted(drawn) == sorted([*range(12), 1])
    assert (folder / "labels.csv").read_bytes() == (whole / "labels.csv").read_bytes()
    assert not list(folder.rglob(".*.writing-*"))
    for path in sorted(whole.rglob("*.png")):
        assert (folder / path.relative_to(whole)).read_bytes() == path.read_bytes()


def test_processes_write_the_same_files(tmp_path, monkeypatch, capfd):
    alone = write(tmp_path / "alone", count=24, size=32, seed=1, workers=1)
    monkeypatch.setattr(writing_module, "_WORTH_PROCESSES", 1)
    shared = write(tmp_path / "shared", count=24, size=32, seed=1, workers=2)
    files = sorted(path.relative_to(alone) for path in alone.rglob("*.*"))
    assert files == sorted(path.relative_to(shared) for path in shared.rglob("*.*"))
    assert all((alone / file).read_bytes() == (shared / file).read_bytes() for file in files)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("wait", [False, True])
def test_a_process_that_ends_at_once_is_named(tmp_path, monkeypatch, wait):
    class Process(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            if wait:  # it has ended before it is given its task
                self.wait()

    monkeypatch.setattr(jobs.subprocess, "Popen", Process)
    monkeypatch.setattr(writing_module, "_WORTH_PROCESSES", 1)
    monkeypatch.setattr(writing_module, "_TOGETHER", 2)
    monkeypatch.setattr(jobs.sys, "executable", "/bin/false")
    with pytest.raises(UserError, match="run again"):
        write(tmp_path / "scenes", count=4, size=32)
    assert not (tmp_path / "scenes" / "labels.csv").exists()


@pytest.mark.parametrize("change", [{"count": 6}, {"size": 40}, {"seed": 1}, {"fractions": (0.5, 0.25, 0.25)}])
def test_another_set_is_refused(tmp_path, change):
    arguments = {"count": 5, "size": 32, "seed": 0}
    write(tmp_path / "scenes", **arguments)
    with pytest.raises(UserError, match="another set of scenes") as caught:
        write(tmp_path / "scenes", **{**arguments, **change})
    assert next(iter(change)) in str(caught.value) and "\n" not in str(caught.value)


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"no scenes\.json"):
        write(tmp_path, count=5, size=32)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(UserError, match="is a file"):
        write(tmp_path / "notes.txt", count=5, size=32)
    for bad in ({"count": 0}, {"size": 16}, {"fractions": (0.5, 0.1, 0.1)}, {"fractions": (1.2, -0.2, 0.0)}):
        with pytest.raises(UserError):
            write(tmp_path / "new", **{"count": 5, "size": 32, **bad})
    assert not (tmp_path / "new").exists()


def test_land_cover_can_be_added(tmp_path):
    folder = write(tmp_path / "scenes", count=6, size=32)
    assert not (folder / "land_cover").exists()
    write(folder, count=6, size=32, land_cover=True)
    scene = draw(3, size=32)
    assert np.array_equal(np.asarray(Image.open(folder / "land_cover/beach/beach_00003.png")), scene.land_cover)
    with open(folder / "georeference.csv", newline="") as file:
        row = list(csv.reader(file))[4]
    assert row[:3] == ["images/beach/beach_00003.png", "land_cover/beach/beach_00003.png", "EPSG:32612"]
    assert tuple(float(value) for value in row[3:]) == scene.transform
    assert json.loads((folder / "scenes.json").read_text())["land_cover"] is True


def test_contact_sheet(tmp_path):
    sheet = contact_sheet(tmp_path / "sheet.png", columns=2, size=40, scenes=("beach", "harbor"))
    assert Image.open(tmp_path / "sheet.png").size == sheet.size
    pixels = np.asarray(sheet)
    beach = draw(SCENES.index("beach"), size=40).image
    assert np.array_equal(pixels[16:56, 4:44], beach)
    with pytest.raises(UserError, match="beech"):
        contact_sheet(scenes=("beech",))
