import numpy as np
from matplotlib.colors import to_hex

from rsml.figures.retrieval import Tile, contact_sheet
from rsml.figures.style import GREEN, GREY

PIXELS = np.zeros((8, 8, 3), np.uint8)


def marks(axes):
    return {text.get_text(): to_hex(text.get_color()) for text in axes.texts}


def test_shared_labels_are_marked_and_frames_say_whether_there_are_any():
    query = Tile(PIXELS, "query", ["water", "ship"])
    some, none = Tile(PIXELS, "1", ["sand", "water"]), Tile(PIXELS, "2", ["grass"])
    figure = contact_sheet([(query, [some, none])])
    asked, first, second = figure.axes
    assert marks(first)["water"] == GREEN and marks(first)["sand"] != GREEN and marks(second)["grass"] != GREEN
    assert list(marks(first)) == ["water", "sand"]  # what is shared comes first
    assert to_hex(first.spines["top"].get_edgecolor()) == GREEN
    assert to_hex(second.spines["top"].get_edgecolor()) not in (GREEN, GREY)
    assert asked.get_position().x1 < first.get_position().x0 < second.get_position().x0


def test_without_labels_none_are_written():
    figure = contact_sheet([(Tile(PIXELS, "query"), [Tile(PIXELS, "1", ["sand"])])])
    assert to_hex(figure.axes[1].spines["top"].get_edgecolor()) == GREY
    assert GREEN not in marks(figure.axes[1]).values()


def test_rows_do_not_overlap_and_an_unreadable_image_is_marked():
    many = [Tile(PIXELS, str(rank), [f"label {n}" for n in range(12)]) for rank in range(3)]
    figure = contact_sheet([(Tile(PIXELS, "a"), many), (Tile(None, "b"), many[:1])])
    upper, lower = figure.axes[1], figure.axes[4]
    assert "not readable" in marks(lower)
    figure.draw_without_rendering()
    lowest = min(text.get_window_extent().y0 for text in upper.texts)
    assert lower.title.get_window_extent().y1 < lowest
