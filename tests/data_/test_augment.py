"""Colour jitter, flips, rotation and shift against independent numpy formulas."""

import colorsys
import itertools

import numpy as np
import pydantic
import pytest
import tensorflow as tf
from scipy import ndimage

from rsml.data.augment import Augment, Factors, apply_factors, augment, colour_operations, draw_factors
from rsml.data.colour import LUMA
from rsml.utils.errors import UserError

EVERYTHING = Augment(
    brightness=(0.6, 1.4),
    contrast=(0.6, 1.4),
    saturation=(0.6, 1.4),
    hue=0.2,
    greyscale=0.2,
    rotation=30.0,
    width_shift=0.1,
    height_shift=0.1,
)
NO_FLIPS = {"horizontal_flip": False, "vertical_flip": False}


def picture(height=20, width=14, bands=3, seed=0):
    """Smooth enough to interpolate, and touching both ends of the scale so that clipping happens."""
    noise = np.random.default_rng(seed).normal(size=(height, width, bands))
    smooth = ndimage.gaussian_filter(noise, (2, 2, 0))
    return np.clip(127 + 200 * smooth / np.abs(smooth).max(), 0, 255).astype(np.float32)


def factors(**drawn):
    """Factors that change nothing, except those given."""
    neutral = {name: tf.constant(0.0) for name in Factors._fields}
    neutral.update(horizontal_flip=tf.constant(False), vertical_flip=tf.constant(False), greyscale=tf.constant(False))
    neutral.update(brightness=tf.constant(1.0), contrast=tf.constant(1.0), saturation=tf.constant(1.0))
    neutral["order"] = tf.constant([], tf.int32)
    neutral.update({name: tf.constant(value) for name, value in drawn.items()})
    return Factors(**neutral)


# The formulas of torchvision's adjust_* functions, written again in float64.
def grey(image):
    return (image.astype(np.float64) * np.array([0.2989, 0.587, 0.114])).sum(axis=-1, keepdims=True)


def numpy_hue(image, turns):
    flat = image.reshape(-1, 3) / 255.0
    moved = [colorsys.hsv_to_rgb((h + turns) % 1.0, s, v) for h, s, v in (colorsys.rgb_to_hsv(*p) for p in flat)]
    return np.array(moved).reshape(image.shape) * 255.0


NUMPY = {
    "brightness": lambda image, factor: np.clip(image.astype(np.float64) * factor, 0, 255),
    "contrast": lambda image, factor: np.clip(image * factor + (1 - factor) * grey(image).mean(), 0, 255),
    "saturation": lambda image, factor: np.clip(image * factor + (1 - factor) * grey(image), 0, 255),
    "hue": numpy_hue,
}


@pytest.mark.parametrize("shape", [(20, 14), (7, 9)])  # 63 pixels do not divide into fours
@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("brightness", 1.4),
        ("brightness", 0.6),
        ("contrast", 1.4),
        ("contrast", 0.0),
        ("saturation", 1.4),
        ("saturation", 0.3),
        ("hue", 0.17),
        ("hue", -0.4),
    ],
)
def test_each_colour_operation_follows_its_formula(name, factor, shape):
    image = picture(*shape)
    options = Augment(**NO_FLIPS, **{name: 0.5 if name == "hue" else (0.0, 2.0)})
    result = apply_factors(tf.constant(image), options, factors(**{name: factor}))
    np.testing.assert_allclose(result, NUMPY[name](image, factor), atol=2e-3 if name == "hue" else 2e-4)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_operations_run_in_the_drawn_order(order):
    image = picture()
    options = Augment(**NO_FLIPS, brightness=(0.6, 1.4), contrast=(0.6, 1.4), saturation=(0.6, 1.4))
    drawn = {"brightness": 1.37, "contrast": 1.31, "saturation": 0.63}
    expected = image
    for position in order:
        name = colour_operations(options)[position]
        expected = NUMPY[name](expected, drawn[name])
    result = apply_factors(tf.constant(image), options, factors(**drawn, order=np.array(order, np.int32)))
    np.testing.assert_allclose(result, expected, atol=3e-4)


def test_the_order_matters_and_all_orders_occur():
    orders = {tuple(draw_factors(EVERYTHING, [0, seed]).order.numpy()) for seed in range(300)}
    assert orders == set(itertools.permutations(range(4)))


