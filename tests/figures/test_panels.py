"""Score panels and mistake sheets: the right names in the right colours."""

import numpy as np
import pytest

from rsml.figures.panels import (
    MISSED,
    RIGHT,
    WRONG,
    Mistake,
    confident_mistakes,
    mistakes_sheet,
    runs_panel,
    score_panel,
)
from rsml.figures.style import shorten
from rsml.utils.errors import UserError

NAMES = ["sea", "sand", "trees", "cars", "dock"]
PICTURE = np.full((8, 8, 3), 90, np.uint8)


def coloured(axes):
    return [(text.get_text(), text.get_color()) for text in axes.texts]


def test_score_panel_colours_the_wrong_blue_and_the_missed_red():
    labels = [[1, 1, 0, 0, 0], [0, 0, 0, 0, 0]]
    scores = [[0.9, 0.2, 0.8, 0.1, 0.05], [0.1, 0.2, 0.3, 0.4, 0.45]]
    figure = score_panel([PICTURE, PICTURE], labels, scores, NAMES, top=3)
    left, middle, right = figure.axes[:3]
    assert coloured(left) == [("sea", RIGHT), ("sand", MISSED)]
    np.testing.assert_array_equal(middle.images[0].get_array(), PICTURE)
    assert coloured(right) == [
        ("sea", RIGHT),
        ("0.90", RIGHT),
        ("trees", WRONG),
        ("0.80", WRONG),
        ("sand", MISSED),
        ("0.20", MISSED),
    ]
    assert [bar.get_width() for bar in right.patches] == pytest.approx([0.9, 0.8, 0.2])
    assert coloured(figure.axes[3]) == [("(none)", RIGHT)]
    assert [text for text, _ in coloured(figure.axes[5])][::2] == ["dock", "cars", "trees"]
    assert {hue for _, hue in coloured(figure.axes[5])} == {RIGHT}


def test_score_panel_follows_the_thresholds_and_lays_out_any_number():
    labels, scores = np.tile([[1, 0, 0, 0, 0]], (5, 1)), np.tile([[0.45, 0.35, 0.1, 0.1, 0.1]], (5, 1))
    figure = score_panel([PICTURE] * 5, labels, scores, NAMES, [0.4, 0.3, 0.5, 0.5, 0.5])
    assert len(figure.axes) == 15
    assert coloured(figure.axes[2])[:4] == [("sea", RIGHT), ("0.45", RIGHT), ("sand", WRONG), ("0.35", WRONG)]
    # No more than there are labels.
    assert len(figure.axes[2].patches) == 5
    with pytest.raises(UserError, match="2 images do not fit 5 rows"):
        score_panel([PICTURE] * 2, labels, scores, NAMES)


def test_runs_panel_has_a_column_a_run_and_shows_every_fault():
    truth = [[1, 0, 0, 0, 1]]
    first = [[0.9, 0.1, 0.8, 0.3, 0.02]], [[1, 0, 1, 0, 0]]
    other = [[0.4, 0.3, 0.2, 0.1, 0.05]], [[0, 0, 0, 0, 0]]
    figure = runs_panel([PICTURE], truth, [("a", *first), ("b", *other)], NAMES, ["x.png"], top=3, title="one image")
    left, picture, a, b = figure.axes
    # Red at the left: what no run gives.
    assert coloured(left) == [("sea", RIGHT), ("dock", MISSED)]
    assert picture.get_title() == "x.png" and (a.get_title("left"), b.get_title("left")) == ("a", "b")
    # The missed dock goes before cars, whose score is higher.
    assert coloured(a)[::2] == [("sea", RIGHT), ("trees", WRONG), ("dock", MISSED)]
    assert coloured(b)[::2] == [("sea", MISSED), ("sand", RIGHT), ("dock", MISSED)]
    assert figure.get_suptitle().startswith("one image\nleft: true labels")
    with pytest.raises(UserError, match="2 images do not fit 1 rows"):
        runs_panel([PICTURE] * 2, truth, [("a", *first)], NAMES)


def test_confident_mistakes_single_label():
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.05, 0.95]])
    assert confident_mistakes([0, 0, 0, 0], scores) == [
        Mistake(3, 1, 0, 0.95),
        Mistake(1, 1, 0, 0.8),
        Mistake(2, 1, 0, 0.6),
    ]
    assert [mistake.image for mistake in confident_mistakes([0, 0, 0, 0], scores, count=1)] == [3]
    assert confident_mistakes([0, 1, 1, 1], scores) == []


def test_confident_mistakes_multilabel():
    labels = np.array([[1, 0], [0, 1]])
    scores = np.array([[0.05, 0.6], [0.99, 0.3]])
    found = confident_mistakes(labels, scores)
    assert found == [
        Mistake(1, 0, None, 0.99),
        Mistake(0, None, 0, 0.05),
        Mistake(1, None, 1, 0.3),
        Mistake(0, 1, None, 0.6),
    ]
    # With a threshold of 0.2 for the second label, 0.3 is right and 0.6 half-way from it to certainty.
    found = confident_mistakes(labels, scores, threshold=[0.5, 0.2])
    assert [(mistake.image, mistake.predicted, mistake.missed) for mistake in found] == [
        (1, 0, None),
        (0, None, 0),
        (0, 1, None),
    ]


def test_mistakes_sheet():
    mistakes = [Mistake(4, 1, 0, 0.987), Mistake(2, 3, None, 0.9), Mistake(7, None, 2, 0.004)]
    figure = mistakes_sheet([PICTURE] * 3, mistakes, NAMES, ["a.jpg", "b.jpg", "c.jpg"], columns=2)
    assert len(figure.axes) == 3
    assert coloured(figure.axes[0]) == [("sand  0.987", WRONG), ("sea", MISSED)]
    assert coloured(figure.axes[1]) == [("cars  0.900", WRONG)]
    assert coloured(figure.axes[2]) == [("trees  0.004", MISSED)]
    assert [axes.get_title() for axes in figure.axes] == ["a.jpg", "b.jpg", "c.jpg"]
    assert mistakes_sheet([], [], NAMES).texts[0].get_text() == "no mistake"
    with pytest.raises(UserError, match="1 images do not fit 3 mistakes"):
        mistakes_sheet([PICTURE], mistakes, NAMES)


def test_long_names_are_cut_in_their_middle():
    assert shorten("thermal_power_station", 17) == "thermal_…_station"
    assert len(shorten("x" * 50, 17)) == 17
    assert shorten("trees", 17) == "trees"
