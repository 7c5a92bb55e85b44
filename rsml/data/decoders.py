"""Read the values stored in an image file of any format, as they are: no choice of bands, no scaling."""

import io
import struct
from dataclasses import dataclass

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

FORMATS = "JPEG, PNG, TIFF, BMP, GIF, WebP"
# What decodes to more than this is a mosaic, not a scene. The number is Pillow's own limit.
MAX_PIXELS = 178_956_970
MAX_BYTES = 2**31
# No picture of more than a few megabytes shrinks to less than a two-thousandth: what declares more holds nothing, or
# was made to fill the memory.
EXPANSION, ALWAYS_FITS, MAX_BANDS = 2000, 2**26, 10_000

JPEG_START = b"\xff\xd8\xff"
PNG_START = b"\x89PNG\r\n\x1a\n"
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# A file without any of these strings has no orientation to honour (EXIF in JPEG, EXIF in PNG, XMP in either).
ORIENTATION_MARKS = (b"Exif", b"eXIf", b"tiff:Orientation")
FOREIGN_STARTS = {
    b"<!DO": "an HTML page (a failed download?)",
    b"<!do": "an HTML page (a failed download?)",
    b"<htm": "an HTML page (a failed download?)",
    b"vers": "a Git LFS pointer (run git lfs pull)",
    b"%PDF": "a PDF file",
    b"PK\x03\x04": "a zip archive",
    b"\x89HDF": "an HDF5 or NetCDF file",
    b"\x93NUM": "a NumPy file",
    b"\x00\x00\x00\x0c": "a JPEG 2000 file",
}


class Refused(Exception):
    """A file that cannot be used, for a reason of a few words."""


@dataclass(frozen=True)
class Raster:
    """The values of an image file, after palette and orientation.

    Args:
        values: (height, width, bands), any type of number.
        alpha: The last band is alpha, by what the file says.
        bits: Bits used of a value, where its type has more.
        nodata: The value that marks missing pixels.
    """

    values: np.ndarray
    alpha: bool = False
    bits: int | None = None
    nodata: float | None = None


def kind_of(data: bytes) -> str | None:
    """The format by the first bytes, or None for anything that is not read here."""
    if data.startswith(JPEG_START):
        return "JPEG"
    if data.startswith(PNG_START):
        return "PNG"
    if data.startswith(TIFF_STARTS):
        return "TIFF"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"BM"):
        return "BMP"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    return None


def read_raster(data: bytes, max_pixels: int = MAX_PIXELS) -> Raster:
    """Decode the first frame or page of an image file.

    Args:
        data: The content of the file.
        max_pixels: What declares more is refused before it is decoded.

    Raises:
        Refused: It is no image, or too large.
        Exception: Whatever the codecs raise at damaged content.
    """
    kind = kind_of(data)
    if kind is None:
        found = FOREIGN_STARTS.get(data[:4], f"a file that starts with {data[:8]!r}")
        raise Refused(f"not an image: expected {FORMATS}, found {found}")
    if kind == "TIFF":
        return _read_tiff(data, max_pixels)
    turned = any(mark in data for mark in ORIENTATION_MARKS)
    if kind == "JPEG" and not turned and data.endswith(b"\xff\xd9"):
        # libjpeg fills up a truncated image with grey and only warns; without an end marker, Pillow reads, and minds.
        _check_size(*_jpeg_size(data), data, max_pixels)
        values = imagecodecs.jpeg8_decode(data)
        if values.ndim == 2 or values.shape[2] == 3:
            return Raster(_with_bands(values))
    if kind == "PNG":
        # Pillow reduces 16-bit colours to 8 bits without a word, imagecodecs does not.
        width, height, depth, colours = struct.unpack_from(">IIBB", data, 16)
        _check_size(width, height, data, max_pixels, depth / 8 * {0: 1, 2: 3, 4: 2, 6: 4}.get(colours, 3))
        values = _with_bands(imagecodecs.png_decode(data))
        return Raster(turn(values, _exif_orientation(data) if turned else 1), alpha=values.shape[2] in (2, 4))
    return _read_with_pillow(data, max_pixels)