def test_whole_jitter_from_its_own_draws():
    options = Augment(**NO_FLIPS, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    image = picture(seed=3)
    for seed in range(8):
        drawn = draw_factors(options, [5, seed])
        expected = image
        for position in drawn.order.numpy():
            name = colour_operations(options)[position]
            expected = NUMPY[name](expected, float(getattr(drawn, name)))
        np.testing.assert_allclose(augment(tf.constant(image), options, [5, seed]), expected, atol=4e-3)


def test_greyscale_and_its_probability():
    image = picture()
    options = Augment(**NO_FLIPS, greyscale=0.3)
    result = apply_factors(tf.constant(image), options, factors(greyscale=True))
    np.testing.assert_allclose(result, np.repeat(grey(image), 3, axis=-1), atol=2e-4)
    np.testing.assert_array_equal(apply_factors(tf.constant(image), options, factors()), image)
    share = np.mean([bool(draw_factors(options, [1, seed]).greyscale) for seed in range(400)])
    assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 400)


@pytest.mark.parametrize("horizontal", [False, True])
@pytest.mark.parametrize("vertical", [False, True])
def test_flips(horizontal, vertical):
    image = picture().astype(np.uint8)
    expected = image[::-1] if vertical else image
    expected = expected[:, ::-1] if horizontal else expected
    result = apply_factors(tf.constant(image), Augment(), factors(horizontal_flip=horizontal, vertical_flip=vertical))
    assert result.dtype == tf.float32
    np.testing.assert_array_equal(result, expected)


def test_flips_are_independent_halves():
    drawn = [draw_factors(Augment(), [7, seed]) for seed in range(600)]
    both = np.array([[bool(f.horizontal_flip), bool(f.vertical_flip)] for f in drawn])
    counts = np.unique(both @ [1, 2], return_counts=True)[1]
    assert counts.shape == (4,)
    assert np.all(np.abs(counts - 150) < 4 * np.sqrt(600 * 0.25 * 0.75))
    off = draw_factors(Augment(**NO_FLIPS), [7, 0])
    assert not off.horizontal_flip and not off.vertical_flip


@pytest.mark.parametrize(("degrees", "shift_x", "shift_y"), [(0, 0.2, 0), (0, 0, -0.3), (25, 0, 0), (-70, 0.15, -0.1)])
def test_rotation_and_shift_follow_scipy(degrees, shift_x, shift_y):
    image = picture(21, 30)
    options = Augment(**NO_FLIPS, rotation=180.0, width_shift=0.5, height_shift=0.5)
    angle = np.radians(degrees)
    drawn = factors(angle=np.float32(angle), shift_x=np.float32(shift_x), shift_y=np.float32(shift_y))
    result = apply_factors(tf.constant(image), options, drawn).numpy()
    centre = np.array([10.0, 14.5])
    # rows, columns: where the pixel comes from
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    offset = centre - matrix @ (centre + np.array([shift_y * 21, shift_x * 30]))
    for band in range(3):
        expected = ndimage.affine_transform(image[..., band], matrix, offset, order=1, mode="nearest")
        np.testing.assert_allclose(result[..., band], expected, atol=0.05)


def test_directions_of_rotation_and_shift():
    image = np.zeros((9, 9, 1), np.float32)
    image[4, 7] = 255.0  # right of the centre
    options = Augment(**NO_FLIPS, rotation=90.0, width_shift=0.5, height_shift=0.5)
    turned = apply_factors(tf.constant(image), options, factors(angle=np.float32(np.pi / 2))).numpy()
    assert np.unravel_index(turned.argmax(), turned.shape)[:2] == (1, 4)  # counter-clockwise: now above
    moved = apply_factors(tf.constant(image), options, factors(shift_x=-2 / 9, shift_y=3 / 9)).numpy()
    assert np.unravel_index(moved.argmax(), moved.shape)[:2] == (7, 5)


def test_pure_function_of_the_seed():
    image = tf.constant(picture())
    first = augment(image, EVERYTHING, [3, 4])
    tf.random.normal([5])  # stateful draws in between change nothing
    np.testing.assert_array_equal(first, augment(image, EVERYTHING, [3, 4]))
    in_graph = tf.function(lambda seed: augment(image, EVERYTHING, seed))(tf.constant([3, 4], tf.int64))
    np.testing.assert_allclose(first, in_graph, atol=1e-3)
    for other in ([3, 5], [4, 4]):
        assert np.abs(first - augment(image, EVERYTHING, other)).max() > 1


def test_switching_one_operation_on_leaves_the_other_draws():
    few = draw_factors(Augment(contrast=(0.5, 1.5)), [1, 2])
    many = draw_factors(EVERYTHING.model_copy(update={"contrast": (0.5, 1.5)}), [1, 2])
    assert few.contrast == many.contrast and few.horizontal_flip == many.horizontal_flip


