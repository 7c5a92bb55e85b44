import resource
import sqlite3
import struct
from dataclasses import replace
from pathlib import Path

import keras
import matplotlib
import numpy as np
import pytest
import rasterio
from matplotlib.figure import Figure
from PIL import Image
from rasterio.transform import Affine, from_origin

from rsml.data.images import resize
from rsml.layers import ScenePredictions
from rsml.mapping.job import MapOptions
from rsml.mapping.mapping import map_scenes
from rsml.prediction.scene_model import SceneModel
from rsml.raster.scene import is_scene
from rsml.utils.errors import UserError

ROOT = Path(__file__).parent.parent.parent
OPTIONS = MapOptions(window=(32, 32), batch_size=4)
UTM = "EPSG:32633"


def tiny_model(task="multi-label", channels=3):
    """Says which of the channels is brighter than the others, from 16 x 16 pixels; not linear in them."""
    image = keras.Input((16, 16, channels))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.GlobalMaxPooling2D()(keras.layers.AveragePooling2D(4)(x))
    start = keras.initializers.Constant(8 * np.eye(channels) - 3)
    logits = keras.layers.Dense(channels, kernel_initializer=start, name="logits")(x)
    labels = ["red", "green", "blue", "infrared"][:channels]
    layer = ScenePredictions(labels, task, experiment={"data": {"image_size": 16}})
    return SceneModel.of(keras.Model(image, layer(logits)))


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(autouse=True)
def quick_pictures(request, monkeypatch):
    """Most tests look at numbers; drawing takes longer than all the rest."""
    if "picture" not in request.node.name:
        monkeypatch.setattr("rsml.mapping.job.quicklook", lambda *_: Figure(figsize=(1, 1)))


def write(path, pixels, transform=None, crs=UTM, **profile):
    pixels = np.asarray(pixels)
    options = {"driver": "GTiff", "height": pixels.shape[0], "width": pixels.shape[1], "count": pixels.shape[2]}
    options |= {"dtype": pixels.dtype, "crs": crs, "transform": transform or from_origin(500_000, 5_000_000, 10, 10)}
    with rasterio.open(path, "w", **options | {"compress": "deflate"} | profile) as dataset:
        dataset.write(np.moveaxis(pixels, -1, 0))
    return str(path)


def noise(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def map_one(model, scene, folder, options=OPTIONS):
    (made,), bad = map_scenes(model, [scene], [folder], options)
    assert not bad
    return made


def by_hand(model, pixels, window=32, step=16, skip=None):
    """Every window cut, resized and predicted by itself; then the mean over those that hold the centre of a cell."""
    height, width = pixels.shape[:2]
    rows = [*range(0, height - window, step), height - window]
    columns = [*range(0, width - window, step), width - window]
    cells = -(-height // step), -(-width // step)
    sums, counts = np.zeros((*cells, len(model.labels))), np.zeros(cells)
    for row in rows:
        for column in columns:
            if skip is not None and skip(row, column):
                continue
            image = resize(pixels[row : row + window, column : column + window], (16, 16))
            scores = model.model(image[None].astype(np.float32), training=False)[0].numpy()
            for i in range(cells[0]):
                for j in range(cells[1]):
                    y = (i * step + min((i + 1) * step, height)) / 2
                    x = (j * step + min((j + 1) * step, width)) / 2
                    if row <= y < row + window and column <= x < column + window:
                        sums[i, j] += scores
                        counts[i, j] += 1
    with np.errstate(invalid="ignore"):
        return sums / counts[..., None], counts


def probabilities(folder):
    with rasterio.open(folder / "probabilities.tif") as dataset:
        return np.moveaxis(dataset.read(), 0, -1), dataset.profile | {"descriptions": dataset.descriptions}


def tiles(folder):
    with sqlite3.connect(folder / "tiles.gpkg") as database:
        database.row_factory = sqlite3.Row
        rows = [dict(row) for row in database.execute("SELECT * FROM tiles")]
    for row in rows:
        magic, version, flags, srs, *box = struct.unpack_from("<2sBBi4d", row["geom"])
        order, kind, rings, points = struct.unpack_from("<BIII", row["geom"], 40)
        assert (magic, version, flags, order, kind, rings, points) == (b"GP", 0, 3, 1, 3, 1, 5)
        row["ring"] = np.frombuffer(row["geom"], "<f8", offset=53).reshape(5, 2)
        row["srs"], row["box"] = srs, box
    return rows


@pytest.mark.parametrize("step", [16, 12, 32])
@pytest.mark.parametrize("profile", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 16}])
def test_a_cell_is_the_mean_of_the_windows_over_its_centre(model, tmp_path, step, profile, monkeypatch):
    monkeypatch.setattr("rsml.raster.windows.BLOCK_PIXELS", 64 * 64)
    pixels = noise(101, 83)
    scene = write(tmp_path / "scene.tif", pixels, **profile)
    map_one(model, scene, tmp_path / "map", replace(OPTIONS, step=(step, step)))
    expected, counts = by_hand(model, pixels, step=step)
    found, about = probabilities(tmp_path / "map")
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert about["descriptions"] == ("red", "green", "blue")
    assert about["nodata"] != about["nodata"] and about["tiled"] and about["compress"] == "deflate"
    rows = tiles(tmp_path / "map")
    assert len(rows) == counts.size
    np.testing.assert_array_equal([row["windows"] for row in rows], counts.ravel())
    np.testing.assert_allclose([row["score green"] for row in rows], expected[..., 1].ravel(), atol=2e-6)


