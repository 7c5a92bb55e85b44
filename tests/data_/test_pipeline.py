"""Batches: the same for the same seed whatever else happens, correct pixels, and bad files named."""

import io
import os
import subprocess
import sys
from pathlib import Path

import imagecodecs
import keras
import numpy as np
import pytest
import tensorflow as tf
import tifffile
from PIL import Image

from rsml.data.augment import Augment
from rsml.data.augment import augment as augment_image
from rsml.data.images import ImageError, decode, resize
from rsml.data.pipeline import evaluation_dataset, naming_bad_images, steps, training_dataset
from rsml.data.samples import Samples
from rsml.utils.errors import UserError

REAL = os.environ.get("RSML_TEST_DATA")
JITTER = Augment(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, rotation=10, width_shift=0.1)


def table(folder, names, labels=None):
    if labels is None:
        labels = np.random.default_rng(1).integers(0, 2, (len(names), 3))
    return Samples(np.array(names, dtype=str).reshape(-1), labels, ("a", "b", "c"), "multi-label", Path(folder))


def write_images(folder, count, size=(16, 12), form="png"):
    rng = np.random.default_rng(0)
    names = [f"scene {number:02d} é.{form}" for number in range(count)]
    for number, name in enumerate(names):
        values = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        values[0, 0] = number  # tells the images apart after the pipeline
        Image.fromarray(values).save(folder / name)
    return names


@pytest.fixture
def samples(tmp_path):
    return table(tmp_path, write_images(tmp_path, 11))


def taken(dataset):
    return [(images.numpy(), np.array(batch.get("labels")), batch["index"].numpy()) for images, batch in dataset]


def same(one, other):
    return len(one) == len(other) and all(
        np.array_equal(a, b) and a.dtype == b.dtype
        for pair in zip(one, other, strict=True)
        for a, b in zip(*pair, strict=True)
    )


def train(samples, **options):
    return training_dataset(samples, **{"image_size": (16, 12), "batch_size": 4, "epochs": 3, "seed": 5} | options)


def test_every_epoch_is_whole_and_batches_never_mix_epochs(samples):
    dataset = train(samples)
    assert steps(samples, 4) == 3 and dataset.cardinality() == 9
    batches = taken(dataset)
    assert [len(index) for _, _, index in batches] == [4, 4, 3] * 3
    for epoch in range(3):
        rows = np.concatenate([index for _, _, index in batches[3 * epoch : 3 * epoch + 3]])
        assert sorted(rows) == list(range(11))
    for images, labels, index in batches:
        assert images.dtype == np.float32 and labels.dtype == np.float32 and index.dtype == np.int64
        for image, label, row in zip(images, labels, index, strict=True):
            np.testing.assert_array_equal(image, decode(samples.files[row]))
            np.testing.assert_array_equal(label, samples.labels[row])
    assert dataset.element_spec == (
        tf.TensorSpec([None, 16, 12, 3], tf.float32),
        {"labels": tf.TensorSpec([None, 3], tf.float32), "index": tf.TensorSpec([None], tf.int64)},
    )


def test_orders_differ_between_epochs_and_seeds(samples):
    def orders(**options):
        rows = np.concatenate([index for _, _, index in taken(train(samples, **options))])
        return [tuple(rows[11 * epoch : 11 * epoch + 11]) for epoch in range(3)]

    found = orders() + orders(seed=6)
    assert len(set(found)) == 6 and tuple(range(11)) not in found


def test_shuffling_is_fair(tmp_path):
    many = table(tmp_path, write_images(tmp_path, 5, (2, 2)))
    rows = np.concatenate(
        [index for _, _, index in taken(train(many, image_size=2, batch_size=5, epochs=400))]
    ).reshape(400, 5)
    counts = np.array([[np.sum(rows[:, place] == row) for row in range(5)] for place in range(5)])
    assert np.all(np.abs(counts - 80) < 4.5 * np.sqrt(400 * 0.2 * 0.8))


