import numpy as np
import pytest

from rsml.raster.windows import Axis, WindowGrid


@pytest.mark.parametrize(
    ("length", "window", "step"), [(100, 32, 16), (97, 32, 16), (32, 32, 8), (70, 20, 20), (64, 9, 7)]
)
def test_windows_cover_a_side_and_stay_inside(length, window, step):
    axis = Axis(length, window, step)
    assert axis.origins[0] == 0 and axis.origins[-1] == length - window
    assert (np.diff(axis.origins) <= step).all() and (np.diff(axis.origins) > 0).all()
    assert axis.edges[0] == 0 and axis.edges[-1] == length
    _, covers = axis.covering(slice(0, len(axis.centres)))
    assert covers.any(axis=1).all()
    for cell, centre in enumerate(axis.centres):
        expected = [origin <= centre < origin + window for origin in axis.origins]
        np.testing.assert_array_equal(covers[cell], expected)


def test_a_part_of_the_cells_asks_only_for_the_windows_over_it():
    axis = Axis(1000, 64, 16)
    _, whole = axis.covering(slice(0, len(axis.centres)))
    windows, part = axis.covering(slice(20, 30))
    np.testing.assert_array_equal(part, whole[20:30, windows])
    assert not np.delete(whole[20:30], np.arange(windows.start, windows.stop), axis=1).any()


@pytest.mark.parametrize("strips", [False, True])
def test_every_window_has_one_number_in_the_order_of_reading(strips, monkeypatch):
    monkeypatch.setattr("rsml.raster.windows.BLOCK_PIXELS", 80 * 80)
    grid = WindowGrid((300, 410), (32, 40), (16, 20), strips)
    assert grid.block[0] == (1 if strips else 4)
    numbers = grid.numbers(np.arange(grid.shape[0])[:, None], np.arange(grid.shape[1]))
    assert sorted(numbers.ravel()) == list(range(len(grid)))
    seen = 0
    for block in grid.blocks():
        assert block.first == seen
        np.testing.assert_array_equal(numbers[block.rows, block.columns].ravel(), np.arange(seen, seen + len(block)))
        origins = grid.origins(block)
        assert origins[0] == (grid.down.origins[block.rows][0], grid.across.origins[block.columns][0])
        height, width = origins[-1][0] + 32 - origins[0][0], origins[-1][1] + 40 - origins[0][1]
        assert height * width <= 80 * 80
        seen += len(block)
    assert seen == len(grid)


def test_reading_begins_at_the_block_that_holds_a_window():
    grid = WindowGrid((5000, 5000), (100, 100), (50, 50))
    blocks = list(grid.blocks())
    assert len(blocks) > 4
    start = blocks[2].first + 3
    assert list(grid.blocks(start)) == blocks[2:]
    assert list(grid.blocks(len(grid))) == []