def test_an_object_lands_at_its_coordinates(model, tmp_path):
    pixels = np.full((200, 300, 3), 20, np.uint8)
    pixels[96:128, 224:256] = (20, 20, 250)
    scene = write(tmp_path / "scene.tif", pixels, from_origin(500_000, 5_000_000, 10, 10))
    map_one(model, scene, tmp_path / "map", replace(OPTIONS, step=(8, 8)))
    centre = 500_000 + 10 * 240, 5_000_000 - 10 * 112
    with rasterio.open(tmp_path / "map" / "probabilities.tif") as dataset:
        assert dataset.crs == rasterio.crs.CRS.from_string(UTM)
        assert dataset.transform == from_origin(500_000, 5_000_000, 80, 80)
        blue = dataset.read(3)
        row, column = np.nonzero(blue > 0.99 * blue.max())
        x, y = dataset.transform * (column.mean() + 0.5, row.mean() + 0.5)
        assert abs(x - centre[0]) <= 80 and abs(y - centre[1]) <= 80
        assert blue[0, 0] < 0.5 < blue.max()
    found = [row for row in tiles(tmp_path / "map") if "blue" in row["labels"]]
    rings = np.stack([row["ring"] for row in found])
    assert abs(rings[..., 0].mean() - centre[0]) <= 80 and abs(rings[..., 1].mean() - centre[1]) <= 80
    assert {row["top"] for row in found} == {"blue"} and {row["srs"] for row in found} == {32633}
    # Nothing that no window with the object in it covers.
    assert np.abs(rings - centre).max() <= 10 * (16 + 32)


