import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio

from rsml.cli.main import main as rsml
from rsml.data.images import decode
from rsml.geo.crop import CropOptions, crop
from rsml.geo.tiles import Filters
from rsml.utils.errors import UserError
from tests.geo.rasters import UTM, Affine, damage, from_origin, noise, write

SMALL = CropOptions(tile=32, step=24, filters=None)


def table(out):
    with open(out / "tiles.csv", newline="") as file:
        return list(csv.DictReader(file))


def fails(capsys, *arguments):
    """Runs the command, which must fail, and returns its one line."""
    assert rsml(["geo", *map(str, arguments)]) == 2
    output = capsys.readouterr().err.splitlines()
    assert len(output) == 1 and output[0].startswith("error: "), output
    return output[0]


def test_tiles_hold_the_pixels_of_their_place(tmp_path):
    values = noise(70, 100)
    scene = write(tmp_path / "a.tif", values)
    crop([str(scene)], tmp_path / "out", CropOptions(tile=32, step=24, filters=None, stretch="none"))
    values = np.minimum(values, 255)  # stretch "none" clips
    rows = table(tmp_path / "out")
    assert [(int(row["row"]), int(row["column"])) for row in rows] == [
        (row, column) for row in (0, 24, 38) for column in (0, 24, 48, 68)
    ]
    for row in rows:
        top, left = int(row["row"]), int(row["column"])
        assert row["path"] == f"a/a_r{top:06d}_c{left:06d}.tif"
        with rasterio.open(tmp_path / "out" / row["path"]) as tile:
            assert (tile.read() == values[:, top : top + 32, left : left + 32]).all()
            assert tile.crs.to_epsg() == 32612 and tile.compression.value == "DEFLATE"
            assert tile.transform == Affine(10, 0, 300_000 + 10 * left, 0, -10, 4_100_000 - 10 * top)
            assert [float(row[side]) for side in ("left", "bottom", "right", "top")] == list(tile.bounds)
        assert (
            decode(tmp_path / "out" / row["path"]) == values[:, top : top + 32, left : left + 32].T.swapaxes(0, 1)
        ).all()


def test_stretch_is_linear_between_the_percentiles_of_each_band(tmp_path):
    values = noise(64, 64)
    values[1] *= 4
    values[:, :10, :10] = 0  # a collar, in no band anything else: left out of the percentiles
    scene = write(tmp_path / "a.tif", values)
    crop([str(scene)], tmp_path / "out", CropOptions(tile=64, step=64, filters=None))
    with rasterio.open(tmp_path / "out" / table(tmp_path / "out")[0]["path"]) as tile:
        found = tile.read().astype(float)
    for band in range(3):
        seen = values[band][(values != 0).any(axis=0)]
        low, high = np.percentile(seen, [1, 99])
        expected = np.clip((values[band] - low) / (high - low), 0, 1) * 255
        assert np.abs(found[band] - expected).max() <= 0.5 + 1e-3
        assert (found[band] == 0).sum() >= 100 and (found[band] == 255).sum() >= 0.01 * seen.size


def test_one_pair_of_limits_for_the_scene_keeps_colours(tmp_path):
    values = noise(64, 64)
    values[1] *= 2
    crop(
        [str(write(tmp_path / "a.tif", values))],
        tmp_path / "out",
        CropOptions(tile=64, step=64, stretch="scene", filters=None),
    )
    limits = json.loads((tmp_path / "out/a/scene.json").read_text())["limits"]
    assert limits == [list(np.percentile(values, [1, 99]))] * 3


@pytest.mark.parametrize("fill", ["nodata", "mask"])
def test_missing_pixels_are_black_and_outside_the_stretch(tmp_path, fill):
    values = noise(64, 64)
    missing = np.zeros((64, 64), bool)
    missing[5:9, 7:40] = True
    kept = values.copy()
    values[:, missing] = 65535
    scene = write(tmp_path / "a.tif", values, nodata=65535 if fill == "nodata" else None)
    if fill == "mask":
        with rasterio.open(scene, "r+") as dataset:
            dataset.write_mask(~missing)
    crop([str(scene)], tmp_path / "out", CropOptions(tile=64, step=64))
    (row,) = table(tmp_path / "out")
    assert row["reason"] == "kept" and float(row["nodata"]) == round(missing.mean(), 4)
    with rasterio.open(tmp_path / "out" / row["path"]) as tile:
        image = tile.read()
    assert (image[:, missing] == 0).all()
    low, high = np.percentile(kept[0][~missing], [1, 99])
    assert image[0, 0, 0] == round(float(np.clip((kept[0, 0, 0] - low) / (high - low) * 255, 0, 255)))


