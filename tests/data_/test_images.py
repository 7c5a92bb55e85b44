"""Every format, colour model, depth and kind of damage that an image file can arrive in."""

import io
import logging
import os
import pickle
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from rsml.data import images
from rsml.data.images import ImageError, decode, decode_bytes, find_bad, resize
from rsml.utils.errors import UserError

REAL = os.environ.get("RSML_TEST_DATA")


def picture(height=48, width=64, bands=3):
    """A smooth picture: lossy formats stay close to it."""
    y, x = np.mgrid[:height, :width]
    waves = [127 + 120 * np.sin(x / (7 + 3 * band) + band) * np.cos(y / (9 + 2 * band)) for band in range(bands)]
    return np.stack(waves, axis=-1).astype(np.uint8)


def saved(image, form, **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, form, **options)
    return buffer.getvalue()


def tiff(values, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


RGB = picture()
GREY = RGB[..., 0].copy()
GREY_AS_RGB = np.repeat(GREY[..., None], 3, axis=2)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG"])
def test_formats(form):
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}.get(form, {})
    result = decode_bytes(saved(RGB, form, **options))
    assert result.shape == RGB.shape and result.dtype == np.uint8
    error = np.abs(result.astype(int) - RGB)
    assert error.max() <= {"JPEG": 8, "GIF": 60}.get(form, 0)
    assert error.mean() <= {"JPEG": 1.5, "GIF": 10}.get(form, 0)


@pytest.mark.parametrize("quality", [40, 95])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_equals_pillow(quality, subsampling, progressive):
    data = saved(RGB[:45, :61], "JPEG", quality=quality, subsampling=subsampling, progressive=progressive)
    np.testing.assert_array_equal(decode_bytes(data), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_colour_models(form):
    def model(mode):
        return decode_bytes(saved(Image.fromarray(RGB).convert(mode), form))

    np.testing.assert_array_equal(decode_bytes(saved(GREY, form)), GREY_AS_RGB)
    palette = Image.fromarray(RGB).quantize(17)
    np.testing.assert_array_equal(decode_bytes(saved(palette, form)), np.asarray(palette.convert("RGB")))
    black_white = np.asarray(Image.fromarray(RGB).convert("1").convert("RGB"))
    np.testing.assert_array_equal(model("1"), black_white)
    assert set(np.unique(model("1"))) == {0, 255}


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_dropped_and_the_colours_stay(form, caplog):
    images._said.clear()
    alpha = np.linspace(0, 255, GREY.size).reshape(GREY.shape).astype(np.uint8)
    with_alpha = np.dstack([RGB, alpha])
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    with caplog.at_level(logging.WARNING):
        data = saved(with_alpha, form, **options)
        np.testing.assert_array_equal(decode_bytes(data, path="a.x"), RGB)
        decode_bytes(data)
    assert [record.message for record in caplog.records] == [
        "a.x: band 4 is marked as alpha and left out, there and in files like it"
    ]
    np.testing.assert_array_equal(decode_bytes(data, bands=[4, 1]), np.dstack([alpha, RGB[..., 0]]))
    if form != "WEBP":
        grey_alpha = saved(Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)]), form)
        np.testing.assert_array_equal(decode_bytes(grey_alpha), GREY_AS_RGB)


def test_transparent_palette_and_transparent_colour_in_png():
    palette = Image.fromarray(RGB).quantize(9)
    np.testing.assert_array_equal(
        decode_bytes(saved(palette, "PNG", transparency=3)), np.asarray(palette.convert("RGB"))
    )
    np.testing.assert_array_equal(decode_bytes(saved(RGB, "PNG", transparency=tuple(RGB[0, 0].tolist()))), RGB)


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk(form):
    cmyk = Image.fromarray(RGB).convert("CMYK")
    result = decode_bytes(saved(cmyk, form, **({"quality": 95, "subsampling": 0} if form == "JPEG" else {})))
    assert result.shape == RGB.shape
    assert np.abs(result.astype(int) - np.asarray(cmyk.convert("RGB"))).mean() < 2.5