def test_tiles_are_the_cells_of_the_raster_and_end_with_the_scene(model, tmp_path):
    turned = Affine.translation(4000, 9000) * Affine.rotation(30) * Affine.scale(2, -2)
    scene = write(tmp_path / "scene.tif", noise(70, 90), turned)
    map_one(model, scene, tmp_path / "map")
    _, about = probabilities(tmp_path / "map")
    for row in tiles(tmp_path / "map"):
        i, j = row["row"] // 16, row["column"] // 16
        np.testing.assert_allclose(row["ring"][0], about["transform"] * (j, i), atol=1e-6)
        end = turned * (min(16 * (j + 1), 90), min(16 * (i + 1), 70))
        np.testing.assert_allclose(row["ring"][2], end, atol=1e-6)
        (left, low), (right, high) = row["ring"].min(axis=0), row["ring"].max(axis=0)
        np.testing.assert_allclose(row["box"], (left, right, low, high))
    with sqlite3.connect(tmp_path / "map" / "tiles.gpkg") as database:
        bounds = database.execute("SELECT min_x, min_y, max_x, max_y, srs_id FROM gpkg_contents").fetchone()
        corners = np.array([turned @ corner for corner in ((0, 0), (90, 0), (90, 70), (0, 70))])
        np.testing.assert_allclose(bounds[:4], [*corners.min(axis=0), *corners.max(axis=0)])
        assert database.execute("PRAGMA application_id").fetchone()[0] == 0x47504B47
        text = database.execute("SELECT definition FROM gpkg_spatial_ref_sys WHERE srs_id = ?", bounds[4:]).fetchone()[
            0
        ]
    assert rasterio.crs.CRS.from_wkt(text) == rasterio.crs.CRS.from_string(UTM)


def test_without_georeference_pixels_are_the_coordinates(model, tmp_path):
    pixels = noise(70, 90)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    map_one(model, str(tmp_path / "photo.png"), tmp_path / "map")
    found, about = probabilities(tmp_path / "map")
    np.testing.assert_allclose(found, by_hand(model, pixels)[0], atol=2e-6)
    assert about["crs"] is None and about["transform"] == Affine.scale(16, -16)
    last = tiles(tmp_path / "map")[-1]
    assert last["srs"] == -1
    np.testing.assert_array_equal(last["ring"][2], (90, -70))


def test_an_own_coordinate_system_is_kept(model, tmp_path):
    crs = rasterio.crs.CRS.from_proj4("+proj=laea +lat_0=51.3 +lon_0=9.7 +datum=WGS84 +units=m")
    scene = write(tmp_path / "scene.tif", noise(40, 40), crs=crs)
    map_one(model, scene, tmp_path / "map")
    with sqlite3.connect(tmp_path / "map" / "tiles.gpkg") as database:
        query = "SELECT srs_id, definition FROM gpkg_spatial_ref_sys NATURAL JOIN gpkg_geometry_columns"
        number, text = database.execute(query).fetchone()
    assert number == 100_000 and rasterio.crs.CRS.from_wkt(text) == crs


@pytest.mark.parametrize("kind", ["nodata", "alpha", "float"])
def test_windows_without_pixels_are_skipped(model, tmp_path, kind):
    pixels = np.maximum(noise(96, 96), 1)
    missing = np.zeros((96, 96), bool)
    missing[:, 40:] = True
    values, profile = pixels.copy(), {}
    values[missing] = 0
    if kind == "nodata":
        profile = {"nodata": 0}
    elif kind == "alpha":
        values = np.dstack([values, np.where(missing, 0, 255).astype(np.uint8)])
        profile = {"photometric": "RGB", "ALPHA": "YES"}
    else:
        values = np.where(missing[..., None], np.nan, values.astype(np.float32))
    scene = write(tmp_path / "scene.tif", values, **profile)
    for share in (1.0, 0.5):
        folder = tmp_path / f"map{share}"
        made = map_one(model, scene, folder, replace(OPTIONS, skip_nodata=share))
        shown = np.where(missing[..., None], 0, pixels)

        def empty(row, column, share=share):
            return missing[row : row + 32, column : column + 32].mean() >= share

        expected, counts = by_hand(model, shown, skip=empty)
        np.testing.assert_allclose(probabilities(folder)[0], expected, atol=2e-6)
        rows = [0, 16, 32, 48, 64]
        skipped = sum(empty(row, column) for row in rows for column in rows)
        assert made.about["windows"] == {"labelled": 25 - skipped, "nodata": skipped, "unreadable": 0}
        assert len(tiles(folder)) == (counts > 0).sum() < 36
    assert skipped == 15