def test_each_filter_drops_its_tile_and_the_table_says_why(tmp_path):
    random = np.random.default_rng(0)
    strip = [random.integers(60, 200, (32, 32)) for _ in range(7)]
    strip[1][:] = random.integers(0, 15, (32, 32))  # empty
    strip[2][:10] = 5  # dark: 31 %
    strip[3][:] = 100 + random.integers(0, 5, (32, 32))  # low contrast
    strip[4][:20] = 240  # cloud: 62 %
    strip[5][:16] = 255  # nodata: half
    strip[6][:3] = 5  # 9 % dark are allowed
    values = np.repeat(np.concatenate(strip, axis=1)[None], 3, axis=0).astype(np.uint8)
    scene = write(tmp_path / "a.tif", values, nodata=255)
    options = CropOptions(tile=32, step=32, stretch="none")
    (counts,) = crop([str(scene)], tmp_path / "out", options).values()
    reasons = [row["reason"] for row in table(tmp_path / "out")]
    assert reasons == ["kept", "empty", "dark", "low contrast", "cloud", "nodata", "kept"]
    assert counts == {"kept": 2, "empty": 1, "dark": 1, "low contrast": 1, "cloud": 1, "nodata": 1}
    assert sorted(path.name for path in (tmp_path / "out/a").glob("*.tif")) == [
        "a_r000000_c000000.tif",
        "a_r000000_c000192.tif",
    ]
    rows = table(tmp_path / "out")
    assert float(rows[2]["dark"]) == pytest.approx(10 / 32, abs=1e-4)
    assert float(rows[4]["cloud"]) == pytest.approx(20 / 32, abs=1e-4)
    low, high = np.percentile(strip[0], [1, 99])
    assert float(rows[0]["contrast"]) == pytest.approx((high - low) / 255, abs=1e-4)
    assert float(rows[0]["maximum"]) == strip[0].max()
    loose = Filters(max_dark=0.4, min_contrast=0, max_cloud=0.7, max_nodata=0.5)
    crop([str(scene)], tmp_path / "loose", options.model_copy(update={"filters": loose}))
    assert [row["reason"] for row in table(tmp_path / "loose")] == ["kept", "empty"] + ["kept"] * 5


def test_bands_from_several_files_in_any_order(tmp_path):
    values = noise(40, 40, bands=4)
    for number, band in enumerate(values, 1):
        write(tmp_path / f"LC08_B{number}.tif", band)
    named = ",".join(str(tmp_path / f"LC08_B{number}.tif") for number in (4, 3, 2, 1))
    assert (
        rsml(
            [
                "geo",
                "crop",
                named,
                "--out",
                str(tmp_path / "out"),
                "--tile=40",
                "--stretch=none",
                "--keep-all",
                "--bands=2,1,4",
            ]
        )
        == 0
    )
    (row,) = table(tmp_path / "out")
    assert row["scene"] == "LC08"
    with rasterio.open(tmp_path / "out" / row["path"]) as tile:
        assert (tile.read() == np.minimum(values[[2, 3, 0]], 255)).all()


def test_five_bands_stay_five_and_none_is_alpha(tmp_path):
    scene = write(tmp_path / "a.tif", noise(32, 32, bands=5))
    crop([f"five={scene}"], tmp_path / "out", SMALL)
    (row,) = table(tmp_path / "out")
    with rasterio.open(tmp_path / "out" / row["path"]) as tile:
        assert tile.count == 5 and rasterio.enums.ColorInterp.alpha not in tile.colorinterp
    assert decode(tmp_path / "out" / row["path"], bands=[1, 2, 3, 4, 5]).shape == (32, 32, 5)


def test_the_alpha_band_is_no_band_but_says_what_is_missing(tmp_path):
    values = noise(32, 32, bands=4, high=4000).astype(np.uint8)
    values[3] = 255
    values[3, :2] = 0
    scene = write(tmp_path / "a.tif", values, photometric="RGB", alpha="YES")
    crop([str(scene)], tmp_path / "out", SMALL)
    (row,) = table(tmp_path / "out")
    assert float(row["nodata"]) == 2 / 32
    with rasterio.open(tmp_path / "out" / row["path"]) as tile:
        assert tile.count == 3


