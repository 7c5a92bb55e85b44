"""Counts against plain loops over pixel centres, and properties: each pixel in one of two abutting tiles."""

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.warp import transform as convert
from rasterio.warp import transform_bounds

from rsml.geo.land_cover import LandCoverMap, candidates, count
from rsml.raster.grid import Grid
from tests.geo.rasters import UTM, Affine, from_origin, write

TILE = Grid(CRS.from_epsg(32612), from_origin(310_000, 4_130_000, 30, 30), 64, 64)


def by_hand(tile, path, missing=()):
    """Every centre of the map, converted one system to the other, asked whether it lies in the tile."""
    with rasterio.open(path) as dataset:
        codes = dataset.read(1)
        rows, columns = np.indices(codes.shape)
        t = dataset.transform
        x, y = t.a * (columns + 0.5) + t.b * (rows + 0.5) + t.c, t.d * (columns + 0.5) + t.e * (rows + 0.5) + t.f
        found = convert(dataset.crs, tile.crs, x.ravel(), y.ravel())
    inverse = ~tile.transform
    x, y = np.array(found[0]), np.array(found[1])
    column, row = inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f
    inside = (column >= -1e-6) & (column < tile.width - 1e-6) & (row >= -1e-6) & (row < tile.height - 1e-6)
    values, numbers = np.unique(codes.ravel()[inside], return_counts=True)
    return {int(v): int(n) for v, n in zip(values, numbers, strict=True) if v not in missing}


def random_codes(height, width, seed=0, highest=6):
    return np.random.default_rng(seed).integers(0, highest, (height, width)).astype(np.uint8)


def map_around(path, crs, size, tile=TILE, margin=0.3, rotate=0.0, dtype=np.uint8):
    """A map of `size` pixels a side in a system, wider than the tile."""
    left, bottom, right, top = transform_bounds(tile.crs, crs, *tile.bounds())
    width, height = right - left, top - bottom
    corner = Affine.translation(left - margin * width, top + margin * height)
    scale = Affine.scale((1 + 2 * margin) * width / size, -(1 + 2 * margin) * height / size)
    turned = Affine.rotation(rotate)
    place = corner.__matmul__(turned).__matmul__(scale) if hasattr(corner, "__matmul__") else corner * turned * scale
    return write(path, random_codes(size, size).astype(dtype), place, crs)


@pytest.mark.parametrize(
    ("crs", "size"),
    [
        (UTM, 150),
        ("EPSG:26912", 37),
        ("EPSG:4326", 400),  # as WorldCover; so many that positions are interpolated
        ("EPSG:32611", 500),  # the zone beside it: turned by some degrees
        ("EPSG:3035", 90),  # Europe's, far outside its own area
        ("EPSG:5070", 333),  # Albers, as NLCD
        ("EPSG:3857", 301),
        ("ESRI:54009", 200),  # Mollweide: neither conformal nor of straight meridians
    ],
)
def test_counts_equal_a_loop_over_all_centres(tmp_path, crs, size):
    path = map_around(tmp_path / "map.tif", crs, size)
    found = count(TILE, [LandCoverMap(str(path))], [{0}])
    expected = by_hand(TILE, path, missing={0})
    assert sum(expected.values()) > 300
    assert found.pixels == expected
    assert sum(found.shares.values()) == pytest.approx(1 - by_hand(TILE, path)[0] / sum(by_hand(TILE, path).values()))


@pytest.mark.parametrize(
    "transform", [Affine(28, 9, 310_000, 9, -28, 4_130_000), Affine(30, 0, 310_000, 0, 30, 4_128_000)]
)
def test_turned_tiles_and_maps_count_as_upright_ones(tmp_path, transform):
    tile = Grid(TILE.crs, transform, 64, 64)
    for crs, rotate in ((UTM, 0), (UTM, 7), ("EPSG:4326", 0)):
        path = map_around(tmp_path / f"{rotate}.tif", crs, 150, tile, rotate=rotate)
        assert count(tile, [LandCoverMap(str(path))], [set()]).pixels == by_hand(tile, path)


@pytest.mark.parametrize(("crs", "cell"), [(UTM, 30), (UTM, 15), (UTM, 60), (UTM, 31.53), ("EPSG:4326", 3e-4)])
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_each_map_pixel_is_in_exactly_one_of_abutting_tiles(tmp_path, crs, cell, shift):
    """With a shift of half a pixel every centre at the border lies exactly on it."""
    if crs == UTM:
        place = from_origin(300_000 + shift * cell, 4_140_000 + shift * cell, cell, cell)
    else:
        west, _, _, north = transform_bounds(UTM, crs, *TILE.bounds())
        place = from_origin(west - 0.05, north + 0.05, cell, cell)
    path = write(tmp_path / "map.tif", random_codes(700, 700), place, crs)
    whole = Grid(TILE.crs, from_origin(310_020, 4_130_010, 30, 30), 96, 96)
    parts = [whole.part(row, column, 32, 32) for row in (0, 32, 64) for column in (0, 32, 64)]
    land_cover = LandCoverMap(str(path))
    together = count(whole, [land_cover], [set()]).pixels
    separate = sum((count(part, [land_cover], [set()]).pixels for part in parts), type(together)())
    assert separate == together and together.total() > 100