def test_a_value_can_be_called_nodata(model, tmp_path):
    pixels = np.full((64, 64, 3), 77, np.uint8)
    pixels[:32, :32] = noise(32, 32)
    scene = write(tmp_path / "scene.tif", pixels)
    made = map_one(model, scene, tmp_path / "map", replace(OPTIONS, nodata=77, skip_nodata=0.6))
    assert made.about["windows"]["labelled"] == 3


def test_a_scene_of_nodata_alone_is_an_empty_map(model, tmp_path):
    scene = write(tmp_path / "scene.tif", np.zeros((64, 64, 3), np.uint16), nodata=0)
    made = map_one(model, scene, tmp_path / "map")
    assert made.about["windows"]["nodata"] == 9 and tiles(tmp_path / "map") == []
    assert np.isnan(probabilities(tmp_path / "map")[0]).all()


def test_deep_values_are_scaled_alike_over_the_whole_scene(model, tmp_path):
    values = noise(64, 64).astype(np.uint16) * 4
    values[:32] //= 3
    scene = write(tmp_path / "scene.tif", values)
    made = map_one(model, scene, tmp_path / "own")
    low, high = made.about["made_from"]["value_range"]
    np.testing.assert_allclose((low, high), np.percentile(values, (2, 98)))
    scaled = np.rint(np.clip((values - low) * (255 / (high - low)), 0, 255)).astype(np.uint8)
    np.testing.assert_allclose(probabilities(tmp_path / "own")[0], by_hand(model, scaled)[0], atol=1e-4)
    map_one(model, scene, tmp_path / "given", replace(OPTIONS, value_range=(0, 1020)))
    given = np.rint(values / 4).astype(np.uint8)
    np.testing.assert_allclose(probabilities(tmp_path / "given")[0], by_hand(model, given)[0], atol=1e-4)


def test_bands_are_chosen_and_greys_repeated(model, tmp_path):
    pixels = noise(48, 48, 5)
    scene = write(tmp_path / "scene.tif", pixels)
    with pytest.raises(UserError, match=r"has 5 bands.*--bands 3,2,1"):
        map_one(model, scene, tmp_path / "map")
    map_one(model, scene, tmp_path / "map", replace(OPTIONS, bands=(4, 1, 3)))
    expected, _ = by_hand(model, pixels[..., [3, 0, 2]])
    np.testing.assert_allclose(probabilities(tmp_path / "map")[0], expected, atol=2e-6)
    grey = write(tmp_path / "grey.tif", pixels[..., :1])
    map_one(model, grey, tmp_path / "grey")
    expected, _ = by_hand(model, np.repeat(pixels[..., :1], 3, axis=2))
    np.testing.assert_allclose(probabilities(tmp_path / "grey")[0], expected, atol=2e-6)


def test_a_single_label_model_with_four_bands_decides_one_class(tmp_path):
    model = tiny_model("single-label", channels=4)
    pixels = np.full((64, 64, 4), 10, np.uint8)
    pixels[:, :32, 3], pixels[:, 32:, 1] = 200, 200
    scene = write(tmp_path / "scene.tif", pixels)
    made = map_one(model, scene, tmp_path / "map", replace(OPTIONS, bands=(1, 2, 3, 4), step=(32, 32)))
    assert [row["labels"] for row in tiles(tmp_path / "map")] == ["infrared", "green"] * 2
    assert made.about["cells_with"] == {"red": 0, "green": 2, "blue": 0, "infrared": 2}


