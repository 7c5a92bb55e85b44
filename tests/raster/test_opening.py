"""The door of rasters: what points elsewhere, what declares too much, what has no place, and damaged bytes."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioError

from rsml.raster import opening
from rsml.raster.grid import grid_of
from rsml.raster.opening import FOLDERS, find_rasters, open_raster
from rsml.raster.reader import WindowReader
from rsml.raster.scene import Scene
from rsml.raster.windows import MOST_WINDOWS, check_count
from rsml.utils.errors import UserError
from tests.geo.rasters import UTM, Affine, from_origin, noise, write

ROOT = Path(__file__).parents[2]


def refused(path, open_=open_raster):
    with pytest.raises(UserError) as fault:
        open_(path)
    assert "\n" not in str(fault.value)
    return str(fault.value)


def vrt(path, source, relative=0, inner=""):
    """A VRT of one source; `source` may be the whole element."""
    element = source if str(source).startswith("<") else (
        f'<SimpleSource><SourceFilename relativeToVRT="{relative}">{source}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource>"
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<VRTDataset rasterXSize="8" rasterYSize="8"><SRS>{UTM}</SRS><GeoTransform>300000,10,0,4100000,0,-10'
        f'</GeoTransform>{inner}<VRTRasterBand dataType="Byte" band="1">{element}</VRTRasterBand></VRTDataset>'
    )
    return path


@pytest.fixture
def secret(tmp_path):
    return write(tmp_path / "elsewhere/secret.tif", np.full((8, 8), 200, np.uint8))


@pytest.fixture
def here(tmp_path):
    write(tmp_path / "work/tiles/a.tif", np.full((8, 8), 7, np.uint8))
    return tmp_path / "work"


def test_a_vrt_reads_its_own_folder_and_what_is_below(here):
    for name, source, relative in (("a.vrt", "tiles/a.tif", 1), ("b.vrt", here / "tiles/a.tif", 0)):
        with open_raster(vrt(here / name, source, relative)) as dataset:
            assert dataset.driver == "VRT" and (dataset.read() == 7).all()
    with open_raster(vrt(here / "c.vrt", "a.vrt", 1)) as dataset:
        assert (dataset.read() == 7).all()


def test_a_vrt_reads_nothing_elsewhere_unless_allowed(here, secret, monkeypatch):
    (here / "link.tif").symlink_to(secret)
    ways = {
        "absolute.vrt": (secret, 0),
        "up.vrt": ("../elsewhere/secret.tif", 1),
        "through.vrt": ("tiles/../../elsewhere/secret.tif", 1),
        "link.vrt": ("link.tif", 1),
        "attribute.vrt": (f'<SimpleSource sourcefilename="{secret}"/>', 0),
        "warped.vrt": (f"<GDALWarpOptions><SourceDataset>{secret}</SourceDataset></GDALWarpOptions>", 0),
        "case.vrt": (f"<ComplexSource><SOURCEFILENAME>{secret}</SOURCEFILENAME></ComplexSource>", 0),
    }
    for name, (source, relative) in ways.items():
        assert "outside of its own folder" in refused(vrt(here / name, source, relative)), name
    # One that may be read is no way to one that may not.
    assert "absolute.vrt: points to" in refused(vrt(here / "second.vrt", "absolute.vrt", 1))
    monkeypatch.setenv(FOLDERS, os.pathsep.join([str(here / "none"), str(secret.parent)]))
    for name in ("absolute.vrt", "up.vrt", "link.vrt", "second.vrt"):
        with open_raster(here / name) as dataset:
            assert (dataset.read() == 200).all()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("/vsicurl/http://localhost:9/a.tif", "not followed"),
        ("&#47;vsicurl/http://localhost:9/a.tif", "not followed"),
        ("/vsizip/a.zip/a.tif", "not followed"),
        ("<SimpleSource><SourceFilename>&lt;GDAL_WMS/&gt;</SourceFilename></SimpleSource>", "not followed"),
        ("http://localhost:9/a.tif", "outside of its own folder"),
        ("none.tif", "no such file"),
        ("tiles/text.tif", "not a raster that is read here"),
        ("tiles/wms.tif", "not a raster that is read here"),
    ],
)
def test_a_vrt_of_anything_but_rasters_is_refused(here, source, words):
    (here / "tiles/text.tif").write_text("text")
    (here / "tiles/wms.tif").write_text('<GDAL_WMS><Service name="TMS"><ServerUrl>http://localhost:9</ServerUrl>')
    assert words in refused(vrt(here / "a.vrt", source, int("://" not in source and "/vsi" not in source)))


def test_what_is_no_vrt_to_be_checked_is_refused(here, monkeypatch):
    path = here / "a.vrt"
    for text in ('<!DOCTYPE x [<!ENTITY y "/etc">]><VRTDataset/>', "<VRTDataset>", "text", "\xff"):
        path.write_bytes(text.encode("latin-1"))
        assert "a.vrt: not a VRT that can be read" in refused(path)
    names = [f"{number}.vrt" for number in range(8)]
    for name, inner in zip(names, [*names[1:], "tiles/a.tif"], strict=True):
        vrt(here / name, inner, 1)
    assert "a VRT within 5 others" in refused(here / "0.vrt")
    vrt(here / "self.vrt", "self.vrt", 1)
    assert "a VRT within 5 others" in refused(here / "self.vrt")
    monkeypatch.setattr(opening, "_LARGEST_VRT", 100)
    assert "expected at most 100" in refused(vrt(here / "large.vrt", "tiles/a.tif", 1))


def test_python_in_a_vrt_is_not_run(here):
    mark = here / "ran"
    code = f"import os; open({str(mark)!r}, 'w')"
    function = (
        '</VRTRasterBand><VRTRasterBand dataType="Byte" band="1" subClass="VRTDerivedRasterBand">'
        "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"
        f"<PixelFunctionCode>def f(*a, **k): {code}</PixelFunctionCode>"
    )
    path = vrt(here / "a.vrt", "tiles/a.tif", 1)
    path.write_text(path.read_text().replace('<VRTRasterBand dataType="Byte" band="1">', function[16:], 1))
    with open_raster(path) as dataset, opening.environment(), pytest.raises(RasterioError):
        dataset.read(1)
    assert not mark.exists()


def test_overviews_and_masks_in_other_files_are_refused(here, secret):
    """GDAL would read them by any driver, from anywhere, when a smaller version is asked for."""
    tagged = write(here / "tags.tif", np.full((64, 64), 7, np.uint8))
    with rasterio.open(tagged, "r+") as dataset:
        dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(secret))
    with rasterio.open(tagged) as dataset:
        assert dataset.overviews(1) and str(secret) in dataset.files
    assert "overviews are in another file" in refused(tagged)
    for ending in (".ovr", ".msk"):
        beside = write(here / f"b{ending}/a.tif", np.full((64, 64), 7, np.uint8))
        vrt(Path(f"{beside}{ending}"), secret)
        assert f"a.tif{ending}: expected overviews or a mask" in refused(beside)
        assert f"a.tif{ending}: expected" in refused(vrt(here / f"b{ending}.vrt", f"b{ending}/a.tif", 1))
    own = write(here / "own.tif", np.full((64, 64), 7, np.uint8))
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(own, "r+") as dataset:
        dataset.build_overviews([2])
    assert Path(f"{own}.ovr").exists()
    with open_raster(own) as dataset:
        assert dataset.overviews(1) == [2]


@pytest.mark.parametrize(
    "name",
    [
        "http://localhost:9/a.tif", "s3://bucket/a.tif", "/vsicurl/http://localhost:9/a.tif", "/vsistdin/",
        "/vsizip//vsicurl/http://localhost:9/a.zip/a.tif", "/vsis3/bucket/a.tif", "/VSICURL/http://localhost:9/a.tif",
        "/vsizip/a.zip/a.vrt", 'NETCDF:"/etc/hostname":x', "WMS:http://localhost:9/?", "PG:host=localhost",
        "<VRTDataset/>", "GTIFF_DIR:1:/none.tif", ".", "none\0.tif",
    ],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused_at_once(name):
    refused(name)


def test_formats_that_can_point_elsewhere_must_be_named(here, secret):
    vrt(here / "a.vrt", "tiles/a.tif", 1)
    vrt(here / "disguised.tif", "tiles/a.tif", 1)
    (here / "b.nc").write_bytes(b"")
    assert find_rasters([str(here)]) == [str(here / "disguised.tif"), str(here / "tiles/a.tif")]
    assert find_rasters([f"{here}/*"]) == [str(here / "disguised.tif"), str(here / "tiles/a.tif")]
    assert find_rasters([f"{here}/*.vrt", str(here / "a.vrt")]) == [str(here / "a.vrt")] * 2
    assert "not a raster that is read here" in refused(here / "disguised.tif")


def test_members_of_archives_and_pages_are_read_when_named(here):
    with zipfile.ZipFile(here / "a.zip", "w") as archive:
        archive.write(here / "tiles/a.tif", "a.tif")
        archive.writestr("a.tif.ovr", vrt(here / "x.vrt", "tiles/a.tif", 1).read_text())
    for name in (f"/vsizip/{here}/a.zip/a.tif", f"GTIFF_DIR:1:{here}/tiles/a.tif"):
        with open_raster(name) as dataset:
            assert (dataset.read() == 7).all() and dataset.overviews(1) == []


def test_hdf5_with_values_in_other_files_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "a.h5"
    (tmp_path / "raw").write_bytes(bytes(64))
    makers = {
        "external": lambda file: file.create_dataset("g/x", (8, 8), "u1", external=[(str(tmp_path / "raw"), 0, 64)]),
        "link": lambda file: file.__setitem__("x", h5py.ExternalLink("other.h5", "/x")),
        "virtual": lambda file: file.create_virtual_dataset("x", h5py.VirtualLayout((8, 8), "u1")),
    }
    for name, make in makers.items():
        with h5py.File(path, "w") as file:
            file["own"] = np.ones((8, 8), np.uint8)
            make(file)
        assert "convert it to a GeoTIFF" in refused(f'HDF5:"{path}"://own'), name
        path.unlink()
    with h5py.File(path, "w") as file:
        file["own"], file["other"] = np.full((8, 8), 7, np.uint8), np.ones((8, 8), np.uint8)
    assert "found 2 data sets, such as HDF5:" in refused(path)
    with open_raster(f'HDF5:"{path}"://own') as dataset:
        assert (dataset.read() == 7).all()


def test_no_more_windows_than_can_be_done():
    assert MOST_WINDOWS == 10**8
    side = 256 + 9_999 * 128
    check_count("a.tif", (side, side), (256, 256), (128, 128))
    with pytest.raises(UserError, match=r"a\.tif: 1280129 x 1280128 pixels make 100010000 windows"):
        check_count("a.tif", (side, side + 1), (256, 256), (128, 128))
    with pytest.raises(UserError, match="40 x 30 pixels, smaller than a window of 31 x 31; give --window 30 or less"):
        check_count("a.tif", (30, 40), (31, 31), (1, 1))
    check_count("a.tif", (31, 31), (31, 31), (1, 1))


def test_a_raster_that_only_declares_its_pixels_costs_nothing(tmp_path):
    with rasterio.open(
        tmp_path / "wide.tif", "w", driver="GTiff", width=2**31 - 1, height=200_000, count=1, dtype="uint8", crs=UTM,
        transform=from_origin(300_000, 4_100_000, 1, 1), sparse_ok=True, tiled=True, blockxsize=16384, blockysize=16384,
        bigtiff="yes", compress="deflate",
    ):  # fmt: skip
        pass
    with open_raster(tmp_path / "wide.tif") as dataset, pytest.raises(UserError, match="windows"):
        check_count(dataset.name, dataset.shape, (256, 256), (128, 128))
    with rasterio.open(
        tmp_path / "block.tif", "w", driver="GTiff", width=60_000, height=60_000, count=1, dtype="float64", crs=UTM,
        transform=from_origin(300_000, 4_100_000, 1, 1), sparse_ok=True, blockysize=60_000, bigtiff="yes",
        compress="deflate",
    ):  # fmt: skip
        pass
    assert "blocks of 60000 x 60000 pixels, 27 GiB" in refused(tmp_path / "block.tif")


@pytest.mark.parametrize("kind", ["CFloat32", "CFloat64", "CInt16", "CInt32"])
def test_complex_values_are_refused(here, kind):
    path = vrt(here / "a.vrt", "tiles/a.tif", 1)
    path.write_text(path.read_text().replace('"Byte"', f'"{kind}"'))
    assert "has values of type complex" in refused(path, lambda file: WindowReader([file]))
    assert "has values of type complex" in refused(path, Scene)


@pytest.mark.parametrize(
    "place",
    [
        (np.nan, 0, 0, 0, -1, 0), (1, 0, np.inf, 0, 1, 0), (0, 0, 5, 0, 0, 5),
        (1, 2, 0, 2, 4, 0), (1e200, 0, 0, 0, 9e199, 0),
    ],
)  # fmt: skip
def test_places_without_a_way_back_are_refused(tmp_path, place):
    source = write(tmp_path / "a.tif", noise(8, 8))
    path = vrt(tmp_path / "a.vrt", "a.tif", 1)
    a, b, c, d, e, f = place
    numbers = ",".join(str(number) for number in (c, a, b, f, d, e))
    path.write_text(path.read_text().replace("300000,10,0,4100000,0,-10", numbers))
    for open_ in (Scene, lambda file: WindowReader([file]), lambda file: grid_of(open_raster(file))):
        assert "gives pixels no place of their own" in refused(path, open_)
    assert source.exists()


def test_turned_grids_have_their_place(tmp_path):
    turned = Affine.translation(300_000, 4_100_000) @ Affine.rotation(30) @ Affine.scale(10, -10)
    path = write(tmp_path / "a.tif", noise(8, 12), transform=turned)
    with WindowReader([path]) as reader:
        grid = reader.grid.part(2, 3, 4, 4)
    assert grid.transform.almost_equals(turned @ Affine.translation(3, 2), 1e-6)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "float32", "float64"])
def test_one_value_everywhere_is_one_line(tmp_path, dtype):
    path = write(tmp_path / "a.tif", np.full((3, 32, 32), 5000, dtype))
    assert "every pixel is 5000" in refused(path, Scene)
    assert "every pixel is 5000" in refused([str(path)], lambda files: crop_all(files, tmp_path / "out"))


def crop_all(files, out):
    from rsml.geo.crop import CropOptions, crop

    return crop(files, out, CropOptions(tile=16, step=16, filters=None))


def test_constant_bands_and_bytes_are_one_line(tmp_path, caplog):
    values = noise(32, 32)
    values[1] = 700
    crop_all([str(write(tmp_path / "a.tif", values))], tmp_path / "out")
    assert "band 2 has one value only" in caplog.text
    Scene(write(tmp_path / "b.tif", np.full((3, 32, 32), 9, np.uint8))).warn_if_constant()
    assert "every pixel is [9, 9, 9] of 255" in caplog.text
    caplog.clear()
    Scene(write(tmp_path / "c.tif", noise(32, 32).astype(np.uint8))).warn_if_constant()
    assert not caplog.text


def test_values_that_are_no_numbers_are_missing_not_black(tmp_path, caplog):
    values = noise(32, 32).astype(np.float32)
    values[0, 3, 4], values[1, 5, 6], values[2, 7, 8] = np.nan, np.inf, -np.inf
    path = write(tmp_path / "a.tif", values)
    scene = Scene(path)
    image, missing = scene.read((0, 32), (0, 32))
    assert sorted(zip(*np.nonzero(missing), strict=True)) == [(3, 4), (5, 6), (7, 8)]
    low, high = scene.value_range
    assert np.isfinite([low, high]).all() and 1000 <= low < high < 4000 and image[~missing].max() == 255
    write(path, np.full((3, 32, 32), np.nan, np.float32))
    assert Scene(path).value_range is None and "holds no pixel that is not missing" in caplog.text
    write(path, np.stack([np.full((32, 32), value) for value in (-1.7e308, 0, 1.7e308)]))
    assert "too far apart" in refused(path, Scene)


def test_missing_in_any_or_in_all_bands(tmp_path):
    values = np.full((3, 4, 4), 9, np.uint16)
    values[:, 0, 0], values[1, 1, 1] = 0, 0
    path = write(tmp_path / "a.tif", values)
    for missing_in, count in (("any", 2), ("all", 1)):
        with WindowReader([path], nodata=0, missing_in=missing_in) as reader:
            assert (~reader.read((0, 4), (0, 4))[1]).sum() == count
    write(path, values, nodata=9)
    with WindowReader([path], nodata=0) as reader:  # what the file says comes first
        assert reader.nodata == [9, 9, 9]


def test_mutated_files_are_read_or_refused(tmp_path):
    """Bytes of small GeoTIFFs changed at random: a good read, a damaged part, or one line."""
    random = np.random.default_rng(20)
    layouts = [{"tiled": True, "blockxsize": 16, "blockysize": 16}, {"blockysize": 4}, {"compress": "lzw"}]
    originals = [write(tmp_path / "a.tif", noise(24, 20), nodata=0, **layout).read_bytes() for layout in layouts]
    outcomes = {"read": 0, "damaged": 0, "refused": 0}
    path = tmp_path / "b.tif"
    for number in range(300):
        data = bytearray(originals[number % len(originals)])
        for _ in range(random.integers(1, 6)):
            # Most of the structure is in the first bytes and in the directory, which GDAL writes first.
            place = random.integers(0, min(len(data), 400) if random.random() < 0.8 else len(data))
            data[place] = random.choice([0, 1, 255, random.integers(0, 256)])
        if random.random() < 0.2:
            data = data[: random.integers(0, len(data))]
        path.write_bytes(data)
        try:
            scene = Scene(path)
            height, width = (min(side, 64) for side in scene.size)
            image, missing = scene.read((0, height), (0, width))
            assert image.shape == (height, width, 3) and missing.shape == (height, width)
            outcomes["read"] += 1
        except RasterioError:
            outcomes["damaged"] += 1
        except UserError as fault:
            assert "\n" not in str(fault)
            outcomes["refused"] += 1
    assert min(outcomes.values()) >= 10, outcomes


def test_without_rasterio_one_line_says_what_to_install():
    code = (
        "import sys, importlib.util\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name == 'rasterio' else found(name, *a)\n"
        "sys.modules['rasterio'] = None\n"
        "from rsml.utils.errors import UserError\n"
        "for name in ('rsml.geo.crop', 'rsml.mapping.mapping', 'rsml.raster.scene'):\n"
        "    try: __import__(name)\n"
        "    except UserError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and all("pip install 'rsml[raster]'" in line for line in lines)