def test_draws_fill_their_ranges():
    drawn = [draw_factors(EVERYTHING, [11, seed]) for seed in range(300)]
    limits = {"brightness": (0.6, 1.4), "saturation": (0.6, 1.4), "hue": (-0.2, 0.2), "shift_x": (-0.1, 0.1)}
    limits["angle"] = (-np.pi / 6, np.pi / 6)
    for name, (low, high) in limits.items():
        values = np.array([float(getattr(f, name)) for f in drawn])
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 4 * (high - low) / np.sqrt(12 * 300)


def test_stays_within_the_scale():
    for seed in range(10):
        result = augment(tf.constant(picture(seed=seed)), EVERYTHING, [0, seed]).numpy()
        assert result.min() >= -1e-3 and result.max() <= 255 + 1e-3


def test_other_numbers_of_bands():
    image = picture(bands=5)
    options = Augment(**NO_FLIPS, contrast=(0.5, 1.5))
    result = apply_factors(tf.constant(image), options, factors(contrast=1.2))
    np.testing.assert_allclose(result, np.clip(1.2 * image - 0.2 * image.mean(), 0, 255), atol=2e-4)
    with pytest.raises(UserError, match="saturation, hue need RGB images, these have 5 bands"):
        augment(tf.constant(image), Augment(saturation=0.2, hue=0.1), [0, 0])


def test_options_are_checked():
    assert Augment(brightness=0.4).brightness == (0.6, 1.4)
    assert Augment(brightness=3).brightness == (0.0, 4.0)
    assert Augment(**Augment(brightness=0.4).model_dump()) == Augment(brightness=0.4)
    for wrong, message in [
        ({"brightness": (1.4, 0.6)}, "low <= high"),
        ({"contrast": (-0.1, 1)}, "0 <= low"),
        ({"saturation": -1}, "0 or more"),
        ({"hue": 0.6}, "less than or equal to 0.5"),
        ({"greyscale": 1.5}, "less than or equal to 1"),
        ({"rotation": -3}, "greater than or equal to 0"),
        ({"width_shift": 1.0}, "less than 1"),
        ({"flip": True}, "Extra inputs"),
    ]:
        with pytest.raises(pydantic.ValidationError, match=message):
            Augment(**wrong)
    with pytest.raises(pydantic.ValidationError):
        Augment().hue = 0.1


def test_luma_is_torchvisions():
    assert LUMA == (0.2989, 0.587, 0.114)


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_quarter_turns_move_pixels_and_change_none(quarters):
    image = picture(12, 12)
    turned = apply_factors(image, Augment(quarter_turns=True, **NO_FLIPS), factors(quarters=quarters))
    np.testing.assert_array_equal(turned, np.rot90(image, quarters))


def test_all_four_quarter_turns_are_as_likely():
    drawn = [int(draw_factors(Augment(quarter_turns=True), [3, seed]).quarters) for seed in range(240)]
    np.testing.assert_allclose(np.bincount(drawn) / 240, 0.25, atol=0.08)
    assert int(draw_factors(Augment(), [3, 0]).quarters) == 0


def test_quarter_turns_of_an_oblong_image_are_refused():
    with pytest.raises(UserError, match="needs square images, found 20 x 14"):
        augment(picture(), Augment(quarter_turns=True), [0, 0])


ONE_OF_EACH = {
    "horizontal_flip": True, "vertical_flip": True, "quarter_turns": True, "brightness": 0.5, "contrast": 0.5,
    "saturation": 0.5, "hue": 0.3, "greyscale": 1.0, "rotation": 40.0, "width_shift": 0.4, "height_shift": 0.4,
    "crop": (0.4, 0.5), "randaugment": {"operations": 3, "magnitude": 1.0}, "erase": 1.0,
}  # fmt: skip
# Their own tests: how a cut is shaped, and what is done to a batch (test_geometry, test_mixing).
OF_ANOTHER = {"crop_ratio", "mixup", "cutmix", "mixed"}


@pytest.mark.parametrize("option", sorted(set(Augment.model_fields) - OF_ANOTHER))
def test_every_option_changes_images(option):
    """An option that no line of `augment` reads, or that has no case here, fails."""
    image, seeds = picture(16, 16), [tf.constant([3, number], tf.int64) for number in range(4)]
    options = Augment(**{**NO_FLIPS, option: ONE_OF_EACH[option]})
    changed = [not np.allclose(augment(image, options, seed), image, atol=0.5) for seed in seeds]
    assert any(changed)
    assert all(np.allclose(augment(image, Augment(**NO_FLIPS), seed), image) for seed in seeds[:1])