@pytest.mark.parametrize("cache", [None, "memory", "folder"])
def test_resuming_gives_the_same_bytes(samples, tmp_path, cache):
    cache = tmp_path / "cache" if cache == "folder" else cache
    whole = taken(train(samples, augment=JITTER))
    for start in (1, 2):
        assert same(taken(train(samples, augment=JITTER, start_epoch=start, cache=cache)), whole[3 * start :])
    assert taken(train(samples, augment=JITTER, start_epoch=3)) == []
    assert not same(taken(train(samples, augment=JITTER, seed=6)), whole)


def test_batches_do_not_depend_on_parallelism(samples):
    whole = taken(train(samples, augment=JITTER))
    one_thread = tf.data.Options()
    one_thread.threading.private_threadpool_size = 1
    one_thread.autotune.enabled = False
    assert same(taken(train(samples, augment=JITTER).with_options(one_thread)), whole)


def test_augmentation_differs_between_images_and_epochs(samples):
    one = Augment(horizontal_flip=False, vertical_flip=False, brightness=(0.2, 0.9))
    factors = {}
    for number, (images, _, index) in enumerate(taken(train(samples, augment=one))):
        for image, row in zip(images, index, strict=True):
            factors[number // 3, row] = round(image.sum() / decode(samples.files[row]).sum(), 5)
    assert len(set(factors.values())) == 33
    assert 0.2 <= min(factors.values()) < 0.4 and 0.7 < max(factors.values()) <= 0.9


def test_augmentation_does_not_depend_on_the_batch_size(samples):
    def by_row(batch_size):
        batches = taken(train(samples, augment=JITTER, batch_size=batch_size, epochs=1))
        return {row: image for images, _, index in batches for image, row in zip(images, index, strict=True)}

    four, eleven = by_row(4), by_row(11)
    assert all(np.array_equal(four[row], eleven[row]) for row in range(11))


def test_batch_larger_than_the_data_and_a_single_image(tmp_path):
    one = table(tmp_path, write_images(tmp_path, 1))
    for size in (1, 32):
        batches = taken(train(one, batch_size=size, augment=JITTER))
        assert [images.shape for images, _, _ in batches] == [(1, 16, 12, 3)] * 3
    assert [images.shape for images, _, _ in taken(evaluation_dataset(one, image_size=8, batch_size=32))] == [
        (1, 8, 8, 3)
    ]


def test_evaluation_is_in_order_and_of_the_same_structure(samples):
    dataset = evaluation_dataset(samples, image_size=(16, 12), batch_size=4)
    assert dataset.element_spec == train(samples).element_spec
    batches = taken(dataset)
    assert [index.tolist() for _, _, index in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    np.testing.assert_array_equal(np.concatenate([labels for _, labels, _ in batches]), samples.labels)
    np.testing.assert_array_equal(np.concatenate([images for images, _, _ in batches])[:, 0, 0, 0], np.arange(11))


def every_kind(folder):
    """One file of each kind that the fast path must leave to the careful one, and of those that it may take."""
    y, x = np.mgrid[:40, :50]
    rgb = np.stack([127 + 120 * np.sin(x / 7 + band) * np.cos(y / 9) for band in range(3)], -1).astype(np.uint8)
    image = Image.fromarray(rgb)
    turned = Image.Exif()
    turned[0x0112] = 6
    image.save(folder / "plain.jpg")
    image.save(folder / "subsampled.jpg", subsampling=2, quality=60, progressive=True)
    image.convert("L").save(folder / "grey.jpg")
    image.convert("CMYK").save(folder / "cmyk.jpg")
    image.save(folder / "turned.jpg", exif=turned)
    image.save(folder / "plain.png")
    image.save(folder / "turned.png", exif=turned)
    image.quantize(9).save(folder / "palette.png")
    image.convert("RGBA").save(folder / "alpha.png")
    (folder / "deep.png").write_bytes(imagecodecs.png_encode(rgb.astype(np.uint16) * 200))
    tifffile.imwrite(folder / "plain.tif", rgb, photometric="rgb")
    tifffile.imwrite(folder / "deep.tif", rgb.astype(np.uint16) * 40, photometric="rgb", compression="deflate")
    image.save(folder / "plain.bmp")
    image.save(folder / "plain.gif")
    image.save(folder / "plain.webp")
    (folder / "a jpeg.png").write_bytes((folder / "plain.jpg").read_bytes())
    (folder / "padded.jpg").write_bytes((folder / "plain.jpg").read_bytes() + b"\0\0\0")
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("size", [(40, 50), (17, 23), (64, 64)])
@pytest.mark.parametrize("on_bad", ["raise", "skip"])
def test_pixels_are_those_of_decode_and_resize(tmp_path, size, on_bad):
    names = every_kind(tmp_path)
    files = [tmp_path / name for name in names]
    bad = []
    batches = taken(evaluation_dataset(files, image_size=size, batch_size=4, on_bad=on_bad, bad=bad))
    images = np.concatenate([images for images, _, _ in batches])
    assert len(images) == len(files) and bad == []
    for name, file, image in zip(names, files, images, strict=True):
        np.testing.assert_array_equal(image, resize(decode(file), size), err_msg=name)


def test_without_antialiasing_is_tensorflows_resize(tmp_path):
    every_kind(tmp_path)
    files = [tmp_path / "plain.png"]
    ((images, _, _),) = taken(evaluation_dataset(files, image_size=(17, 23), batch_size=1, antialias=False))
    expected = tf.image.resize(decode(files[0]), (17, 23)).numpy()
    assert np.abs(images[0] - expected).max() <= 0.5
    ((smooth, _, _),) = taken(evaluation_dataset(files, image_size=(17, 23), batch_size=1))
    expected = tf.image.resize(decode(files[0]), (17, 23), antialias=True).numpy()
    assert np.abs(smooth[0] - expected).max() <= 1.01


def test_chosen_bands_and_value_range(tmp_path):
    raster = np.random.default_rng(0).integers(0, 10000, (8, 9, 6), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "s2.tif", raster, photometric="minisblack", planarconfig="contig")
    samples = table(tmp_path, ["s2.tif"])
    options = {"image_size": (8, 9), "bands": [6, 1, 2, 3, 4], "value_range": (0, 10000)}
    ((images, _, _),) = taken(train(samples, batch_size=1, epochs=1, augment=Augment(**NO_FLIPS), **options))
    np.testing.assert_allclose(images[0], raster[..., [5, 0, 1, 2, 3]] * 0.0255, atol=0.501)
    with pytest.raises(UserError, match="saturation need RGB images, these have 5 bands"):
        train(samples, augment=Augment(saturation=0.2), **options)
    with pytest.raises(ImageError, match="has 6 bands"), naming_bad_images(samples):
        taken(evaluation_dataset(samples, image_size=8, batch_size=1))


NO_FLIPS = {"horizontal_flip": False, "vertical_flip": False}


def test_cache_in_a_folder_serves_later_runs_and_notices_changes(samples, tmp_path, monkeypatch):
    folder = tmp_path / "a cache" / "deep"

    def run(**options):
        return taken(train(samples, cache=folder, epochs=1, **options))

    first = run()
    assert same(first, taken(train(samples, epochs=1)))
    (kept,) = folder.iterdir()
    written = kept.stat().st_mtime_ns
    assert same(run(), first) and [p.stat().st_mtime_ns for p in folder.iterdir()] == [written]

    run(image_size=8), run(bands=[1, 2, 3]), run(antialias=False)
    assert len(list(folder.iterdir())) == 4
    changed = np.full((16, 12, 3), 77, np.uint8)
    Image.fromarray(changed).save(samples.files[4])
    images = {row: image for batch in run() for image, row in zip(batch[0], batch[2], strict=True)}
    np.testing.assert_array_equal(images[4], changed)
    assert len(list(folder.iterdir())) == 5


def test_a_half_written_cache_is_never_used(samples, tmp_path):
    folder = tmp_path / "cache"
    path = Path(samples.files[6])
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    stat = path.stat()
    with pytest.raises(ImageError, match="scene 06"):
        train(samples, cache=folder)
    assert list(folder.iterdir()) == []
    path.write_bytes(whole)
    expected = taken(train(samples, epochs=1))
    reference = train(samples, cache=folder, epochs=1)
    (kept,) = folder.iterdir()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    killed = kept.with_name(f".{kept.stem}.writing-{ended.pid}.npy")  # what a killed run leaves
    killed.write_bytes(kept.read_bytes()[:200])
    kept.unlink()
    assert same(taken(train(samples, cache=folder, epochs=1)), expected) and not killed.exists()
    assert same(taken(reference), expected)  # the map stays readable after its file was replaced
    assert stat.st_size < len(whole)


def test_cache_faults_are_one_line(samples, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cache: cannot keep images in .*file"):
        train(samples, cache=tmp_path / "file")
    with pytest.raises(UserError, match=r"11 images need .* GB, this machine has"):
        train(samples, cache="memory", image_size=200_000)
    with pytest.raises(UserError, match=r"11 images need .* GB, .* has .* GB left"):
        train(samples, cache=tmp_path, image_size=500_000)
    gone = table(tmp_path, ["gone.png"])
    with pytest.raises(ImageError, match=r"gone\.png: no such file"):
        train(gone, cache=tmp_path)


def test_a_bad_image_in_fit_is_named(samples):
    Path(samples.files[3]).write_bytes(b"<!DOCTYPE html>")
    jpeg = io.BytesIO()
    Image.new("RGB", (30, 30), "red").save(jpeg, "JPEG")
    broken = bytearray(jpeg.getvalue())
    broken[2:6] = b"\0\0\0\0"  # still starts and ends as a JPEG
    Path(samples.files[7]).write_bytes(b"\xff\xd8\xff" + bytes(broken[3:]))
    inputs = keras.Input((16, 12, 3))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(inputs)))
    model.compile(loss="mse")
    dataset = train(samples).map(lambda images, batch: (images, batch["labels"]))
    with pytest.raises(ImageError) as caught, naming_bad_images(samples):
        model.fit(dataset, steps_per_epoch=3, epochs=3, verbose=0)
    message = str(caught.value)
    assert message.startswith(f"{samples.files[3]}: not an image") and "\n" not in message
    assert "(and 1 more bad images" in message and samples.files[7] in message


def test_other_failures_pass_through(samples):
    with pytest.raises(tf.errors.InvalidArgumentError), naming_bad_images(samples):
        tf.debugging.check_numerics(np.nan, "not an image")
    with pytest.raises(ZeroDivisionError), naming_bad_images(samples):
        _ = 1 / 0


def test_skipping_leaves_bad_images_out_and_lists_them(samples):
    Path(samples.files[0]).write_bytes(b"")
    Path(samples.files[5]).write_bytes(b"hello")
    Path(samples.files[10]).unlink()
    bad = []
    dataset = evaluation_dataset(samples, image_size=(16, 12), batch_size=4, on_bad="skip", bad=bad)
    for _ in range(2):
        batches = taken(dataset)
        assert [index.tolist() for _, _, index in batches] == [[1, 2, 3, 4], [6, 7, 8, 9]]
        np.testing.assert_array_equal(
            np.concatenate([batch[1] for batch in batches]), samples.labels[[1, 2, 3, 4, 6, 7, 8, 9]]
        )
        assert [error.path for error in bad] == [samples.files[row] for row in (0, 5, 10)]
    assert bad[0].reason == "the file is empty" and bad[2].reason == "no such file"
    assert dataset.element_spec == train(samples).element_spec


def test_paths_from_a_generator_are_read_as_needed(samples):
    asked = []

    def endless():
        for number in range(10**9):
            asked.append(number)
            yield samples.files[number % 11] if number % 7 else "/nowhere/at all.png"

    bad = []
    dataset = evaluation_dataset(endless(), image_size=8, batch_size=5, on_bad="skip", bad=bad)
    for number, (images, batch) in enumerate(dataset):
        assert images.shape == (5, 8, 8, 3) and set(batch) == {"index"}
        if number == 3:
            break
    assert batch["index"].numpy().tolist() == [18, 19, 20, 22, 23]
    assert {error.path for error in bad} == {"/nowhere/at all.png"}
    assert len(asked) < 2000


def test_names_that_are_not_unicode(samples, tmp_path):
    odd = os.path.join(os.fsencode(tmp_path), b"caf\xe9.png")
    try:
        os.link(samples.files[2], odd)
    except OSError:
        pytest.skip("the file system wants unicode")
    bad = []
    files = [os.fsdecode(odd), os.fsdecode(odd) + "x"]
    ((images, _, _),) = taken(evaluation_dataset(files, image_size=(16, 12), batch_size=2, on_bad="skip", bad=bad))
    assert images[0, 0, 0, 0] == 2 and bad[0].path == files[1]


def test_wrong_choices_are_one_line(samples, tmp_path):
    with pytest.raises(UserError, match="no images"):
        train(table(tmp_path, [], np.zeros((0, 3))))
    with pytest.raises(UserError, match="no images"):
        evaluation_dataset([], image_size=8, batch_size=1)
    for wrong in ({"image_size": 0}, {"image_size": (3, 4, 5)}, {"batch_size": 0}, {"start_epoch": 4}, {"bands": [0]}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            train(samples, **wrong)
    with pytest.raises(UserError, match="without a cache"):
        evaluation_dataset(samples, image_size=8, batch_size=1, cache="memory", on_bad="skip")


def test_pipeline_equals_augment_of_decode(samples):
    """The image in a batch is `augment` of `decode` under some seed pair (key of the epoch, row)."""
    epoch_seed = tf.constant([5, 1], tf.int64)
    key = tf.random.stateless_uniform([], epoch_seed, None, None, tf.int64, alg="philox")
    for images, _, index in taken(train(samples, augment=JITTER, start_epoch=1, epochs=2)):
        for image, row in zip(images, index, strict=True):
            expected = augment_image(tf.constant(decode(samples.files[row])), JITTER, tf.stack([key, row]))
            np.testing.assert_allclose(image, expected, atol=1e-2)


@pytest.mark.skipif(not REAL, reason="RSML_TEST_DATA is not set")
def test_real_jpegs_through_the_fast_path_equal_decode():
    files = sorted(Path(REAL, "data", "ucm", "Images").rglob("*7.jpg"))[::7]
    batches = taken(evaluation_dataset(files, image_size=256, batch_size=16))
    images = np.concatenate([images for images, _, _ in batches])
    assert len(images) == len(files) == 30
    for file, image in zip(files, images, strict=True):
        np.testing.assert_array_equal(image, resize(decode(file), (256, 256)))


@pytest.mark.parametrize(
    "choice", [{"bands": (3, 2, 1)}, {"value_range": (0, 100)}, {"antialias": False}, {"image_size": 5}]
)
@pytest.mark.parametrize("cache", [None, "memory"])
def test_every_choice_reaches_the_pixels(samples, choice, cache):
    """Of training and evaluation alike, with and without a cache; and never beyond the batch that asked for it."""
    options = {"image_size": 7, "batch_size": 4}
    plain = next(iter(evaluation_dataset(samples, cache=cache, **options)))[0].numpy()
    other = next(iter(evaluation_dataset(samples, cache=cache, **{**options, **choice})))[0].numpy()
    assert other.shape != plain.shape or np.abs(other - plain).max() > 1
    trained = training_dataset(samples, epochs=1, cache=cache, **{**options, **choice})
    rows = {
        int(row): image
        for images, about in trained
        for image, row in zip(images.numpy(), about["index"].numpy(), strict=True)
    }
    np.testing.assert_array_equal(np.stack([rows[row] for row in range(4)]), other)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_batches_are_mixed_as_often_as_asked_and_each_epoch_otherwise(samples, kind):
    batches = {"batch_size": 6, "epochs": 2}
    for share, is_mixed in ((1.0, True), (0.0, False)):
        mixed = Augment(**NO_FLIPS, **{kind: 1.0}, mixed=share)
        found = [about["labels"].numpy() for _, about in train(samples, augment=mixed, **batches)]
        again = [about["labels"].numpy() for _, about in train(samples, augment=mixed, **batches)]
        np.testing.assert_array_equal(np.concatenate(found), np.concatenate(again))
        assert any(((labels > 0.01) & (labels < 0.99)).any() for labels in found) == is_mixed


def test_the_shape_of_a_crop_reaches_the_images(samples):
    wide, tall = (
        next(
            iter(train(samples, batch_size=4, epochs=1, augment=Augment(**NO_FLIPS, crop=(0.3, 0.3), crop_ratio=ratio)))
        )
        for ratio in ((3.0, 3.0), (1 / 3, 1 / 3))
    )
    assert not np.allclose(wide[0], tall[0], atol=1)
