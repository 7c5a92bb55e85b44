"""The one door through which rasters are found and opened, and what may not come in by it.

GDAL opens far more than files of pixels: descriptions of other files (VRT), web services, archives, whole databases.
A raster that came by mail could so show any file of this machine, or call home. Hence only some drivers are let in; a
VRT is read first, and may name plain rasters in its own folder or below it; nothing goes to the network.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from rsml.data.find_images import find_images
from rsml.utils.errors import UserError
from rsml.utils.text import in_a_line

SUFFIXES = (".tif", ".tiff", ".jp2", ".img", ".png", ".jpg", ".jpeg", ".asc", ".bil", ".dat")
"""What a search of a folder finds: files that hold their pixels themselves."""

NAMED_SUFFIXES: dict[str, tuple[str, ...]] = {
    ".vrt": ("VRT",),
    **dict.fromkeys((".nc", ".nc4", ".h5", ".hdf", ".hdf5"), ("netCDF", "HDF5", "HDF5Image")),
}
"""Files that may point to others, and the drivers that read them: only where a user names them."""

FOLDERS = "RSML_RASTER_FOLDERS"
"""Environment variable: folders, separated as in PATH, whose files a VRT elsewhere may name too."""

_DRIVERS = ("GTiff", "JP2OpenJPEG", "HFA", "PNG", "JPEG", "BMP", "GIF", "WEBP", "AAIGrid", "EHdr", "ENVI", "DTED")
_ARCHIVES = ("/vsizip", "/vsitar", "/vsigzip")
_INSIDE = re.compile(r'(NETCDF|HDF5|GTIFF_DIR):(?:"([^"]+)"(?::.*)?|(?:off:)?\d+:(.+)|([^":]+)(?::.+)?)', re.IGNORECASE)
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"EHFA_HEADER_TAG")
_POINTING_TAGS = ("OVERVIEWS", "ProxyOverviewRequest")
_LARGEST_VRT = 2**26
_DEEPEST = 4
_LARGEST_BLOCK = 2**29

_BESIDE = "GDAL_DISABLE_READDIR_ON_OPEN"
GUARDS: dict[str, str] = {
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    "GDAL_VRT_ENABLE_RAWRASTERBAND": "NO",
    # No name ends so: whatever asks for a URL is refused.
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": "{nothing}",
    "GDAL_HTTP_MAX_RETRY": "0",
    # Files beside a raster are asked for by name: listing a folder of many tiles for each of them takes long.
    _BESIDE: "TRUE",
    "GDAL_MAX_DATASET_POOL_SIZE": "64",
}


FAULTS = (RasterioError, CPLE_BaseError)
"""What is raised at damaged content: rasterio lets some of GDAL's own exceptions through."""


@contextlib.contextmanager
def naming_faults(name: str) -> Iterator[None]:
    """Makes what is raised at a damaged header one line that names the file."""
    try:
        yield
    except FAULTS as error:
        raise UserError(f"{name}: its header is damaged ({words(error)}); get the file anew") from None


def environment(**options: object) -> rasterio.Env:
    """The settings under which rasters are opened and read; options are GDAL's, beside these."""
    return rasterio.Env(**GUARDS, **options)


def find_rasters(named: Iterable[str]) -> list[str]:
    """Rasters by path, folder (those below it), glob, `@list.txt` or `-`.

    Files that may point to others are left out where a folder or a glob for any suffix would bring them in.
    """
    found: list[str] = []
    for name in named:
        files = find_images([name], SUFFIXES)
        named_suffix = Path(name).suffix.lower()
        searched = not os.path.exists(name) and glob.has_magic(name) and named_suffix not in NAMED_SUFFIXES
        found += [file for file in files if not searched or Path(file).suffix.lower() not in NAMED_SUFFIXES]
    return found


def inside_another(name: str) -> bool:
    """Whether a name is not of a file but of something in one, or elsewhere."""
    return name.startswith("/vsi") or _INSIDE.fullmatch(name) is not None or re.match(r"\w+://", name) is not None


def open_raster(path: str | Path) -> rasterio.DatasetReader:
    """Opens a raster of one of the formats that are let in.

    Raises:
        UserError: It is missing, no such raster, holds several, or points to what it may not.
    """
    return _open(str(path), 0)


def _open(name: str, depth: int) -> rasterio.DatasetReader:
    file = _file_in(name)
    archived = file.startswith("/vsi")
    if not archived:
        state = os.stat(file)
        version = state.st_mtime_ns, state.st_size
        _check_file(os.path.abspath(file), depth, os.environ.get(FOLDERS, ""), *version)
    drivers = NAMED_SUFFIXES.get(Path(file).suffix.lower(), _DRIVERS)
    try:
        # What lies beside a raster in an archive is not looked into, so it is not used either.
        with warnings.catch_warnings(), rasterio.Env(**GUARDS | ({_BESIDE: "EMPTY_DIR"} if archived else {})):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            # rasterio.open takes one driver; what it calls takes several.
            dataset = rasterio.DatasetReader(name, driver=list(drivers), sharing=False)
    except (*FAULTS, ValueError, OverflowError) as error:
        raise UserError(
            f"{name}: not a raster that is read here ({words(error)}); give a GeoTIFF or the like"
        ) from None
    try:
        with naming_faults(name):
            _check_opened(dataset)
    except BaseException:
        dataset.close()
        raise
    return dataset


