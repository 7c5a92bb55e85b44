import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio

from rsml.cli.main import main as rsml
from rsml.geo.crop import CropOptions, crop
from rsml.geo.supervise import supervise
from rsml.scenes import draw
from rsml.scenes import write as write_scenes
from tests.geo.rasters import Affine, damage, from_origin, noise, write

SMALL = CropOptions(tile=32, step=32, filters=None)
CLASSES = {"water": 1, "forest": [2, 3], "sea": 255, "ignored": 9}


def rows_of(file):
    with open(file, newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture
def classes(tmp_path):
    file = tmp_path / "classes.json"
    file.write_text(json.dumps(CLASSES))
    return str(file)


@pytest.fixture
def tiles(tmp_path):
    """Four tiles in a row, 320 m wide each."""
    crop([str(write(tmp_path / "a.tif", noise(32, 128)))], tmp_path / "tiles", SMALL)
    return str(tmp_path / "tiles")


def land_cover(path, *columns, **options):
    """A map of four squares under the four tiles, 20 m a pixel, each of columns of codes."""
    codes = np.concatenate([np.broadcast_to(np.repeat(codes, 16 // len(codes)), (16, 16)) for codes in columns], axis=1)
    options = {"nodata": 0, "transform": from_origin(300_000, 4_100_000, 20, 20), **options}
    return str(write(path, codes.astype(options.pop("dtype", np.uint8)), **options))


def fails(capsys, *arguments):
    assert rsml(["geo", "supervise", *map(str, arguments)]) == 2
    output = capsys.readouterr().err.splitlines()
    assert len(output) == 1 and output[0].startswith("error: "), output
    return output[0]


def test_proportions_of_every_tile_and_the_list_of_those_without(tmp_path, tiles, classes):
    path = land_cover(tmp_path / "map.tif", [1, 2, 3, 3], [0, 1], [255], [0, 0, 0, 2])
    done = supervise([tiles], [path], classes)
    first, second = rows_of(Path(tiles) / "land_cover.csv")
    assert list(first) == ["path", "covered", "water", "forest"]
    assert first == {"path": "a/a_r000000_c000000.tif", "covered": "1", "water": "0.25", "forest": "0.75"}
    assert second == {"path": "a/a_r000000_c000032.tif", "covered": "0.5", "water": "1", "forest": "0"}
    left = rows_of(Path(tiles) / "left_out.csv")
    assert [(row["path"][-11:-4], row["reason"], float(row["covered"])) for row in left] == [
        ("c000064", "sea", 0.0),
        ("c000096", "little covered", 0.25),
    ]
    assert done.tiles == 2 and done.left_out == {"sea": 1, "little covered": 1}
    assert done.proportions == {"water": pytest.approx(0.75 / 1.5), "forest": pytest.approx(0.75 / 1.5)}
    counts = json.loads((Path(tiles) / "json/a/a_r000000_c000000.json").read_text())
    assert counts == {"water": 64, "forest": 192, "sea": 0}
    assert len(list(Path(tiles).rglob("json/*/*.json"))) == 2
    for row in (first, second):
        assert (Path(tiles) / row["path"]).is_file()


def test_the_table_elsewhere_points_to_the_tiles(tmp_path, tiles, classes):
    path = land_cover(tmp_path / "map.tif", [1], [2], [1], [2])
    supervise([tiles], [path], classes, tmp_path / "elsewhere/tables", counts=False)
    rows = rows_of(tmp_path / "elsewhere/tables/land_cover.csv")
    assert len(rows) == 4 and all((tmp_path / "elsewhere/tables" / row["path"]).is_file() for row in rows)
    assert not (tmp_path / "elsewhere/tables/json").exists()


def test_codes_outside_the_classes_are_counted_and_listed(tmp_path, tiles, classes, capsys):
    path = land_cover(tmp_path / "map.tif", [1, 77], [1], [88, 88, 77, 2], [9, 2])
    assert rsml(["geo", "supervise", tiles, "--land-cover", path, "--classes", classes, "--min-covered", "0.3"]) == 0
    output = capsys.readouterr().out
    assert "codes outside the classes, left out: 77 (192 pixels), 88 (128 pixels)" in output
    summary = json.loads((Path(tiles) / "land_cover.json").read_text())
    assert summary["unknown_codes"] == {"77": 192, "88": 128}
    rows = rows_of(Path(tiles) / "land_cover.csv")
    assert [row["covered"] for row in rows] == ["0.5", "1", "0.5"] and [row["water"] for row in rows] == ["1", "1", "0"]


def test_a_folder_of_sheets_in_two_systems_covers_all_tiles(tmp_path, classes):
    """Tiles of 3.2 km in zone 12; a sheet of their own zone for two of them, one of zone 11 for the others."""
    scene = write(tmp_path / "a.tif", noise(32, 128), from_origin(300_000, 4_100_000, 100, 100))
    crop([str(scene)], tmp_path / "tiles", SMALL)
    write(tmp_path / "maps/west.tif", np.full((64, 128), 1, np.uint8), from_origin(300_000, 4_100_000, 50, 50))
    with rasterio.open(scene) as dataset:
        left, _, _, top = rasterio.warp.transform_bounds(dataset.crs, "EPSG:32611", *dataset.bounds)
    write(tmp_path / "maps/more/east.tif", np.full((400, 700), 2, np.uint8),
          from_origin(left - 2000, top + 2000, 40, 40), "EPSG:32611")  # fmt: skip
    supervise([str(tmp_path / "tiles")], [str(tmp_path / "maps")], classes)
    assert [row["water"] for row in rows_of(tmp_path / "tiles/land_cover.csv")] == ["1", "1", "0", "0"]
    # The sheet of the other zone lies under all tiles: named first, it counts everywhere.
    supervise([str(tmp_path / "tiles")], [str(tmp_path / "maps/more"), str(tmp_path / "maps/west.tif")], classes)
    assert [row["forest"] for row in rows_of(tmp_path / "tiles/land_cover.csv")] == ["1"] * 4


def test_processes_give_what_one_process_gives(tmp_path, tiles, classes, monkeypatch):
    path = land_cover(tmp_path / "map.tif", [1, 2, 3, 3], [0, 1], [255], [0, 0, 0, 2])
    monkeypatch.setattr("rsml.geo.supervise._TOGETHER", 1)
    for name, workers in (("one", 1), ("two", 2)):
        supervise([tiles], [path], classes, tmp_path / name, workers=workers)
    for name in ("land_cover.csv", "left_out.csv", "land_cover.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_built_in_scenes_agree_with_their_generator(tmp_path):
    folder = write_scenes(tmp_path / "scenes", count=21, size=64, land_cover=True, workers=1)
    done = supervise([str(folder)], None, "globeland30", workers=1)
    labels = {row["path"]: row["split"] for row in rows_of(folder / "labels.csv")}
    rows = {row["path"]: row for row in rows_of(folder / "land_cover.csv")}
    left = {row["path"]: row for row in rows_of(folder / "left_out.csv")}
    codes = {"cultivated": 10, "forest": 20, "grassland": 30, "shrubland": 40, "wetland": 50, "water": 60,
             "artificial": 80, "bare": 90, "snow": 100}  # fmt: skip
    assert len(rows) + len(left) == 21 and done.tiles > 15
    for index, path in enumerate(labels):
        cover = draw(index, size=64).land_cover
        land = (cover != 255).sum()
        if path in left:
            assert left[path]["reason"] == ("sea" if land == 0 else "little covered") and land < 0.5 * cover.size
            continue
        assert rows[path]["split"] == labels[path]
        assert float(rows[path]["covered"]) == pytest.approx(land / cover.size)
        for name, code in codes.items():
            assert float(rows[path][name]) == pytest.approx((cover == code).sum() / land, abs=1e-7)


@pytest.mark.parametrize("kept", [1, 0])
def test_tiles_that_cannot_be_used_are_listed_with_the_reason(tmp_path, classes, capsys, kept):
    path = land_cover(tmp_path / "map.tif", [1], [2], [1], [2], compress="deflate", blockysize=1)
    damage(Path(path), 5)
    folder = tmp_path / "mixed"
    write(folder / "bare.tif", noise(32, 32), crs=None)
    write(folder / "far.tif", noise(32, 32), from_origin(500_000, 4_100_000, 10, 10))
    write(folder / "fine.tif", noise(2, 2), from_origin(300_001, 4_099_999, 1, 1))
    write(folder / "spoilt.tif", noise(32, 32))
    (folder / "text.tif").write_text("hello")
    if kept:
        write(folder / "whole.tif", noise(10, 32), from_origin(300_000, 4_099_800, 10, 10))
    status = rsml(["geo", "supervise", str(folder), "--land-cover", path, "--classes", classes, "--no-json"])
    left = {row["path"]: row for row in rows_of(folder / "left_out.csv")}
    assert {name: row["reason"] for name, row in left.items()} == {
        "bare.tif": "unreadable",
        "far.tif": "no map",
        "fine.tif": "map too coarse",
        "spoilt.tif": "damaged map",
        "text.tif": "unreadable",
    }
    assert "has no coordinate system" in left["bare.tif"]["detail"] and "not a raster" in left["text.tif"]["detail"]
    output = capsys.readouterr()
    if kept:
        assert status == 3 and "6 tiles: 1 with proportions, 5 left out (2 unreadable" in output.out
    else:
        assert status == 2 and "no tile got proportions: 2 unreadable" in output.err and output.err.count("\n") == 1


def test_what_is_wrong_with_a_map_is_one_line(tmp_path, tiles, classes, capsys):
    asked = [tiles, "--classes", classes, "--land-cover"]
    real = land_cover(tmp_path / "float.tif", [1], [1], [1], [1], dtype=np.float32)
    assert "values of type float32, expected the whole numbers" in fails(capsys, *asked, real)
    bare = land_cover(tmp_path / "bare.tif", [1], [1], [1], [1], crs=None)
    assert "has no coordinate system" in fails(capsys, *asked, bare)
    assert rsml(["geo", "supervise", *asked, bare, "--crs", "32612"]) == 0
    capsys.readouterr()
    local = rasterio.crs.CRS.from_wkt('LOCAL_CS["site grid",UNIT["metre",1]]')
    odd = land_cover(tmp_path / "odd.tif", [1], [1], [1], [1], crs=local)
    assert "(site grid) is not one that PROJ can convert" in fails(capsys, *asked, odd)
    far = land_cover(tmp_path / "far.tif", [1], [1], [1], [1], transform=from_origin(700_000, 4_100_000, 20, 20))
    output = fails(capsys, *asked, far)
    assert "none of 4 tiles overlaps a map: tiles lie in longitude -113." in output and "-108.7" in output
    (tmp_path / "text.tif").write_text("hello")
    assert "text.tif: not a raster that is read here" in fails(capsys, *asked, tmp_path / "text.tif")
    nlcd = land_cover(tmp_path / "nlcd.tif", [42, 52], [41], [31], [21])
    assert "knows none of the codes found (21, 31, 41, 42, 52); --classes nlcd knows them" in fails(
        capsys, *asked, nlcd
    )
    assert not (Path(tiles) / "land_cover.csv").exists()
    beyond = land_cover(tmp_path / "beyond.tif", [1], [1], [1], [1], transform=from_origin(1e12, 1e12, 20, 20))
    assert "beyond.tif: lies nowhere on Earth" in fails(capsys, *asked, beyond)
    assert "no land cover named" in fails(capsys, *asked[:-1])
    assert "'50': expected a number of 0 to 1" in fails(capsys, *asked, nlcd, "--min-covered", 50)
    assert "known: corine" in fails(capsys, tiles, "--classes", "x", "--land-cover", nlcd)


def test_a_map_that_names_no_datum_is_used_and_logged(tmp_path, tiles, classes, caplog):
    wkt = (
        'PROJCS["UTM Zone 12, Northern Hemisphere",GEOGCS["GRS 1980",DATUM["unknown",SPHEROID["GRS80",6378137,'
        '298.257222101]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],'
        'PARAMETER["latitude_of_origin",0],PARAMETER["central_meridian",-111],PARAMETER["scale_factor",0.9996],'
        'PARAMETER["false_easting",500000],PARAMETER["false_northing",0],UNIT["metre",1]]'
    )
    path = land_cover(tmp_path / "map.tif", [1], [2], [1], [2], crs=rasterio.crs.CRS.from_wkt(wkt))
    assert rsml(["geo", "supervise", tiles, "--land-cover", path, "--classes", classes]) == 0
    assert "(UTM Zone 12, Northern Hemisphere) does not name a datum" in caplog.text
    assert [row["water"] for row in rows_of(Path(tiles) / "land_cover.csv")] == ["1", "0", "1", "0"]


ZION = Path(os.environ.get("RSML_TEST_DATA", "/nonexistent")) / "data/zion"


@pytest.mark.skipif(not ZION.is_dir(), reason="needs RSML_TEST_DATA")
@pytest.mark.parametrize(("land_cover_file", "classes_name"), [("nlcd.tif", "zion"), ("nlcd2011.tif", "nlcd")])
def test_zion_national_park(tmp_path, land_cover_file, classes_name):
    """The whole Landsat scene as one tile, with both forms of the map."""
    done = supervise([str(ZION / "landsat_b4.tif")], [str(ZION / land_cover_file)], classes_name, tmp_path)
    for name, share in {"forest": 0.53, "shrubland": 0.37, "barren": 0.07, "developed": 0.012}.items():
        assert done.proportions[name] == pytest.approx(share, abs=0.01), name
    (row,) = rows_of(tmp_path / "land_cover.csv")
    assert float(row["covered"]) > 0.99


@pytest.mark.skipif(not ZION.is_dir(), reason="needs RSML_TEST_DATA")
def test_zion_in_tiles(tmp_path):
    """Tiles side by side, without overlap, count together what the scene counts as a whole."""
    with rasterio.open(ZION / "landsat_b4.tif") as dataset:
        part = write(tmp_path / "part.tif", dataset.read()[:, : 15 * 94], dataset.transform, dataset.crs)
    crop([str(part)], tmp_path / "tiles", CropOptions(tile=94, step=94, filters=None))
    tiles = supervise([str(tmp_path / "tiles")], [str(ZION / "nlcd.tif")], "zion")
    whole = supervise([str(part)], [str(ZION / "nlcd.tif")], "zion", tmp_path / "whole")
    assert tiles.tiles == 15 * 12 and not tiles.left_out
    counts = [json.loads(file.read_text()) for file in (tmp_path / "tiles/json").rglob("*.json")]
    (of_all,) = [json.loads(file.read_text()) for file in (tmp_path / "whole/json").rglob("*.json")]
    assert {name: sum(tile[name] for tile in counts) for name in of_all} == of_all
    for name, share in {"forest": 0.53, "shrubland": 0.37, "barren": 0.07, "developed": 0.012}.items():
        assert tiles.proportions[name] == pytest.approx(share, abs=0.01), name
        assert tiles.proportions[name] == pytest.approx(whole.proportions[name], abs=0.001), name


def test_a_turned_scene_keeps_its_turn(tmp_path, classes):
    """A scene turned by 30 degrees: its tiles are turned squares, and the map under them is counted there."""
    c, s = 10 * np.cos(np.pi / 6), 10 * np.sin(np.pi / 6)
    scene = write(tmp_path / "a.tif", noise(64, 64), Affine(c, s, 300_000, s, -c, 4_100_000))
    crop([str(scene)], tmp_path / "tiles", SMALL)
    codes = np.full((200, 200), 1, np.uint8)
    path = write(tmp_path / "map.tif", codes, from_origin(299_500, 4_101_000, 10, 10), nodata=0)
    done = supervise([str(tmp_path / "tiles")], [str(path)], classes)
    assert done.tiles == 4 and {row["covered"] for row in rows_of(tmp_path / "tiles/land_cover.csv")} == {"1"}
    counts = [json.loads(file.read_text())["water"] for file in (tmp_path / "tiles/json").rglob("*.json")]
    assert all(abs(number - 32 * 32) < 20 for number in counts)