def test_first_frame_of_an_animation():
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    for form in ("GIF", "WEBP"):
        data = saved(frames[0], form, save_all=True, append_images=frames[1:])
        assert np.abs(decode_bytes(data).astype(int) - RGB).mean() < 10


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(form, orientation):
    # Where each orientation puts the stored pixels, by the EXIF standard (row 0 is ..., column 0 is ...).
    upright = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, 1),
    }[orientation](RGB)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 97, "subsampling": 0}, "WEBP": {"lossless": True}}.get(form, {})
    if form == "TIFF":
        data = tiff(RGB, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    else:
        data = saved(RGB, form, exif=exif, **options)
    result = decode_bytes(data)
    assert result.shape == upright.shape
    assert np.abs(result.astype(int) - upright).max() <= (8 if form == "JPEG" else 0)


COMPRESSIONS = [None, "lzw", "deflate", "packbits", "zstd", "lzma", "webp", "jpeg2000"]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("layout", [{}, {"rowsperstrip": 7}, {"tile": (16, 32)}, {"planarconfig": "separate"}])
def test_tiff_compressions_and_layouts(compression, layout):
    if compression == "webp" and layout.get("planarconfig"):
        pytest.skip("WebP compresses colours together")
    values = np.moveaxis(RGB, -1, 0).copy() if layout.get("planarconfig") else RGB
    lossless = {"compressionargs": {"lossless": True}} if compression == "webp" else {}
    data = tiff(values, photometric="rgb", compression=compression, **layout, **lossless)
    np.testing.assert_array_equal(decode_bytes(data), RGB)


@pytest.mark.parametrize("compression", ["lzw", "deflate", "zstd"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_tiff_predictors(compression, dtype):
    values = RGB.astype(dtype)
    data = tiff(values, photometric="rgb", compression=compression, predictor=True)
    np.testing.assert_array_equal(decode_bytes(data), RGB)


@pytest.mark.parametrize("compression", ["jpeg", "tiff_jpeg"])
@pytest.mark.parametrize("image", [RGB, GREY], ids=["rgb", "grey"])
def test_jpeg_in_tiff(compression, image):
    data = (
        saved(image, "TIFF", compression="jpeg", quality=95)
        if compression == "jpeg"
        else tiff(
            image,
            photometric="rgb" if image.ndim == 3 else "minisblack",
            compression="jpeg",
            compressionargs={"level": 95},
        )
    )
    expected = RGB if image.ndim == 3 else GREY_AS_RGB
    assert np.abs(decode_bytes(data).astype(int) - expected).mean() < 3


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_lzw", None])
def test_bilevel_tiff(compression):
    black_white = Image.fromarray(RGB).convert("1")
    result = decode_bytes(saved(black_white, "TIFF", compression=compression))
    np.testing.assert_array_equal(result, np.asarray(black_white.convert("RGB")))


def test_big_tiff_and_big_endian():
    np.testing.assert_array_equal(decode_bytes(tiff(RGB, photometric="rgb", bigtiff=True)), RGB)
    for big in (False, True):
        data = tiff(RGB.astype(">u2"), photometric="rgb", byteorder=">", bigtiff=big, compression="lzw")
        assert data[:2] == b"MM"
        np.testing.assert_array_equal(decode_bytes(data), RGB)


def test_tiff_photometrics():
    np.testing.assert_array_equal(decode_bytes(tiff(255 - GREY, photometric="miniswhite")), GREY_AS_RGB)
    colours = np.random.default_rng(0).integers(0, 65536, (3, 256), dtype=np.uint16)
    data = tiff(GREY, photometric="palette", colormap=colours)
    np.testing.assert_array_equal(decode_bytes(data), (colours >> 8).astype(np.uint8).T[GREY])
    ycbcr = decode_bytes(saved(Image.fromarray(RGB).convert("YCbCr"), "TIFF"))
    assert np.abs(ycbcr.astype(int) - RGB).mean() < 2


def test_bands_are_counted_from_one():
    raster = picture(bands=6)
    for data in (
        tiff(raster, photometric="minisblack", planarconfig="contig", compression="deflate"),
        tiff(np.moveaxis(raster, -1, 0).copy(), photometric="minisblack", planarconfig="separate"),
        tiff(np.moveaxis(raster, -1, 0).copy(), photometric="minisblack"),  # one page a band
    ):
        np.testing.assert_array_equal(decode_bytes(data, bands=(4, 3, 2)), raster[..., [3, 2, 1]])
        np.testing.assert_array_equal(decode_bytes(data, bands=[1, 2, 3, 4, 5, 6]), raster)
        assert decode_bytes(data, bands=[5]).shape == (48, 64, 1)
        with pytest.raises(ImageError, match=r"scene.tif: has 6 bands: choose with bands=\[...\], counted from 1"):
            decode_bytes(data, path="scene.tif")
        with pytest.raises(ImageError, match=r"has 6 bands, bands=\[7\] asks for others"):
            decode_bytes(data, bands=[7])
    np.testing.assert_array_equal(decode_bytes(saved(RGB, "PNG"), bands=[3, 1]), RGB[..., [2, 0]])
    for bands in ([0, 1, 2], [], [1.5]):
        with pytest.raises(UserError, match="counted from 1"):
            decode_bytes(saved(RGB, "PNG"), bands=bands)


def test_four_bands_are_rgb_and_alpha_only_if_the_file_says_so():
    four = picture(bands=4)
    np.testing.assert_array_equal(
        decode_bytes(tiff(four, photometric="rgb", extrasamples=["unassalpha"])), four[..., :3]
    )
    for options in (
        {"photometric": "rgb", "extrasamples": ["unspecified"]},
        {"photometric": "minisblack", "planarconfig": "contig"},
    ):
        with pytest.raises(ImageError, match="has 4 bands"):
            decode_bytes(tiff(four, **options))
    two = picture(bands=2)
    data = tiff(two, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(decode_bytes(data), np.repeat(two[..., :1], 3, axis=2))
    with pytest.raises(ImageError, match="has 2 bands"):
        decode_bytes(tiff(two, photometric="minisblack", planarconfig="contig"))


def test_overviews_and_masks_are_not_bands():
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(GREY, photometric="minisblack")
        writer.write(GREY[::2, ::2].copy(), photometric="minisblack", subfiletype=1)
        writer.write(GREY > 9, photometric="minisblack", subfiletype=4)
    np.testing.assert_array_equal(decode_bytes(buffer.getvalue()), GREY_AS_RGB)


@pytest.mark.parametrize("form", ["png", "tiff"])
def test_sixteen_bits_of_the_full_range(form):
    deep = RGB.astype(np.uint16) * 257
    deep[0, 0] = 65535
    data = imagecodecs.png_encode(deep) if form == "png" else tiff(deep, photometric="rgb")
    np.testing.assert_array_equal(decode_bytes(data)[1:], RGB[1:])
    grey = (
        imagecodecs.png_encode(deep[..., 0].copy()) if form == "png" else tiff(deep[..., 0], photometric="minisblack")
    )
    np.testing.assert_array_equal(decode_bytes(grey)[1:], GREY_AS_RGB[1:])


def test_sixteen_bits_of_a_part_of_the_range_are_stretched_and_logged_once(caplog):
    images._said.clear()
    reflectance = (picture().astype(np.uint16) * 12 + 300).astype(np.uint16)  # like Sentinel-2
    low, high = np.percentile(reflectance, (2, 98))
    expected = np.rint(np.clip((reflectance - low) * 255 / (high - low), 0, 255))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            result = decode_bytes(tiff(reflectance, photometric="rgb"), path="s2.tif")
    assert np.abs(result - expected).max() <= 1
    assert len(caplog.records) == 1
    assert "s2.tif: values of uint16 scaled from this file's own range" in caplog.records[0].message


def test_a_fixed_value_range_scales_all_files_alike():
    values = np.array([[[0], [2500], [5000], [10000], [20000]]], np.uint16)
    result = decode_bytes(tiff(values[..., 0], photometric="minisblack"), bands=[1], value_range=(0, 10000))
    np.testing.assert_array_equal(result[0, :, 0], [0, 64, 128, 255, 255])
    np.testing.assert_array_equal(decode_bytes(saved(RGB, "PNG"), value_range=(0, 255)), RGB)
    with pytest.raises(UserError, match="low < high"):
        decode_bytes(saved(RGB, "PNG"), value_range=(5, 5))


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "uint32", "float32", "float64"])
def test_bytes_in_a_wider_type_stay_as_they_are(dtype):
    np.testing.assert_array_equal(decode_bytes(tiff(RGB.astype(dtype), photometric="rgb")), RGB)


def test_fractions_and_missing_values():
    fractions = (RGB / 255).astype(np.float32)
    fractions[3, 4] = np.nan
    fractions[5, 6] = 1.3  # a specular pixel does not change the scale
    result = decode_bytes(tiff(fractions, photometric="rgb"))
    expected = RGB.copy()
    expected[3, 4], expected[5, 6] = 0, 255
    np.testing.assert_array_equal(result, expected)

    elevation = 1000 + 3 * GREY.astype(np.float32)
    elevation[:10] = -9999
    result = decode_bytes(tiff(elevation, photometric="minisblack", extratags=[(42113, 2, 6, "-9999", True)]))
    low, high = np.percentile(elevation[10:], (2, 98))
    assert np.all(result[:10] == 0)
    np.testing.assert_allclose(
        result[10:, :, 0], np.clip((elevation[10:] - low) * 255 / (high - low), 0, 255), atol=0.51
    )


def test_constant_and_empty_rasters():
    assert decode_bytes(tiff(np.full((4, 4), 1000, np.uint16), photometric="minisblack")).max() == 0
    assert decode_bytes(tiff(np.full((4, 4), np.nan, np.float32), photometric="minisblack")).max() == 0


def test_the_content_decides_not_the_name(tmp_path):
    path = tmp_path / "really a png – ü.jpg"
    path.write_bytes(saved(RGB, "PNG"))
    np.testing.assert_array_equal(decode(path), RGB)
    np.testing.assert_array_equal(decode(str(path)), RGB)


def damaged():
    yield "empty", b"", "the file is empty"
    yield "html", b"<!DOCTYPE html><html>Not found", "an HTML page"
    yield "lfs", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"
    yield (
        "text",
        b"path,label\n",
        "not an image: expected JPEG, PNG, TIFF, BMP, GIF, WebP, found a file that starts with",
    )
    for form in ("JPEG", "PNG", "BMP", "GIF", "WEBP"):
        data = saved(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8), form)
        for part in (0.05, 0.5, 0.9):
            name = "WebP" if form == "WEBP" else form
            yield f"{form} {part}", data[: int(len(data) * part)], f"damaged or truncated {name}"
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    for compression in (None, "lzw", "deflate", "packbits", "jpeg", "zstd", "jpeg2000"):
        data = tiff(noise, photometric="rgb", compression=compression)
        for part in (0.01, 0.5, 0.9):
            yield f"TIFF {compression} {part}", data[: int(len(data) * part)], "damaged or truncated TIFF"
    data = saved(noise, "TIFF", compression="tiff_lzw")
    yield "TIFF written by Pillow", data[: len(data) // 2], "damaged or truncated TIFF"
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(noise, "JPEG", exif=exif)
    yield "JPEG with EXIF", data[: len(data) // 2], "damaged or truncated JPEG"
    data = bytearray(saved(noise, "PNG"))
    data[len(data) // 2] ^= 0xFF
    yield "PNG with a flipped bit", bytes(data), "damaged or truncated PNG"
    yield (
        "huge PNG",
        b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + struct.pack(">II", 60000, 60000) + b"\x08\x02\0\0\0",
        "tiles",
    )


@pytest.mark.parametrize(("data", "reason"), [pytest.param(*case[1:], id=case[0]) for case in damaged()])
def test_damaged_files_are_named_with_the_reason(data, reason, tmp_path):
    path = tmp_path / "scene.tif"
    path.write_bytes(data)
    with pytest.raises(ImageError) as caught:
        decode(path)
    assert caught.value.path == str(path) and reason in caught.value.reason
    assert str(caught.value) == f"{path}: {caught.value.reason}" and "\n" not in str(caught.value)
    assert isinstance(caught.value, UserError)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(ImageError, match=r"nowhere\.png: no such file"):
        decode(tmp_path / "nowhere.png")
    with pytest.raises(ImageError, match="is a directory"):
        decode(tmp_path)


def test_every_cut_of_a_file_is_an_image_error_or_the_same_image():
    for data in (
        saved(RGB, "JPEG"),
        saved(RGB, "PNG"),
        tiff(RGB, photometric="rgb", compression="lzw"),
        saved(RGB, "TIFF"),
    ):
        whole = decode_bytes(data)
        for cut in range(1, len(data), max(1, len(data) // 60)):
            try:
                result = decode_bytes(data[:cut])
            except ImageError:
                continue
            np.testing.assert_array_equal(result, whole)


def test_find_bad_lists_them_in_order(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(12)]
    for number, path in enumerate(paths):
        path.write_bytes(b"" if number in (3, 7) else saved(RGB, "PNG"))
    counted = []
    bad = find_bad(iter(paths), on_progress=counted.append)
    assert [(error.path, error.reason) for error in bad] == [(str(paths[n]), "the file is empty") for n in (3, 7)]
    assert counted == list(range(1, 13))
    again = pickle.loads(pickle.dumps(bad[0]))
    assert (again.path, again.reason, str(again)) == (bad[0].path, bad[0].reason, str(bad[0]))


def test_resize_is_pillows_for_any_number_of_bands():
    reference = np.asarray(Image.fromarray(RGB).resize((20, 31), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(resize(RGB, (31, 20)), reference)
    four = np.dstack([RGB, np.zeros_like(GREY)])
    np.testing.assert_array_equal(resize(four, (31, 20))[..., :3], reference)
    np.testing.assert_array_equal(resize(RGB[..., :1], (31, 20)), reference[..., :1])
    assert resize(RGB, RGB.shape[:2]) is RGB


@pytest.mark.skipif(not REAL, reason="RSML_TEST_DATA is not set")
def test_real_tiffs_equal_pillow_and_their_jpegs():
    files = sorted(Path(REAL, "data", "ucm_tif").rglob("*.tif"))
    assert len(files) == 63
    for file in files:
        values = decode(file)
        np.testing.assert_array_equal(values, np.asarray(Image.open(file)))
        jpeg = Path(REAL, "data", "ucm", "Images", file.parent.name, file.stem + ".jpg")
        assert np.abs(decode(jpeg).astype(int) - values).mean() < 4
    assert find_bad(files) == []


@pytest.mark.skipif(not REAL, reason="RSML_TEST_DATA is not set")
def test_real_landsat_is_neither_black_nor_white():
    band = decode(Path(REAL, "data", "zion", "landsat_b4.tif"))
    assert band.ndim == 3 and band.shape[2] == 3
    assert 60 < band.mean() < 190 and band.std() > 30


@pytest.mark.parametrize(("bands", "shown"), [(1, [0, 0, 0]), (2, [0, 0, 0]), (3, [0, 1, 2]), (5, [0, 1, 2])])
def test_a_picture_of_any_bands_is_the_first_three_or_grey(tmp_path, bands, shown):
    values = np.random.default_rng(0).integers(0, 256, (bands, 12, 9), dtype=np.uint8)
    if bands == 1:
        Image.fromarray(values[0]).save(tmp_path / "a.tif")
    else:
        tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", planarconfig="separate")
    np.testing.assert_array_equal(images.picture(tmp_path / "a.tif"), np.moveaxis(values, 0, -1)[..., shown])
    if bands == 5:
        chosen = images.picture(tmp_path / "a.tif", bands=[5, 4, 1, 2])
        np.testing.assert_array_equal(chosen, np.moveaxis(values, 0, -1)[..., [4, 3, 0]])
        with pytest.raises(images.BandsNeeded, match="has 5 bands: choose with bands") as fault:
            images.decode(tmp_path / "a.tif")
        assert fault.value.count == 5 and str(pickle.loads(pickle.dumps(fault.value))) == str(fault.value)
