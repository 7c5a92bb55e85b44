"""Turn a table of samples into batches: decode, resize, cache, shuffle and augment, all a function of the seed."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow as tf

import rsml.data.augment as augmentation
from rsml.data.augment_options import Augment, check_shape
from rsml.data.image_cache import cached_images
from rsml.data.images import ImageError, check_choices, decode, decode_bytes, find_bad, resize
from rsml.data.mixing import mix
from rsml.data.samples import Samples
from rsml.utils.errors import UserError
from rsml.utils.progress import progress_bar

Size = int | tuple[int, int]
ReadFile = Callable[[tf.Tensor], tf.Tensor]


@dataclass(frozen=True)
class Share:
    """The part of every batch that one of several hosts reads.

    Attributes:
        pieces: A batch is cut into so many, one a device of all hosts, as even as can be.
        first: The first one of this host.
        own: How many it has.
    """

    pieces: int
    first: int
    own: int

    def rows(self, count: int, batch_size: int) -> np.ndarray:
        """The places of this host's images in an epoch's order, piece after piece, filled with -1 to equal lengths."""
        width = -(-batch_size // self.pieces)
        starts = range(0, count, batch_size)
        pieces = (
            piece
            for start in starts
            for piece in np.array_split(np.arange(start, min(start + batch_size, count)), self.pieces)[
                self.first : self.first + self.own
            ]
        )
        return np.concatenate([np.pad(piece, (0, width - len(piece)), constant_values=-1) for piece in pieces])


def steps(samples: Samples, batch_size: int) -> int:
    """Batches an epoch, the last partial one included."""
    return -(-len(samples) // batch_size)


def training_dataset(
    samples: Samples,
    *,
    image_size: Size,
    batch_size: int,
    epochs: int,
    start_epoch: int = 0,
    start_step: int = 0,
    seed: int = 0,
    augment: Augment | None = None,
    cache: str | Path | None = None,
    bands: Sequence[int] | None = None,
    value_range: tuple[float, float] | None = None,
    antialias: bool = True,
    share: Share | None = None,
) -> tf.data.Dataset:
    """Batches of all epochs from `start_epoch` to `epochs`, one after another, each epoch in its own order.

    The order is a pure function of (seed, epoch), the augmentation of (seed, epoch, index). So the batches from an
    epoch on are the same bytes whether or not the epochs before it ran, on any number of threads. A batch never mixes
    epochs, the last one of an epoch may be smaller, and the next epoch is prepared while this one ends. Fit it with
    `steps_per_epoch=steps(samples, batch_size)`, inside `naming_bad_images`.

    Args:
        samples: Images and labels.
        image_size: Side, or (height, width), that every image is stretched to.
        batch_size: Images a batch, at most all there are.
        epochs: The epoch to stop before.
        start_epoch: The epoch to start with: 0, or where an interrupted run stopped.
        start_step: Batches of that epoch to leave out, which an interrupted run has had.
        seed: Decides the orders and the augmentation.
        augment: What is done to the images at random. None: nothing.
        cache: "memory", or a folder, to decode every image once; a folder serves later runs too. None: decode anew.
        bands: Bands of a multi-band raster, counted from 1; see `rsml.data.images.decode`.
        value_range: Values that become 0 and 255; see `rsml.data.images.decode`.
        antialias: When shrinking, average over all pixels, as Pillow and torchvision do, or (False) only over the
            nearest four, as plain TensorFlow does: faster, but fine texture turns into noise.
        share: Only this part of every batch, a piece for each device one after another; nothing else is read.

    Returns:
        Dataset of (images, {"labels": labels, "index": index}): (batch, height, width, bands) float32 of 0 to 255,
        (batch, labels) float32, (batch,) int64 rows of `samples`.
    """
    batch_size = min(batch_size, max(len(samples), 1))
    shape = _shape(image_size, batch_size, bands, value_range)
    if augment is not None:
        # Here, because within the dataset TensorFlow would bury the line in its report.
        check_shape(augment, shape)
    if not 0 <= start_epoch <= epochs:
        raise UserError(f"start_epoch: expected 0 to {epochs} (the epochs), got {start_epoch}")
    count, batches = len(samples), steps(samples, batch_size)
    if not 0 <= start_step < max(batches, 1):
        raise UserError(f"start_step: expected 0 to {batches - 1} (the steps of an epoch), got {start_step}")
    read = _reader_of_rows(samples, shape, cache, bands, value_range, antialias)
    labels = tf.constant(samples.labels, tf.float32)
    share = share or Share(1, 0, 1)
    places = share.rows(count, batch_size)
    length = len(places) // (batches * share.own)

    def rows_of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        epoch_seed = tf.stack([tf.constant(seed, tf.int64), epoch])
        order = tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), seed=epoch_seed)
        # Rows of -1 fill up the last batch, so that no batch reaches into the next epoch; `finish` cuts them off.
        filled = tf.where(places >= 0, tf.gather(order, np.maximum(places, 0)), -1)
        # One 64-bit key an epoch, paired with the row: a seed of its own for every image.
        key = tf.random.stateless_uniform([], epoch_seed, None, None, tf.int64, alg="philox")
        return tf.data.Dataset.from_tensor_slices(filled).map(lambda row: (key, row))

    def load(key: tf.Tensor, row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        def real() -> tf.Tensor:
            return read(row) if augment is None else augmentation.augment(read(row), augment, tf.stack([key, row]))

        def filling() -> tf.Tensor:
            return tf.zeros(shape, tf.uint8 if augment is None else tf.float32)

        return tf.ensure_shape(tf.cond(row >= 0, real, filling), shape), row, key

    def finish(images: tf.Tensor, rows: tf.Tensor, keys: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        real = tf.math.count_nonzero(rows >= 0)
        rows = rows[:real]
        images, of_batch = tf.cast(images[:real], tf.float32), tf.gather(labels, rows)
        if augment is not None and augment.mixes:
            # Rows are distinct within an epoch, so the first one makes the seed the batch's own.
            seed_of_batch = tf.stack([keys[0], rows[0]])
            images, of_batch = mix(
                images, of_batch, seed_of_batch, mixup=augment.mixup, cutmix=augment.cutmix, share=augment.mixed
            )
        return images, {"labels": of_batch, "index": rows}

    dataset = tf.data.Dataset.range(start_epoch, epochs).flat_map(rows_of_epoch)
    dataset = dataset.skip(start_step * share.own * length)
    dataset = dataset.map(load, tf.data.AUTOTUNE).batch(length, drop_remainder=True).map(finish)
    pieces = share.own * (batches * (epochs - start_epoch) - start_step)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(pieces))
    return dataset.prefetch(tf.data.AUTOTUNE)


def evaluation_dataset(
    samples: Samples | Iterable[str | Path],
    *,
    image_size: Size,
    batch_size: int,
    cache: str | Path | None = None,
    bands: Sequence[int] | None = None,
    value_range: tuple[float, float] | None = None,
    antialias: bool = True,
    on_bad: Literal["raise", "skip"] = "raise",
    bad: list[ImageError] | None = None,
) -> tf.data.Dataset:
    """Batches of every image once, in order, of the structure that `training_dataset` yields.

    Memory stays flat however many images there are: nothing but the batches in flight and the list of bad images is
    kept.

    Args:
        samples: Images and labels, or paths alone: a list, or anything iterable, which is read as the batches are taken
            (an iterator serves one pass). Paths alone yield {"index": index} without "labels".
        image_size: Side, or (height, width), that every image is stretched to.
        batch_size: Images a batch.
        cache: As in `training_dataset`.
        bands: As in `training_dataset`.
        value_range: As in `training_dataset`.
        antialias: As in `training_dataset`.
        on_bad: "raise" lets a bad image stop the iteration (inside `naming_bad_images` with its name and the reason);
            "skip" leaves it out, which "index" shows.
        bad: With "skip": a list that receives an ImageError for each image left out, in order, as the batches are made.

    Returns:
        Dataset of (images, {"labels": labels, "index": index}), "index" counting from 0 in the order given.
    """
    shape = _shape(image_size, batch_size, bands, value_range)
    if on_bad == "skip" and cache is not None:
        raise UserError("on_bad: 'skip' goes without a cache, because a cache holds every image; leave one of them out")
    labels = None
    if isinstance(samples, Samples):
        labels = tf.constant(samples.labels, tf.float32)
        rows = tf.data.Dataset.from_tensor_slices(_file_names(samples.files)).enumerate()
    elif isinstance(samples, (Sequence, np.ndarray)):
        rows = tf.data.Dataset.from_tensor_slices(_file_names(samples)).enumerate()
    else:
        names = tf.data.Dataset.from_generator(
            lambda: (os.fsencode(path) for path in samples), output_signature=tf.TensorSpec([], tf.string)
        )
        rows = names.enumerate()
    if on_bad == "skip":
        dataset = _readable(rows, shape, bands, value_range, antialias, [] if bad is None else bad)
    elif cache is not None:
        read_row = _reader_of_rows(samples, shape, cache, bands, value_range, antialias)
        dataset = rows.map(lambda row, _: (read_row(row), row), tf.data.AUTOTUNE)
    else:
        read = image_reader(shape, bands, value_range, antialias)
        dataset = rows.map(lambda row, file: (read(file), row), tf.data.AUTOTUNE)

    def finish(images: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        # No (batch, 0) labels for paths alone: TensorFlow 2.21 crashes when it unbatches tensors of no width.
        of_batch = {} if labels is None else {"labels": tf.gather(labels, rows)}
        return tf.cast(images, tf.float32), {**of_batch, "index": rows}

    return dataset.batch(batch_size).map(finish).prefetch(tf.data.AUTOTUNE)


@contextlib.contextmanager
def naming_bad_images(
    samples: Samples | Iterable[str | Path] | np.ndarray,
    bands: Sequence[int] | None = None,
    value_range: tuple[float, float] | None = None,
) -> Iterator[None]:
    """Within it, TensorFlow's failure over a bad image becomes an ImageError that names this and all other bad ones.

    TensorFlow's own error tells what a decoder said, not of which file; so after a failure the files are read again.

    Args:
        samples: The images that are read within.
        bands: As given to the dataset.
        value_range: As given to the dataset.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError:
        raise
    except tf.errors.OpError:
        files = samples.files if isinstance(samples, Samples) else list(samples)
        with progress_bar(title="looking for the bad image", unit="images", total=len(files)) as progress:
            bad = find_bad(files, bands, value_range, lambda _: progress.update())
        if not bad:
            raise
        raise _first_of(bad) from None