@pytest.mark.parametrize("layout", [{"tiled": True, "blockxsize": 16, "blockysize": 16}, {"blockysize": 4}])
def test_a_damaged_block_costs_only_the_tiles_on_it(tmp_path, layout, capsys):
    whole = write(tmp_path / "whole/a.tif", noise(96, 96), interleave="pixel", **layout)
    crop([str(whole)], tmp_path / "expected", SMALL)
    broken = write(tmp_path / "broken/a.tif", noise(96, 96), interleave="pixel", **layout)
    damage(broken, 7)
    assert (
        rsml(["geo", "crop", str(broken), "--out", str(tmp_path / "out"), "--tile=32", "--step=24", "--keep-all"]) == 3
    )
    output = capsys.readouterr().out
    rows = table(tmp_path / "out")
    # Six tiles lie beside each other, so number 7 is the second of the second row.
    block = (range(16, 32), range(16, 32)) if "tiled" in layout else (range(28, 32), range(96))
    spoilt = 0
    for row in rows:
        top, left = int(row["row"]), int(row["column"])
        on = top < block[0].stop and top + 32 > block[0].start and left < block[1].stop and left + 32 > block[1].start
        assert (row["reason"] == "damaged") == on
        spoilt += on
    assert f"{spoilt} damaged" in output and "damaged tiles, left out: a row 0 column 0" in output
    assert 0 < spoilt < len(rows)


def test_a_killed_run_goes_on_and_ends_with_the_same_tiles(tmp_path):
    values = noise(168, 168)
    scene = write(tmp_path / "a.tif", values, tiled=True, blockxsize=64, blockysize=64)
    arguments = [
        sys.executable,
        "-m",
        "rsml",
        "geo",
        "crop",
        str(scene),
        "--tile=16",
        "--step=8",
        "--keep-all",
        "--out",
    ]
    root = Path(__file__).parents[2]
    process = subprocess.Popen([*arguments, str(tmp_path / "killed")], cwd=root, stdout=subprocess.DEVNULL)
    journal = tmp_path / "killed/a/journal.csv"
    while not journal.exists() or journal.stat().st_size < 1000:
        time.sleep(0.01)
        assert process.poll() is None, "it was done before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = sorted((tmp_path / "killed/a").glob("a_*.tif"))
    assert 10 < len(done) < 400 and not (tmp_path / "killed/tiles.csv").exists()
    with open(journal, "a") as file:
        file.write("152,1")  # a line that was cut short
    done[3].write_bytes(b"")  # what a power cut may leave
    times = {path: path.stat().st_mtime_ns for path in done[:10] if path != done[3]}
    options = CropOptions(tile=16, step=8, filters=None)
    crop([str(scene)], tmp_path / "killed", options)
    crop([str(scene)], tmp_path / "straight", options)
    assert (tmp_path / "killed/tiles.csv").read_text() == (tmp_path / "straight/tiles.csv").read_text()
    names = sorted(path.name for path in (tmp_path / "straight/a").glob("*.tif"))
    assert names == sorted(path.name for path in (tmp_path / "killed/a").glob("*.tif")) and len(names) == 20 * 20
    for name in [*names[::19], done[3].name]:
        assert (tmp_path / "killed/a" / name).read_bytes() == (tmp_path / "straight/a" / name).read_bytes()
    assert all(path.stat().st_mtime_ns == then for path, then in times.items())


def test_processes_give_what_one_process_gives(tmp_path):
    for number in range(3):
        write(tmp_path / f"scenes/{number}.tif", noise(60, 60, seed=number))
    (tmp_path / "scenes/notes.txt").write_text("not a raster")
    one = crop([str(tmp_path / "scenes")], tmp_path / "one", SMALL, workers=1)
    two = crop([str(tmp_path / "scenes")], tmp_path / "two", SMALL, workers=2)
    assert one == two and len(one) == 3
    assert (tmp_path / "one/tiles.csv").read_bytes() == (tmp_path / "two/tiles.csv").read_bytes()
    for path in (tmp_path / "one").rglob("*.tif"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_scenes_added_later_join_the_table(tmp_path):
    first, second = (write(tmp_path / f"{name}/x.tif", noise(40, 40)) for name in "ab")
    crop([f"first={first}"], tmp_path / "out", SMALL)
    crop([str(first), str(second)], tmp_path / "out", SMALL)
    assert {row["scene"] for row in table(tmp_path / "out")} == {"first", "a_x", "b_x"}


def test_the_command_starts_without_tensorflow():
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "rsml", "geo", "crop", "nothing.tif", "--out", "x"],
        capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 2 and "nothing.tif" in done.stderr
    assert "rasterio" in done.stderr and "tensorflow" not in done.stderr and "keras" not in done.stderr


