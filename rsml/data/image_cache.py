"""Keep decoded images, in memory or in a folder, so that every epoch after the first decode is a copy."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from rsml.data.images import ImageError
from rsml.utils.errors import UserError
from rsml.utils.files import remove_left_overs, replacing
from rsml.utils.guard import map_npy
from rsml.utils.progress import progress_bar

log = logging.getLogger(__name__)

# Part of every key: raise it when the same files would decode to other pixels.
VERSION = 1


def cached_images(
    batches: tf.data.Dataset, files: Sequence[str], shape: tuple[int, int, int], where: str | Path, choices: dict
) -> np.ndarray:
    """Decode all images once and keep them.

    Args:
        batches: Decoded images, (batch, height, width, bands) uint8, in the order of `files`.
        files: The image files.
        shape: (height, width, bands).
        where: "memory", or a folder. In a folder the images are kept under a key made from the files' names, sizes and
            times and from `choices`, and used again by any later run; a file that was not finished is never used.
        choices: Everything else that decides the pixels.

    Returns:
        (files, height, width, bands) uint8, read from the disk as needed where it lies in a folder.
    """
    gigabytes = len(files) * float(np.prod(shape)) / 1e9
    if where == "memory":
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9 if hasattr(os, "sysconf") else np.inf
        if gigabytes > 0.8 * memory:
            raise UserError(
                f"cache: {len(files)} images need {gigabytes:.1f} GB, this machine has {memory:.1f} GB of memory; "
                "name a folder instead of 'memory', or do without a cache"
            )
        images = np.empty((len(files), *shape), np.uint8)
        row = 0
        for batch in _with_progress(batches, len(files)):
            images[row : row + len(batch)] = batch
            row += len(batch)
        return images
    path = Path(where).expanduser() / f"{_key(files, shape, choices)}.npy"
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_left_overs(path.parent.glob(f".{path.stem}.writing-*"))
            free = shutil.disk_usage(path.parent).free / 1e9
            if gigabytes > free:
                raise UserError(
                    f"cache: {len(files)} images need {gigabytes:.1f} GB, {path.parent} has {free:.1f} GB left; "
                    "name a folder on another disk, or do without a cache"
                )
            _write(path, batches, (len(files), *shape))
        return map_npy(path, kinds="u", ndim=4)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cache: cannot keep images in {path.parent}: {reason}; name another folder") from None


def _key(files: Sequence[str], shape: tuple[int, int, int], choices: dict) -> str:
    stamps = []
    for file in files:
        try:
            stat = os.stat(file)
        except OSError as error:
            raise ImageError(file, "no such file" if error.errno == 2 else (error.strerror or "").lower()) from None
        stamps.append((str(file), stat.st_size, stat.st_mtime_ns))
    content = json.dumps([VERSION, stamps, shape, choices], sort_keys=True)
    return hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _write(path: Path, batches: tf.data.Dataset, shape: tuple[int, ...]) -> None:
    """Write beside and rename. Plain writes: a full disk is an error here, with a memory map it would kill us."""
    log.info("decoding %d images into the cache %s", shape[0], path)
    with replacing(path) as part, open(part, "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for batch in _with_progress(batches, shape[0]):
            file.write(batch.tobytes())


def _with_progress(batches: tf.data.Dataset, count: int) -> Iterator[np.ndarray]:
    with progress_bar(title="decoding", unit="images", total=count) as progress:
        for batch in batches.as_numpy_iterator():
            yield batch
            progress.update(len(batch))
