import numpy as np
import pytest

from rsml.data.divide import divide
from rsml.data.land_cover import CLASSES, read_land_cover, shares_of
from rsml.data.readers import read_samples
from rsml.data.samples import Samples
from rsml.data.source import Data, load_samples, training_part
from rsml.utils.errors import UserError


@pytest.fixture
def tiles(tmp_path, scene_folder):
    """Six tiles, one of them over sea alone."""
    rows = ["path,covered,water,forest"]
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes((scene_folder / "sand" / f"sand{number:02d}.png").read_bytes())
        rows.append(f"{number}.png,0,," if number == 5 else f"{number}.png,1,{number / 10},{1 - number / 10}")
    (tmp_path / "land_cover.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def change(folder, old, new):
    file = folder / "land_cover.csv"
    file.write_text(file.read_text().replace(old, new))


def test_shares_count_the_covered_pixels():
    codes = np.array([[80, 80, 20, 255], [30, 40, 20, 60]], dtype=np.uint8)
    shares, covered = shares_of(codes)
    assert covered == 6 / 8
    expected = {"artificial": 2 / 6, "forest": 2 / 6, "grassland": 1 / 6, "water": 1 / 6}
    np.testing.assert_allclose(shares, [expected.get(name, 0) for name in CLASSES])
    shares, covered = shares_of(np.full((2, 2), 255, np.uint8))
    assert covered == 0 and not shares.any()


def test_the_table_is_recognised_and_tiles_without_cover_are_left_out(tiles, caplog):
    caplog.set_level("INFO")
    samples = read_samples(tiles)
    assert samples.task == "proportions" and samples.label_names == ("water", "forest")
    assert samples.paths.tolist() == [f"{number}.png" for number in range(5)]
    assert samples.labels.dtype == np.float32
    np.testing.assert_allclose(samples.labels[:, 0], [0, 0.1, 0.2, 0.3, 0.4], atol=1e-7)
    assert "1 of 6 images lie over no known land cover" in caplog.text


def test_a_folder_of_images_beside_the_table_is_found_by_the_option(tiles):
    table = tiles / "elsewhere.csv"
    (tiles / "land_cover.csv").rename(table)
    assert len(read_samples(tiles, labels=table, task="proportions")) == 5
    assert len(read_samples(table, task="proportions")) == 5


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("2.png,1,0.2", "2.png,1,0.5", r"2.png: its 2 shares sum to 1.3"),
        (
            "2.png,1,0.2",
            "2.png,1,much",
            r"line 4 \(2.png\), column 'water': expected a share from 0 to 1, found 'much'",
        ),
        ("2.png,1,0.2", "2.png,1,-0.2", r"line 4 .*found '-0.2'"),
        ("2.png", "x.png", r"1 of its 6 images \(such as 'x.png'\) are not under"),
        ("2.png", "1.png", r"'1.png' has two rows"),
        ("path,", "file,", r"its columns are file, covered"),
        (",1,", ",0,", r"none of its 6 images lies over known land cover"),
    ],
)
def test_a_fault_in_the_table_is_one_line(tiles, old, new, said):
    change(tiles, old, new)
    with pytest.raises(UserError, match=said) as fault:
        read_land_cover(tiles / "land_cover.csv")
    assert "\n" not in str(fault.value)


def test_missing_tiles_may_be_left_out(tiles):
    (tiles / "3.png").unlink()
    assert len(read_samples(tiles, allow_missing=True)) == 4


def test_no_table_where_shares_are_asked_for(scene_folder, tmp_path):
    with pytest.raises(UserError, match=r"land_cover.csv: no such file; expected a table of path and land-cover"):
        read_samples(tmp_path, task="proportions")


def test_shares_are_divided_by_their_dominant_class(tmp_path, share_table):
    samples = load_samples(Data(source=str(share_table)))
    assert {side: len(samples.part(side)) for side in ("train", "valid", "test")} == {
        "train": 24,
        "valid": 6,
        "test": 6,
    }
    table = tmp_path / "undivided.csv"
    table.write_text(share_table.read_text().replace(",train,", ",,").replace(",valid,", ",,").replace(",test,", ",,"))
    divided = load_samples(
        Data(source=str(share_table.parent), labels=str(table), task="proportions", fractions=(50, 25, 25))
    )
    for side, each in (("train", 6), ("valid", 3), ("test", 3)):
        assert np.bincount(divided.part(side).classes).tolist() == [each] * 3


def test_a_written_division_is_read_back(tmp_path, share_table):
    divide(share_table, tmp_path / "division", task="proportions", how="table")
    again = read_samples(tmp_path / "division")
    assert again.task == "proportions" and len(again) == 36
    assert (
        again.fingerprint()
        == Samples.read_csv(tmp_path / "division" / "samples.csv", again.root, "proportions").fingerprint()
    )


def few(count=400):
    """Multi-label rows with a label on every image, one on a tenth, and one on two images."""
    labels = np.zeros((count, 3), np.uint8)
    labels[:, 0], labels[::10, 1], labels[[7, 301], 2] = 1, 1, 1
    names = [f"{number:03d}.png" for number in range(count)]
    return Samples(names, labels, ("grass", "trees", "dock"), "multi-label", ".", splits=["train"] * count)


def test_a_small_fraction_has_every_label_and_is_the_seeds():
    parts = [training_part(few(), 0.01, seed) for seed in range(8)]
    for part in parts:
        assert part.labels.any(axis=0).all() and 4 <= len(part) <= 6
    assert parts[0].fingerprint() == training_part(few(), 0.01, 0).fingerprint()
    rare = [part.paths[part.labels[:, 2] == 1].tolist() for part in parts]
    assert ["007.png"] in rare and ["301.png"] in rare, "the rare label's image is drawn, not always the first"
    assert len(training_part(few(), 0.5, 0)) == 200
    assert training_part(few(), 1, 0).fingerprint() == few().fingerprint()


def test_keeping_the_steps_repeats_the_part_evenly():
    part = training_part(few(), 0.01, 0)
    repeated = training_part(few(), 0.01, 0, keep_steps=True)
    assert len(repeated) == 400
    names, counts = np.unique(repeated.paths, return_counts=True)
    assert names.tolist() == sorted(part.paths.tolist()) and np.ptp(counts) <= 1
