"""Decode any image file to RGB (or chosen bands) of 0 to 255, or say which file is bad and why."""

import logging
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from rsml.data.decoders import MAX_PIXELS, Raster, Refused, kind_of, read_raster
from rsml.utils.errors import UserError

log = logging.getLogger(__name__)


class ImageError(UserError):
    """An image file that cannot be used, and why.

    Args:
        path: The file, as it was given.
        reason: What is wrong with it, in a few words.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path = str(path)
        self.reason = reason
        super().__init__(f"{self.path}: {reason}")

    def __reduce__(self) -> tuple:
        return type(self), (self.path, self.reason)


class BandsNeeded(ImageError):
    """A raster of neither one colour nor three, of which no bands were chosen.

    Args:
        path: The file, as it was given.
        count: How many bands it has.
    """

    def __init__(self, path: str | Path, count: int) -> None:
        self.count = count
        wish = "choose with bands=[...], counted from 1 as GDAL does, e.g. bands=[3, 2, 1]"
        super().__init__(path, f"has {count} bands: {wish}")

    def __reduce__(self) -> tuple:
        return type(self), (self.path, self.count)


def decode(
    path: str | Path, bands: Sequence[int] | None = None, value_range: tuple[float, float] | None = None
) -> np.ndarray:
    """Read an image file of any format, recognised by its content, not by its name.

    - Grey images become RGB; palettes are looked up; CMYK is converted; only the first frame or page is read.
    - Alpha is dropped: the colours stay as stored, nothing is blended.
    - EXIF orientation is applied. Colour profiles are not.
    - Four bands are RGB and alpha only if the file says so; any other raster needs `bands`. A TIFF whose pages all have
      one band and the same size is a raster of that many bands.
    - Values deeper than 8 bits become 0 to 255 by `value_range`, or else by the first of these rules that fits, which
      is logged once: fractions (nearly all within 0..1) times 255; values within 0..255 as they are; whole numbers that
      use the upper half of their type by the range of the type; anything else (11-bit sensors, reflectance times 10000,
      elevation) from its 2nd to its 98th percentile over the chosen bands, as GIS viewers stretch. Values marked as
      missing (GDAL's nodata, NaN) become 0.

    Args:
        path: The image file.
        bands: Which bands to return, in this order, counted from 1 as GDAL does. None: red, green and blue.
        value_range: The (low, high) values that become 0 and 255. Give it to have all files of a data set scaled alike,
            whatever is on them. It applies to 8-bit values too.

    Returns:
        (height, width, 3 or number of bands) uint8.

    Raises:
        ImageError: The file is missing, empty, truncated, foreign, or needs `bands`.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise ImageError(path, _words(error)) from None
    return decode_bytes(data, bands, value_range, path)


def decode_bytes(
    data: bytes,
    bands: Sequence[int] | None = None,
    value_range: tuple[float, float] | None = None,
    path: str | Path = "<bytes>",
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Decode the content of an image file; see `decode`.

    Args:
        data: The content.
        bands: As in `decode`.
        value_range: As in `decode`.
        path: Only serves to name the file in an error.
        max_pixels: What declares more is refused before it is decoded.
    """
    check_choices(bands, value_range)
    if not data:
        raise ImageError(path, "the file is empty")
    try:
        raster = read_raster(data, max_pixels)
        values = _choose(raster, bands, path)
        values = to_uint8(values, raster, value_range, path)
    except BandsNeeded:
        raise
    except Refused as refusal:
        raise ImageError(path, str(refusal)) from None
    except MemoryError:
        raise ImageError(path, "does not fit into memory") from None
    except Exception as error:
        # Codecs raise whatever they like at damaged content: struct.error, SyntaxError, IndexError, their own types.
        raise ImageError(path, f"damaged or truncated {kind_of(data)} ({_words(error)})") from error
    if values.size and values.flat[0] == values.flat[-1] and (values == values.flat[0]).all():
        _say("constant", path, f"all pixels are {values.flat[0]} of 0 to 255; nothing can be seen in it")
    if bands is None and values.shape[2] == 1:
        values = np.repeat(values, 3, axis=2)
    return np.ascontiguousarray(values)


def picture(
    path: str | Path, bands: Sequence[int] | None = None, value_range: tuple[float, float] | None = None
) -> np.ndarray:
    """An image to be looked at, `(height, width, 3)` uint8; of many bands, none chosen, the first three are shown.

    Args:
        path: The image file.
        bands: As in `decode`; the first three of them are shown.
        value_range: As in `decode`.
    """
    try:
        return as_rgb(decode(path, bands, value_range))
    except BandsNeeded as needed:
        return as_rgb(decode(path, [1, 2, 3] if needed.count >= 3 else [1], value_range))


def as_rgb(image: np.ndarray) -> np.ndarray:
    """The first three bands `(height, width, 3)`, or the first one as grey where there are fewer."""
    return image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)


def scaled(image: np.ndarray, side: int) -> np.ndarray:
    """An image whose longer side has so many pixels."""
    factor = side / max(image.shape[:2])
    return resize(image, (max(1, round(image.shape[0] * factor)), max(1, round(image.shape[1] * factor))))


def check_choices(bands: Sequence[int] | None, value_range: tuple[float, float] | None) -> None:
    """Refuse a `bands` or `value_range` that can fit no file."""
    if bands is not None and (not len(bands) or any(int(band) != band or band < 1 for band in bands)):
        raise UserError(f"bands: expected whole numbers counted from 1, such as [4, 3, 2], got {list(bands)}")
    if value_range is not None and not value_range[0] < value_range[1]:
        raise UserError(f"value_range: expected (low, high) with low < high, such as (0, 10000), got {value_range}")


def find_bad(
    paths: Iterable[str | Path],
    bands: Sequence[int] | None = None,
    value_range: tuple[float, float] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[ImageError]:
    """Decode every file, several at a time, and list those that cannot be used, in the order given.

    Args:
        paths: Image files.
        bands: As in `decode`.
        value_range: As in `decode`.
        on_progress: Called with the number of files checked so far.
    """

    def check(path: str | Path) -> ImageError | None:
        try:
            decode(path, bands, value_range)
        except ImageError as error:
            return error
        return None

    bad = []
    # The codecs release the interpreter lock, so threads are enough.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, error in enumerate(pool.map(check, paths), start=1):
            if error is not None:
                bad.append(error)
            if on_progress is not None:
                on_progress(number)
    return bad


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (height, width, bands) uint8: bilinear, antialiased where it shrinks, as Pillow and torchvision do."""
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    if image.shape[2] == 3:
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    # Band by band: Pillow would take a fourth band for alpha and weigh the others by it.
    bands = [Image.fromarray(np.ascontiguousarray(image[..., band])) for band in range(image.shape[2])]
    return np.stack([np.asarray(band.resize((width, height), Image.Resampling.BILINEAR)) for band in bands], axis=-1)


def _words(error: Exception) -> str:
    """What an exception of another library says, in one line."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, (UnidentifiedImageError, struct.error)):
        return "its header cannot be read"
    return " ".join(str(error).split()) or type(error).__name__


def _choose(raster: Raster, bands: Sequence[int] | None, path: str | Path) -> np.ndarray:
    values = raster.values
    count = values.shape[2]
    if bands is None:
        colours = count - 1 if raster.alpha else count
        if colours not in (1, 3):
            raise BandsNeeded(path, count)
        if raster.alpha:
            _say("alpha", path, f"band {count} is marked as alpha and left out, there and in files like it", 1)
        return values[..., :colours]
    if not all(1 <= band <= count for band in bands):
        raise Refused(
            f"has {count} band{'s' * (count > 1)}, bands={list(bands)} asks for others (they are counted from 1)"
        )
    if list(bands) == list(range(1, count + 1)):
        return values
    return values[..., [band - 1 for band in bands]]


def to_uint8(
    values: np.ndarray, raster: Raster, value_range: tuple[float, float] | None, path: str | Path
) -> np.ndarray:
    """Scale chosen bands (height, width, bands) to 0 to 255 by the rules of `decode`; `path` names the file."""
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * 255
    if values.dtype == np.uint8 and value_range is None:
        return values
    if values.dtype.kind not in "iuf":
        raise Refused(f"has values of type {values.dtype}, expected whole or floating-point numbers")
    missing = ~np.isfinite(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
    if raster.nodata is not None:
        missing |= values == raster.nodata
    if missing.any() and values.dtype.kind == "f" and not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        _say("not finite", path, f"{count} of {values.size} values are NaN or infinite and are read as 0")
    if missing.all():
        return np.zeros(values.shape, np.uint8)
    low, high = value_range or own_range(values, missing, raster, path)
    # float32 holds every whole number of 16 bits; wider types need the longer mantissa before the offset goes.
    scaled: np.ndarray = values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
    scaled = (scaled - low) * (255.0 / (high - low))
    scaled[missing] = 0.0
    return np.rint(np.clip(scaled, 0.0, 255.0)).astype(np.uint8)


def own_range(values: np.ndarray, missing: np.ndarray, raster: Raster, path: str | Path) -> tuple[float, float]:
    """The values that become 0 and 255, by the rules of `decode`; some value must not be missing."""
    present = values[~missing] if missing.any() else values
    lowest, highest = float(present.min()), float(present.max())
    low, high = (float(edge) for edge in np.percentile(_some(present), (2, 98)))
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        _say("fractions", path, f"fractions (values of {values.dtype} within 0..1) multiplied by 255", 1)
        return 0.0, 1.0
    if lowest >= 0 and highest <= 255:
        return 0.0, 255.0
    top = 2.0 ** (raster.bits or 8 * values.dtype.itemsize) - 1
    if values.dtype.kind == "u" and high > top / 2:
        _say("type", path, f"values of {values.dtype} scaled by the range of the type, 0..{top:.0f}, to 0..255", 1)
        return 0.0, top
    if low == high:  # nearly constant: nothing to stretch
        low, high = lowest, max(highest, lowest + 1.0)
    _say(
        "stretch", path,
        f"values of {values.dtype} scaled from this file's own range, {low:g}..{high:g} (2nd to 98th percentile), to "
        "0..255; value_range=(low, high) scales all files alike", 1,
    )  # fmt: skip
    return low, high


def _some(values: np.ndarray) -> np.ndarray:
    """Enough evenly spaced pixels for a percentile."""
    flat = values.reshape(-1, values.shape[-1]) if values.ndim == 3 else values
    return flat[:: max(1, values.size // 65536)]


_said: dict[str, set[str]] = {}


def _say(topic: str, path: str | Path, what: str, most: int = 10) -> None:
    """Says something about a file once, and of each topic about the first few files."""
    files = _said.setdefault(topic, set())
    if len(files) < most and str(path) not in files:
        files.add(str(path))
        last = "; further files like it are not named" if 1 < len(files) == most else ""
        log.warning("%s: %s%s", path, what, last)