def _file_in(name: str) -> str:
    """The file that a name is of: itself, or the one in `NETCDF:"file":variable` or `/vsizip/file/member`."""
    match = _INSIDE.fullmatch(name)
    file = next(filter(None, match.groups()[1:])) if match else name
    suffix = Path(file).suffix.lower()
    if match and match[1].upper() != "GTIFF_DIR" and suffix not in NAMED_SUFFIXES:
        raise UserError(f"{name}: expected a file ending in {', '.join(NAMED_SUFFIXES)}, found {suffix!r}; rename it")
    virtual = file.startswith("/vsi")
    if re.match(r"\w+://", file) or (virtual and any(kind not in _ARCHIVES for kind in re.findall(r"/vsi\w*", file))):
        raise UserError(f"{name}: lies elsewhere, and nothing is fetched over a network; download it and name the file")
    if virtual and suffix in NAMED_SUFFIXES:
        raise UserError(f"{name}: may point to other files, and lies in an archive; unpack it")
    if not virtual and not os.path.isfile(file):
        found = "is a folder" if os.path.isdir(file) else "no such file"
        raise UserError(f"{name}: {found}; give a raster that exists")
    return file


@functools.lru_cache(maxsize=4096)
def _check_file(file: str, depth: int, allowed: str, *_version: int) -> None:
    """Refuses a file that points to others which it may not show."""
    for ending in (".ovr", ".OVR", ".msk", ".MSK"):
        # GDAL opens these by any driver.
        if os.path.isfile(file + ending) and not _start(file + ending).startswith(_TIFF_STARTS):
            raise UserError(f"{file}{ending}: expected overviews or a mask as a TIFF, found another format; remove it")
    suffix = Path(file).suffix.lower()
    if suffix == ".vrt":
        _check_vrt(file, depth, allowed)
    elif suffix in NAMED_SUFFIXES and _start(file).startswith(b"\x89HDF"):
        # Here, since h5py takes a while that other rasters need not wait for.
        from rsml.utils.guard.hdf5_files import open_hdf5

        with open_hdf5(file, advice="convert it to a GeoTIFF with gdal_translate"):
            pass  # all of its structure is checked


def _check_vrt(file: str, depth: int, allowed: str) -> None:
    """Reads what a VRT names: rasters, VRTs too, in its folder or below it, or in a folder that is allowed."""
    if depth > _DEEPEST:
        raise UserError(f"{file}: a VRT within {depth} others, expected at most {_DEEPEST}; make one of them")
    size = os.path.getsize(file)
    if size > _LARGEST_VRT:
        raise UserError(f"{file}: has {size} bytes, expected at most {_LARGEST_VRT} of a VRT; divide it")
    try:
        with open(file, encoding="utf-8-sig") as opened:
            text = opened.read()
        if "<!DOCTYPE" in text.upper():
            raise ElementTree.ParseError("it has a document type")
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: not a VRT that can be read ({words(error)}); make it with gdalbuildvrt") from None
    here = os.path.dirname(file)
    folders = [os.path.realpath(folder) for folder in (here, *allowed.split(os.pathsep)) if folder]
    sources = set()
    for element in root.iter():
        attributes = {name.lower(): value for name, value in element.attrib.items()}
        # GDAL takes an attribute for an element, and minds no case.
        for word, value in ((element.tag.lower(), element.text or ""), *attributes.items()):
            value = value.strip()
            if "/vsi" in value.lower() or value.startswith("<"):
                raise UserError(f"{file}: points to {value[:80]}, which is not followed; name files in its own folder")
            if value and re.search(r"filename$|dataset$|^(src|dst)ds$|^overviewfile$", word):
                relative = attributes.get("relativetovrt", "0") not in ("", "0")
                sources.add(os.path.join(here, value) if relative else os.path.abspath(value))
    for source in sorted(sources):
        real = os.path.realpath(source)
        if not any(os.path.commonpath([real, folder]) == folder for folder in folders):
            raise UserError(
                f"{file}: points to {source}, outside of its own folder; copy it there, or allow its folder with "
                f"{FOLDERS}={os.path.dirname(real)} in the environment"
            )
        try:
            _open(real, depth + 1).close()
        except UserError as fault:
            raise UserError(f"{file}: points to {fault}") from None


def _check_opened(dataset: rasterio.DatasetReader) -> None:
    if dataset.count == 0:
        inside = dataset.subdatasets
        found = f"{len(inside)} data sets, such as {inside[0]}; name one of them" if inside else "no bands"
        raise UserError(f"{dataset.name}: expected a raster with bands, found {found}")
    odd = next((dtype for dtype in dataset.dtypes if not re.fullmatch(r"(u?int|float)\d+", dtype)), None)
    if odd:
        raise UserError(f"{dataset.name}: has values of type {odd}, expected whole or real numbers")
    if any(dataset.tags(ns=domain) for domain in _POINTING_TAGS):
        raise UserError(f"{dataset.name}: says that its overviews are in another file; copy it with gdal_translate")
    together = dataset.count if dataset.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE") == "PIXEL" else 1
    for (high, wide), dtype in set(zip(dataset.block_shapes, dataset.dtypes, strict=True)):
        size = high * wide * together * np.dtype(dtype).itemsize
        if size > _LARGEST_BLOCK:
            raise UserError(
                f"{dataset.name}: is stored in blocks of {wide} x {high} pixels, {size / 2**30:.0f} GiB to decode at "
                "once; store it in tiles: gdal_translate -co TILED=YES"
            )


def _start(file: str) -> bytes:
    with open(file, "rb") as opened:
        return opened.read(16)


def words(error: BaseException) -> str:
    """What GDAL says, in a line; rasterio's own exceptions only refer to it."""
    return in_a_line(error.__cause__ or error)