def turn(values: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation of 2 to 8; anything else is upright."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values


def _with_bands(values: np.ndarray) -> np.ndarray:
    return values[..., None] if values.ndim == 2 else values


def _check_size(width: int, height: int, data: bytes, max_pixels: int, pixel_bytes: float = 3) -> None:
    """Refuses what is declared before anything is decoded."""
    size = width * height * pixel_bytes
    if width * height > max_pixels or size > MAX_BYTES:
        raise Refused(f"{width} x {height} pixels are too many for one scene: cut the raster into tiles")
    if width < 1 or height < 1:
        raise Refused(f"declares {width} x {height} pixels: damaged")
    if size > max(ALWAYS_FITS, EXPANSION * len(data)):
        raise Refused(f"declares {width} x {height} pixels in a file of {len(data)} bytes, which cannot hold them")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height from the frame header: the libraries tell only after decoding."""
    position = 2
    while True:
        marker, length = struct.unpack_from(">HH", data, position)
        if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
            height, width = struct.unpack_from(">HH", data, position + 5)
            return width, height
        position += 2 + length


def _exif_orientation(data: bytes) -> int:
    with Image.open(io.BytesIO(data)) as image:
        return image.getexif().get(0x0112, 1)


def _read_with_pillow(data: bytes, max_pixels: int) -> Raster:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS.upper().split(", ")) as image:
            _check_size(*image.size, data, max_pixels, len(image.getbands()))
            orientation = image.getexif().get(0x0112, 1)
            plain = image.mode in ("L", "LA", "RGB", "RGBA", "I", "F") or image.mode.startswith("I;16")
            upright = image if plain else image.convert("RGB")
            values = _with_bands(np.asarray(upright))
    except Image.DecompressionBombError:
        raise Refused(f"more than {MAX_PIXELS} pixels are too many for one scene: cut the raster into tiles") from None
    return Raster(turn(values, orientation), alpha=values.shape[2] in (2, 4))


# TIFF. tifffile parses the tags in 0.10 ms, holding the interpreter lock; these lines in 0.02, which makes the reading
# of a tile of 256 x 256 pixels a third faster (0.14 against 0.22 ms, two threads).
SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
ORIENTATION, SAMPLES, PLANAR, COLORMAP, EXTRA, FORMAT, NODATA = 274, 277, 284, 320, 338, 339, 42113
TILE_WIDTH, TILE_LENGTH = 322, 323
WIDTHS, HEIGHTS = (WIDTH, TILE_WIDTH), (HEIGHT, TILE_LENGTH)
_WANTED = {*WIDTHS, *HEIGHTS, SUBFILE, BITS, COMPRESSION, PHOTOMETRIC}
_WANTED |= {ORIENTATION, SAMPLES, PLANAR, COLORMAP, EXTRA, FORMAT, NODATA}
_TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 16: "Q"}
# None, LZW, JPEG, deflate (two codes), PackBits, LZMA, LERC, ZSTD, WebP.
_READ_BY_LIBTIFF = {1, 5, 7, 8, 32946, 32773, 34925, 34887, 50000, 50001}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _PALETTE = 0, 1, 3

Tags = dict[int, tuple[int, ...]]


def _tiff_pages(data: bytes) -> list[Tags]:
    """The whole-number tags of every page, from classic TIFF or BigTIFF of either byte order."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    first, inline = (8, 8) if big else (4, 4)
    count_format, offset_format = order + ("Q" if big else "H"), order + ("Q" if big else "I")
    entry_size = 4 + 2 * inline
    (position,) = struct.unpack_from(offset_format, data, first)
    pages: list[Tags] = []
    seen = set()
    while position and position not in seen:
        seen.add(position)
        (entries,) = struct.unpack_from(count_format, data, position)
        position += struct.calcsize(count_format)
        tags: Tags = {}
        for start in range(position, position + entries * entry_size, entry_size):
            tag, number_type = struct.unpack_from(order + "HH", data, start)
            if tag not in _WANTED or number_type not in _TYPES:
                continue
            (count,) = struct.unpack_from(offset_format, data, start + 4)
            form = f"{order}{count}{_TYPES[number_type]}"
            place = start + 4 + inline
            if struct.calcsize(form) > inline:
                (place,) = struct.unpack_from(offset_format, data, place)
            tags[tag] = struct.unpack_from(form, data, place)
        pages.append(tags)
        (position,) = struct.unpack_from(offset_format, data, position + entries * entry_size)
    return pages


def _read_tiff(data: bytes, max_pixels: int) -> Raster:
    pages = _tiff_pages(data)
    tags = pages[0]
    bits = tags.get(BITS, (1,))[0]
    used = _pages_alike(pages)
    bands = tags.get(SAMPLES, (1,))[0] * len(used)
    # A tile is decoded whole, however little of it the image needs.
    width, height = (max(pages[page].get(tag, (0,))[0] for page in used for tag in pair) for pair in (WIDTHS, HEIGHTS))
    _check_size(width, height, data, max_pixels, max(bits, 1) / 8 * bands)
    if bands > MAX_BANDS:
        raise Refused(f"declares {bands} bands; expected at most {MAX_BANDS}")
    photometric = tags.get(PHOTOMETRIC, (_BLACK_IS_ZERO,))[0]
    compression = tags.get(COMPRESSION, (1,))[0]
    if bits < 8 or compression in (2, 3, 4):  # bilevel, and fax codes
        return _read_with_pillow(data, max_pixels)
    layers = [_tiff_values(data, tags, page) for page in used]
    values = layers[0] if len(layers) == 1 else np.concatenate(layers, axis=-1)
    if photometric == _PALETTE:
        colours = np.array(tags[COLORMAP]).reshape(3, -1).T
        # Some writers store 8-bit colours in the 16-bit table; libtiff guesses the same way.
        values = (colours // 256 if colours.max() > 255 else colours).astype(np.uint8)[values[..., 0]]
    elif photometric == _WHITE_IS_ZERO and values.dtype.kind == "u":
        values = np.array((1 << bits) - 1, values.dtype) - values
    plain_bands = 1 if photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) else 3
    alpha = values.shape[2] == plain_bands + 1 and tags.get(EXTRA) in ((1,), (2,))
    return Raster(
        values=turn(values, tags.get(ORIENTATION, (1,))[0]),
        alpha=alpha,
        bits=bits if bits < values.dtype.itemsize * 8 else None,
        nodata=_nodata(tags),
    )


def _pages_alike(pages: list[Tags]) -> list[int]:
    """Which pages make up the image: the first, or all of them when they are the single bands of one raster."""
    # Bit 1 of the subfile type marks a smaller version of another page, bit 3 a mask.
    full = [number for number, page in enumerate(pages) if page.get(SUBFILE, (0,))[0] & 5 == 0]
    alike = all(
        page.get(SAMPLES, (1,)) == (1,)
        and page.get(PHOTOMETRIC, (_BLACK_IS_ZERO,))[0] in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
        and all(page.get(tag) == pages[0].get(tag) for tag in (WIDTH, HEIGHT, BITS, FORMAT))
        for page in (pages[number] for number in full)
    )
    return full if alike and 0 in full else [0]


def _tiff_values(data: bytes, tags: Tags, page: int) -> np.ndarray:
    """(height, width, bands) of one page, as stored."""
    if tags.get(COMPRESSION, (1,))[0] in _READ_BY_LIBTIFF and tags[BITS][0] in (8, 16, 32, 64):
        values = imagecodecs.tiff_decode(data, index=page)
        size = (tags[HEIGHT][0], tags[WIDTH][0])
        if values.ndim == 3 and tags.get(PLANAR) == (2,) and values.shape[1:] == size:
            values = np.moveaxis(values, 0, -1)
        return _with_bands(values)
    # JPEG 2000 and JPEG XL in TIFF, 10 to 14 bits: rare, so the slower way.
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        found = file.pages[page]
        values = found.asarray()
        return np.moveaxis(values, found.axes.index("S"), -1) if "S" in found.axes else _with_bands(values)


def _nodata(tags: Tags) -> float | None:
    try:
        return float(bytes(tags[NODATA]).rstrip(b"\0 "))
    except (KeyError, ValueError):
        return None