def test_a_resumed_map_is_that_of_an_uninterrupted_run(model, tmp_path, monkeypatch):
    monkeypatch.setattr("rsml.raster.windows.BLOCK_PIXELS", 64 * 64)
    pixels = noise(150, 130)
    pixels[20:90, 50:100] = 0
    scene = write(tmp_path / "scene.tif", pixels, nodata=0)
    map_one(model, scene, tmp_path / "whole")
    kept = model.model.predict_on_batch
    for stop in (1, 3, 2, 100):
        calls = []

        def predict(images, calls=calls, stop=stop):
            calls.append(len(images))
            if len(calls) > stop:
                raise KeyboardInterrupt
            return kept(images)

        monkeypatch.setattr(model.model, "predict_on_batch", predict)
        try:
            map_one(model, scene, tmp_path / "parts")
        except KeyboardInterrupt:
            # As a process killed in the midst of writing leaves it.
            with open(tmp_path / "parts" / "building" / "windows.bin", "ab") as file:
                file.write(b"\1\0\0")
    assert 1 < len(calls) < 20
    for name in ("probabilities.tif", "tiles.gpkg"):
        left, right = probabilities(tmp_path / "whole")[0], probabilities(tmp_path / "parts")[0]
        np.testing.assert_array_equal(left, right)
        if name == "probabilities.tif":
            assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    columns = ["row", "column", "windows", "labels", "score red", "geom"]
    whole, parts = ([[row[c] for c in columns] for row in tiles(tmp_path / folder)] for folder in ("whole", "parts"))
    assert whole == parts
    assert not (tmp_path / "parts" / "building").exists()


def test_a_finished_map_is_not_made_again(model, tmp_path, monkeypatch):
    scene = write(tmp_path / "scene.tif", noise(64, 64))
    map_one(model, scene, tmp_path / "map")
    monkeypatch.setattr(model.model, "predict_on_batch", lambda images: pytest.fail("predicted again"))
    assert map_one(model, scene, tmp_path / "map").about["windows"]["labelled"] == 9


def test_what_does_not_belong_together_is_refused(model, tmp_path, monkeypatch):
    scene = write(tmp_path / "scene.tif", noise(64, 64))
    map_one(model, scene, tmp_path / "map")
    with pytest.raises(UserError, match=r"step: \[16, 16\] there, \[8, 8\] now"):
        map_one(model, scene, tmp_path / "map", replace(OPTIONS, step=(8, 8)))
    other = tiny_model()
    other.model.get_layer("logits").bias.assign([1, 0, 0])
    with pytest.raises(UserError, match="another model"):
        map_one(other, scene, tmp_path / "map")

    def stop(images):
        raise KeyboardInterrupt

    monkeypatch.setattr(other.model, "predict_on_batch", stop)
    with pytest.raises(KeyboardInterrupt):
        map_one(other, scene, tmp_path / "begun")
    write(tmp_path / "scene.tif", noise(64, 64, seed=1))
    with pytest.raises(UserError, match=r"scene.tif has changed since.*--fresh"):
        map_one(other, scene, tmp_path / "begun")
    monkeypatch.undo()
    map_one(other, scene, tmp_path / "begun", replace(OPTIONS, fresh=True))
    expected, _ = by_hand(other, noise(64, 64, seed=1))
    np.testing.assert_allclose(probabilities(tmp_path / "begun")[0], expected, atol=2e-6)


def test_batches_are_full_over_rows_and_scenes(model, tmp_path, monkeypatch):
    shapes = [(64, 64), (40, 100), (32, 32)]
    scenes = [write(tmp_path / f"{n}.tif", noise(*shape, seed=n)) for n, shape in enumerate(shapes)]
    sizes, kept = [], model.model.predict_on_batch
    monkeypatch.setattr(model.model, "predict_on_batch", lambda images: sizes.append(len(images)) or kept(images))
    folders = [tmp_path / f"map{n}" for n in range(3)]
    made, bad = map_scenes(model, scenes, folders, OPTIONS)
    assert not bad and [sum(one.about["windows"].values()) for one in made] == [9, 12, 1]
    assert sizes == [4] * 6
    for n, shape in enumerate(shapes):
        expected, _ = by_hand(model, noise(*shape, seed=n))
        np.testing.assert_allclose(probabilities(folders[n])[0], expected, atol=2e-6)