@pytest.mark.parametrize("cell", [0.1, 1 / 3])
def test_abutting_tiles_share_no_pixel_though_their_corners_are_rounded(tmp_path, cell):
    """Tiles and map of one grid but for half a pixel, whose coordinates are no round binary numbers."""
    place = from_origin(300_000.07 + cell / 2, 4_140_000.03 - cell / 2, cell, cell)
    land_cover = LandCoverMap(str(write(tmp_path / "map.tif", random_codes(120, 120), place)))
    whole = Grid(TILE.crs, from_origin(300_000.07, 4_140_000.03, cell, cell), 98, 98)
    parts = [whole.part(row, column, 7, 7) for row in range(0, 98, 7) for column in range(0, 98, 7)]
    counted = [count(part, [land_cover], [set()]).pixels for part in parts]
    # Centres of the map lie on the edges; those on the left and the upper edge are in.
    assert {found.total() for row, found in enumerate(counted) if row >= 14 and row % 14} == {49}
    assert sum(counted, type(counted[0])()) == count(whole, [land_cover], [set()]).pixels


def test_interpolated_positions_are_exact_where_it_matters(tmp_path):
    """A tile as wide as a country: between nodes, positions are off by more than a pixel of the map is wide."""
    tile = Grid(CRS.from_epsg(3035), from_origin(3_000_000, 4_500_000, 20_000, 20_000), 100, 100)
    path = map_around(tmp_path / "map.tif", "EPSG:4326", 300, tile)
    assert count(tile, [LandCoverMap(str(path))], [set()]).pixels == by_hand(tile, path)


def test_a_map_of_strips_counts_as_one_piece(tmp_path, monkeypatch):
    path = map_around(tmp_path / "map.tif", "EPSG:5070", 333)
    land_cover = LandCoverMap(str(path))
    whole = count(TILE, [land_cover], [set()]).pixels
    monkeypatch.setattr("rsml.geo.land_cover._STRIP", 3000)
    assert count(TILE, [land_cover], [set()]).pixels == whole


def test_codes_of_16_bits(tmp_path):
    path = map_around(tmp_path / "map.tif", UTM, 100, dtype=np.int16)
    with rasterio.open(path, "r+") as dataset:
        dataset.write(dataset.read(1) * 100 - 100, 1)
    found = count(TILE, [LandCoverMap(str(path))], [set()]).pixels
    assert found == by_hand(TILE, path) and set(found) == {-100, 0, 100, 200, 300, 400}


def test_half_a_map_covers_half_a_tile(tmp_path):
    path = write(tmp_path / "map.tif", np.full((64, 32), 7, np.uint8), from_origin(310_000, 4_130_000, 30, 30))
    found = count(TILE, [LandCoverMap(str(path))], [set()])
    assert found.shares == {7: 0.5} and found.pixels == {7: 64 * 32}


def test_sheets_of_other_systems_add_up_and_no_place_counts_twice(tmp_path):
    """West half in one zone, all of it in the next: where both are, the first counts, but not its missing pixels."""
    west = np.full((80, 40), 1, np.uint8)
    west[:40] = 0
    first = write(tmp_path / "a.tif", west, from_origin(310_000, 4_130_000, 24, 24))
    second = map_around(tmp_path / "b.tif", "EPSG:32611", 300)
    with rasterio.open(second, "r+") as dataset:
        dataset.write(np.full((300, 300), 2, np.uint8), 1)
    maps = [LandCoverMap(str(first)), LandCoverMap(str(second))]
    found = count(TILE, maps, [{0}, {0}])
    assert found.pixels[1] == 40 * 40
    assert found.shares[1] == pytest.approx(0.25, abs=1e-9)
    assert found.shares[2] == pytest.approx(0.75, abs=0.003)
    back = count(TILE, maps[::-1], [{0}, {0}])
    assert back.shares == {2: pytest.approx(1.0)} and back.pixels[1] == 0


def test_a_tile_across_the_180th_meridian(tmp_path):
    """Fiji: the map ends at 180 degrees and goes on at its other side."""
    codes = np.zeros((50, 18_000), np.uint8)
    codes[:, :150] = 4
    codes[:, -150:] = 3
    path = write(tmp_path / "world.tif", codes, from_origin(-180, -17, 0.02, 0.02), "EPSG:4326", tiled=True)
    x, y = convert("EPSG:4326", "EPSG:32760", [180.0], [-17.5])
    tile = Grid(CRS.from_epsg(32760), from_origin(x[0] - 32 * 300, y[0] + 32 * 300, 300, 300), 64, 64)
    land_cover = LandCoverMap(str(path))
    assert candidates(tile, np.array([land_cover.bounds])).tolist() == [0]
    found = count(tile, [land_cover], [{0}])
    assert found.pixels == by_hand(tile, path) and min(found.pixels[3], found.pixels[4]) > 30
    assert sum(found.shares.values()) == pytest.approx(1, abs=1e-9)
    geographic = Grid(CRS.from_epsg(4326), from_origin(179.9, -17.4, 0.01, 0.01), 20, 20)
    assert count(geographic, [land_cover], [{0}]).pixels == {3: 50, 4: 50}


def test_only_maps_nearby_are_candidates():
    boxes = np.array([[-114.0, 37, -112, 38], [-180, -90, 180, 90], [10, 37, 12, 38], [-114, 47, -112, 48]])
    assert candidates(TILE, boxes).tolist() == [0, 1]


def test_a_map_around_the_pole_reaches_all_longitudes(tmp_path):
    path = write(tmp_path / "south.tif", random_codes(50, 50), from_origin(-1e6, 1e6, 4e4, 4e4), "EPSG:3031")
    west, south, east, north = LandCoverMap(str(path)).bounds
    assert south <= -90 and (west, east) <= (-180, 184) and east - west >= 360 and -82 < north < -75