def _first_of(bad: Sequence[ImageError]) -> ImageError:
    if len(bad) == 1:
        return bad[0]
    others = ", ".join(error.path for error in bad[1:4]) + (", ..." if len(bad) > 4 else "")
    return ImageError(bad[0].path, f"{bad[0].reason} (and {len(bad) - 1} more bad images: {others})")


def _shape(
    image_size: Size, batch_size: int, bands: Sequence[int] | None, value_range: tuple[float, float] | None
) -> tuple[int, int, int]:
    """(height, width, bands) of every image, once the choices have been checked."""
    size = (image_size, image_size) if isinstance(image_size, (int, np.integer)) else tuple(image_size)
    if len(size) != 2 or min(size) < 1:
        raise UserError(f"image_size: expected a side or (height, width) in pixels, got {image_size}")
    if batch_size < 1:
        raise UserError(f"batch_size: expected 1 or more, got {batch_size}")
    check_choices(bands, value_range)
    return int(size[0]), int(size[1]), 3 if bands is None else len(bands)


def _file_names(files: Iterable[str | Path]) -> np.ndarray:
    # Bytes, because a file name need not be valid UTF-8.
    names = np.array([os.fsencode(file) for file in files], dtype=object)
    if not len(names):
        raise UserError("no images: the part of the data to read is empty; check its split and paths")
    return names