def test_scenes_that_cannot_be_mapped_do_not_hold_up_the_others(model, tmp_path):
    good = write(tmp_path / "good.tif", noise(40, 40))
    small = write(tmp_path / "small.tif", noise(31, 90))
    (tmp_path / "text.tif").write_text("text")
    paths = [small, good, str(tmp_path / "text.tif")]
    made, bad = map_scenes(model, paths, [tmp_path / f"map{n}" for n in range(3)], OPTIONS)
    assert [one.folder.name for one in made] == ["map1"]
    assert "small.tif: 90 x 31 pixels, smaller than a window of 32 x 32" in str(bad[0])
    assert "text.tif: not a raster" in str(bad[1])
    for path in (small, str(tmp_path / "text.tif"), str(tmp_path / "none.tif")):
        with pytest.raises(UserError) as fault:
            map_one(model, path, tmp_path / "map")
        assert "\n" not in str(fault.value) and path in str(fault.value)


def test_damaged_blocks_cost_only_the_windows_on_them(model, tmp_path):
    pixels = noise(128, 128)
    scene = write(tmp_path / "scene.tif", pixels, tiled=True, blockxsize=32, blockysize=32, interleave="pixel")
    with rasterio.open(scene) as dataset:
        assert dataset.block_shapes[0] == (32, 32)
    data = bytearray(Path(scene).read_bytes())
    offsets = _tile_offsets(scene)
    broken = 4 * 1 + 2  # second row, third column
    data[offsets[broken] : offsets[broken] + 60] = b"\xff" * 60
    Path(scene).write_bytes(data)
    made = map_one(model, scene, tmp_path / "map")

    def damaged(row, column):
        return row < 64 and row + 32 > 32 and column < 96 and column + 32 > 64

    expected, counts = by_hand(model, pixels, skip=damaged)
    np.testing.assert_allclose(probabilities(tmp_path / "map")[0], expected, atol=2e-6)
    assert (counts == 0).any()
    places = [[row, column] for row in range(0, 97, 16) for column in range(0, 97, 16) if damaged(row, column)]
    assert made.unreadable == len(places) == 9
    assert sorted(made.about["unreadable_at"]) == places


def _tile_offsets(path):
    import tifffile

    with tifffile.TiffFile(path) as file:
        return file.pages[0].dataoffsets


def test_a_full_disk_keeps_what_is_done(model, tmp_path, monkeypatch):
    scene = write(tmp_path / "scene.tif", noise(180, 180))
    options = replace(OPTIONS, window=(8, 8), step=(2, 2), batch_size=256)
    map_one(model, scene, tmp_path / "whole", options)
    # A limit on the size of files stands in for a full disk.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit, named in ((30_000, "windows.bin"), (110_000, "tiles.gpkg"), (60_000, "probabilities.tif")):
        if named == "probabilities.tif":  # the polygons take more room
            monkeypatch.setattr("rsml.mapping.label_map._add_tiles", lambda *_: np.zeros(3, np.int64))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(UserError, match=f"{named}: could not be written .*run the same command again") as fault:
                map_one(model, scene, tmp_path / "map", options)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert "\n" not in str(fault.value)
    assert (tmp_path / "map" / "building" / "windows.bin").stat().st_size == 87 * 87 * 13
    assert not (tmp_path / "map" / "probabilities.tif").exists()
    monkeypatch.undo()
    monkeypatch.setattr(model.model, "predict_on_batch", lambda images: pytest.fail("predicted again"))
    map_one(model, scene, tmp_path / "map", options)
    np.testing.assert_array_equal(probabilities(tmp_path / "map")[0], probabilities(tmp_path / "whole")[0])