def test_a_full_disk_is_one_line_and_keeps_what_is_done(tmp_path, monkeypatch, capsys):
    scene = write(tmp_path / "a.tif", noise(96, 96))
    written = []

    def write_bytes(path, data, whole=Path.write_bytes):
        if len(written) == 5:
            whole(path, data[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        return whole(path, data)

    arguments = ["crop", scene, "--out", tmp_path / "out", "--tile", 32, "--step", 24, "--keep-all"]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_bytes)
        output = fails(capsys, *arguments)
    assert "no space left" in output and "a_r" in output
    assert len(list((tmp_path / "out/a").glob("*.tif"))) == 5
    assert rsml(["geo", *map(str, arguments)]) == 0
    assert "16 tiles: 16 kept" in capsys.readouterr().out
    assert not list((tmp_path / "out").rglob(".*"))


def test_what_is_wrong_with_a_scene_is_one_line(tmp_path, capsys):
    out = ["--out", tmp_path / "out", "--tile", 32]
    scene = write(tmp_path / "a.tif", noise(40, 50))
    assert "no such image" in fails(capsys, "crop", tmp_path / "absent.tif", *out)
    (tmp_path / "text.tif").write_text("hello")
    assert "text.tif: not a raster that is read here" in fails(capsys, "crop", tmp_path / "text.tif", *out)
    bare = write(tmp_path / "bare.tif", noise(40, 40), crs=None)
    assert "has no coordinate system" in fails(capsys, "crop", bare, *out)
    assert "99999: not a coordinate system" in fails(capsys, "crop", bare, *out, "--crs", "EPSG:99999")
    local = 'LOCAL_CS["site grid",UNIT["metre",1]]'
    odd = write(tmp_path / "odd.tif", noise(40, 40), crs=rasterio.crs.CRS.from_wkt(local))
    assert "(site grid) is not one that PROJ can convert" in fails(capsys, "crop", odd, *out)
    assert "has 3 bands, band 4 was asked for (they are counted from 1); choose from 1 to 3" in fails(
        capsys, "crop", scene, *out, "--bands=4,3,2"
    )
    assert "--bands: 'red': expected bands counted from 1" in fails(capsys, "crop", scene, *out, "--bands=red")
    assert "50 x 40 pixels, smaller than a window of 64 x 64; give --tile 40 or less" in fails(
        capsys, "crop", scene, "--out", tmp_path / "out", "--tile", 64, "--step", 8
    )
    nowhere = write(tmp_path / "nowhere.tif", noise(40, 40), transform=Affine.identity())
    assert "has no position" in fails(capsys, "crop", nowhere, *out)
    other = write(tmp_path / "other.tif", noise(40, 50), transform=from_origin(300_005, 4_100_000, 10, 10))
    assert "files of one scene need one grid" in fails(capsys, "crop", f"{scene},{other}", *out)
    assert "step 40 is more than the tile's 32" in fails(capsys, "crop", scene, *out, "--step", 40)
    assert "leaves no use for --black" in fails(capsys, "crop", scene, *out, "--keep-all", "--black", 3)
    assert not (tmp_path / "out").exists()


def test_tiles_cut_otherwise_or_from_another_file_are_not_mixed(tmp_path, capsys):
    scene = write(tmp_path / "a.tif", noise(40, 50))
    arguments = ["crop", scene, "--out", tmp_path / "out", "--tile", 32, "--step", 8]
    assert rsml(["geo", *map(str, arguments)]) == 0
    assert "cut with step 8, not 16" in fails(capsys, *arguments[:-1], 16)
    write(tmp_path / "a.tif", noise(40, 51))
    assert "as it was when they were cut" in fails(capsys, *arguments)


def test_one_bad_scene_does_not_stop_the_others(tmp_path, capsys):
    write(tmp_path / "scenes/a.tif", noise(40, 50))
    (tmp_path / "scenes/b.tif").write_text("hello")
    assert (
        rsml(["geo", "crop", str(tmp_path / "scenes"), "--out", str(tmp_path / "out"), "--tile=32", "--step=32"]) == 3
    )
    assert {row["scene"] for row in table(tmp_path / "out")} == {"a"}


def test_a_raster_without_coordinate_system_takes_the_one_given(tmp_path):
    bare = write(tmp_path / "bare.tif", noise(40, 40), crs=None)
    crop([str(bare)], tmp_path / "out", SMALL.model_copy(update={"crs": UTM}))
    with rasterio.open(tmp_path / "out" / table(tmp_path / "out")[0]["path"]) as tile:
        assert tile.crs.to_epsg() == 32612


def test_an_unusable_folder_is_refused(tmp_path):
    scene = write(tmp_path / "a.tif", noise(40, 50))
    (tmp_path / "out/a").mkdir(parents=True)
    (tmp_path / "out/a/holiday.jpg").write_text("")
    with pytest.raises(UserError, match=r"holds other files and no scene\.json"):
        crop([str(scene)], tmp_path / "out", SMALL)