def _reader_of_rows(
    samples: Samples | Iterable[str | Path] | np.ndarray,
    shape: tuple[int, int, int],
    cache: str | Path | None,
    bands: Sequence[int] | None,
    value_range: tuple[float, float] | None,
    antialias: bool,
) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function from a row of the samples to its image, which decodes the file or looks into the cache."""
    files = samples.files if isinstance(samples, Samples) else samples
    names = _file_names(files)
    read = image_reader(shape, bands, value_range, antialias)
    if cache is None:
        names = tf.constant(names)
        return lambda row: read(tf.gather(names, row))
    batches = tf.data.Dataset.from_tensor_slices(names).map(read, tf.data.AUTOTUNE).batch(32).prefetch(2)
    choices = {
        "bands": None if bands is None else [int(band) for band in bands],
        "value_range": None if value_range is None else [float(value) for value in value_range],
        "antialias": bool(antialias),
    }
    with naming_bad_images(files, bands, value_range):
        images = cached_images(batches, [os.fspath(file) for file in files], shape, cache, choices)

    def read_cached(row: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.numpy_function(lambda row: images[row], [row], tf.uint8), shape)

    return read_cached


def image_reader(
    shape: tuple[int, int, int],
    bands: Sequence[int] | None = None,
    value_range: tuple[float, float] | None = None,
    antialias: bool = True,
) -> ReadFile:
    """Make a function for `Dataset.map`, from a file name to its image; a bad image makes it fail.

    The pixels are those of `images.decode` and `images.resize`, whose libraries let other threads run.

    Args:
        shape: (height, width, bands) of the image it gives, uint8.
        bands: As in `training_dataset`.
        value_range: As in `training_dataset`.
        antialias: As in `training_dataset`.
    """
    size = shape[:2]

    def in_python(contents: bytes, file: bytes) -> np.ndarray:
        image = decode_bytes(contents, bands, value_range, os.fsdecode(file))
        return resize(image, size) if antialias else image

    def read(file: tf.Tensor) -> tf.Tensor:
        image = tf.numpy_function(in_python, [tf.io.read_file(file), file], tf.uint8)
        return tf.ensure_shape(image, shape) if antialias else plain_resize(image, shape)

    return read


def plain_resize(image: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
    """Resize (any, any, bands) uint8 without antialiasing, where it is not of that size already."""
    height, width, channels = shape
    image = tf.ensure_shape(image, [None, None, channels])
    fits = tf.reduce_all(tf.shape(image)[:2] == [height, width])
    image = tf.cond(fits, lambda: image, lambda: tf.cast(tf.round(tf.image.resize(image, [height, width])), tf.uint8))
    return tf.ensure_shape(image, shape)


def _readable(
    rows: tf.data.Dataset,
    shape: tuple[int, int, int],
    bands: Sequence[int] | None,
    value_range: tuple[float, float] | None,
    antialias: bool,
    bad: list[ImageError],
) -> tf.data.Dataset:
    """(image, row) of the images that can be read; the others go to the list."""
    # Decoded in Python, because an error in a TensorFlow operation could not be caught within the dataset.
    recorded = set()

    def attempt(file: bytes) -> tuple[np.ndarray, bytes]:
        try:
            image = decode(os.fsdecode(file), bands, value_range)
            return resize(image, shape[:2]) if antialias else image, b""
        except ImageError as error:
            return np.zeros(shape, np.uint8), error.reason.encode()

    def load(row: tf.Tensor, file: tf.Tensor) -> tuple[tf.Tensor, ...]:
        image, reason = tf.numpy_function(attempt, [file], [tf.uint8, tf.string])
        image = tf.ensure_shape(image, shape) if antialias else plain_resize(image, shape)
        return image, row, file, tf.ensure_shape(reason, [])

    def record(row: np.int64, file: bytes, reason: bytes) -> bool:
        if int(row) not in recorded:  # a second pass over the dataset finds them again
            recorded.add(int(row))
            bad.append(ImageError(os.fsdecode(file), reason.decode()))
        return False

    def keep(image: tf.Tensor, row: tf.Tensor, file: tf.Tensor, reason: tf.Tensor) -> tf.Tensor:
        def leave_out() -> tf.Tensor:
            return tf.ensure_shape(tf.numpy_function(record, [row, file, reason], tf.bool), [])

        return tf.cond(tf.strings.length(reason) == 0, lambda: True, leave_out)

    # The filter runs in order, one image at a time, which keeps the list in order.
    return rows.map(load, tf.data.AUTOTUNE).filter(keep).map(lambda image, row, file, reason: (image, row))