def test_large_georeferenced_rasters_are_scenes_and_all_else_images(tmp_path):
    flat = np.zeros((1024, 1100, 3), np.uint8)
    large = write(tmp_path / "large.tif", flat)
    assert is_scene(large, (64, 64)) and is_scene(large, (256, 256)) and not is_scene(large, (400, 400))
    assert not is_scene(write(tmp_path / "tile.tif", flat[:256, :256]), (64, 64))
    Image.fromarray(flat).save(tmp_path / "photo.tif")
    assert not is_scene(str(tmp_path / "photo.tif"), (64, 64))
    (tmp_path / "text.tif").write_text("text")
    assert not is_scene(str(tmp_path / "text.tif"), (64, 64))


def test_overviews_and_names(model, tmp_path):
    scene = write(tmp_path / "scene.tif", np.zeros((16, 520, 3), np.uint8))
    names = replace(model, labels=("Water", "water", "row"))
    map_one(names, scene, tmp_path / "map", replace(OPTIONS, window=(4, 4), step=(2, 2), batch_size=512))
    with rasterio.open(tmp_path / "map" / "probabilities.tif") as dataset:
        assert dataset.shape == (8, 260) and dataset.overviews(1) == [2]
    with sqlite3.connect(tmp_path / "map" / "tiles.gpkg") as database:
        names = [row[1] for row in database.execute("PRAGMA table_info(tiles)")]
    assert names[-3:] == ["score Water", "score water 2", "score row"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"window": (0, 0)}, "--window is 0"),
        ({"step": (33, 33)}, "--step is 33; expected 1 to 32"),
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"skip_nodata": 0.0}, "--skip-nodata is 0"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        replace(OPTIONS, **options)


def test_a_diverged_model_is_named(model, tmp_path, monkeypatch):
    monkeypatch.setattr(model.model, "predict_on_batch", lambda images: np.full((len(images), 3), np.nan))
    with pytest.raises(UserError, match="NaN"):
        map_one(model, write(tmp_path / "scene.tif", noise(40, 40)), tmp_path / "map")


@pytest.mark.parametrize(("shape", "task"), [((64, 400), "multi-label"), ((90, 60), "single-label")])
def test_the_picture_shows_labels_where_they_are(tmp_path, shape, task):
    model = tiny_model(task)
    pixels = np.full((*shape, 3), 10, np.uint8)
    pixels[:, : shape[1] // 2, 2] = 240
    pixels[:, shape[1] // 2 :, 0] = 240
    scene = write(tmp_path / "scene.tif", pixels)
    map_one(model, scene, tmp_path / "map", replace(OPTIONS, step=(8, 8)))
    with Image.open(tmp_path / "map" / "quicklook.png") as picture:
        shown = np.asarray(picture.convert("RGB")).astype(int)
    assert min(shown.shape[:2]) > 500
    legend = [
        tuple(np.round(255 * np.array(matplotlib.colormaps["tab20"].colors[place])).astype(int)) for place in (0, 2)
    ]
    for colour in legend:  # each class has a patch in the legend, of its pure colour
        assert (np.abs(shown - colour).max(axis=2) <= 1).sum() > 100


def test_a_map_is_of_the_views_that_the_model_is_measured_by(tmp_path):
    image = keras.Input((16, 16, 3))
    logits = keras.layers.Dense(2, name="logits")(keras.layers.Flatten()(image / 255.0))
    layer = ScenePredictions(["left", "right"], experiment={"data": {"image_size": 16}, "evaluation": {"views": 2}})
    model = SceneModel.of(keras.Model(image, layer(logits)))
    pixels = noise(32, 32)
    found, _ = probabilities(map_one(model, write(tmp_path / "a.tif", pixels), tmp_path / "out").folder)
    small = resize(pixels, (16, 16))[None].astype(np.float32)
    sides = [model.model(side, training=False)[0].numpy() for side in (small, small[:, :, ::-1])]
    mean = np.mean([np.log(side / (1 - side)) for side in sides], axis=0)
    np.testing.assert_allclose(found, np.broadcast_to(1 / (1 + np.exp(-mean)), found.shape), atol=0.006)
    assert np.abs(sides[0] - sides[1]).max() > 0.05
