"""Where the windows of a scene lie, in which order they are read, and which of them cover a cell of its map."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rsml.utils.errors import UserError

MOST_WINDOWS = 10**8
"""More are refused: at a hundred a second they would take eleven days."""

BLOCK_PIXELS = 2**21
"""So many pixels, or one window where that is more, are read at once."""

PIECE = 2048
"""Pixels a side of what is read at once for an overview."""


@dataclass(frozen=True)
class Axis:
    """The windows along one side of a scene; the last one is shifted inside.

    Args:
        length: Pixels of the scene.
        window: Pixels of a window, at most `length`.
        step: Pixels from one window to the next, at most `window`; the cells of the map are as wide.
    """

    length: int
    window: int
    step: int

    @cached_property
    def origins(self) -> np.ndarray:
        """First pixel of every window."""
        return np.append(np.arange(0, self.length - self.window, self.step), self.length - self.window)

    @cached_property
    def edges(self) -> np.ndarray:
        """First pixel of every cell, and the end of the scene."""
        return np.append(np.arange(0, self.length, self.step), self.length)

    @cached_property
    def centres(self) -> np.ndarray:
        """Middle of that part of every cell that lies in the scene."""
        return (self.edges[:-1] + self.edges[1:]) / 2

    def covering(self, cells: slice) -> tuple[slice, np.ndarray]:
        """The windows that cover some of the cells, and `(cells, windows)` which ones hold the centre of which cell."""
        centres = self.centres[cells]
        first = np.searchsorted(self.origins, centres[0] - self.window, side="right")
        last = np.searchsorted(self.origins, centres[-1], side="right")
        origins = self.origins[first:last]
        return slice(first, last), (origins <= centres[:, None]) & (centres[:, None] < origins + self.window)


@dataclass(frozen=True)
class Block:
    """Windows that are read together.

    Args:
        rows: Of the grid of windows.
        columns: Of the grid of windows.
        first: Number of its first window.
    """

    rows: slice
    columns: slice
    first: int

    def __len__(self) -> int:
        return (self.rows.stop - self.rows.start) * (self.columns.stop - self.columns.start)


def check_count(
    path: str, size: tuple[int, int], window: tuple[int, int], step: tuple[int, int], option: str = "--window"
) -> None:
    """Refuses a scene that is smaller than a window, or of more windows than can ever be done.

    A few bytes can declare any number of pixels, so the windows are counted before anything of their number is made.
    """
    pixels = f"{path}: {size[1]} x {size[0]} pixels"
    if size[0] < window[0] or size[1] < window[1]:
        raise UserError(
            f"{pixels}, smaller than a window of {window[1]} x {window[0]}; give {option} {min(size)} or less"
        )
    count = math.prod(-(-(size[axis] - window[axis]) // step[axis]) + 1 for axis in (0, 1))
    if count > MOST_WINDOWS:
        raise UserError(
            f"{pixels} make {count} windows of {window[1]} x {window[0]} at a step of {step[1]}, more than the "
            f"{MOST_WINDOWS} that can be done; choose a larger --step, or cut the scene (gdal_translate -srcwin)"
        )


class WindowGrid:
    """All windows of a scene, numbered in the order in which they are read: block by block, row by row in a block.

    Windows overlap; those of a block share the pixels that are read for it, so few pixels are read twice.

    Args:
        size: (height, width) of the scene.
        window: (height, width) of a window.
        step: (down, across) from one window to the next.
        strips: The file is stored in strips as wide as the scene: a block is then one row of windows high.
    """

    def __init__(
        self, size: tuple[int, int], window: tuple[int, int], step: tuple[int, int], strips: bool = False
    ) -> None:
        self.window, self.step = window, step
        self.down, self.across = (Axis(*numbers) for numbers in zip(size, window, step, strict=True))
        rows, columns = (len(axis.origins) for axis in (self.down, self.across))
        self.shape = rows, columns
        self.cells = len(self.down.centres), len(self.across.centres)
        side = BLOCK_PIXELS**0.5
        high = 1 if strips else min(rows, max(1, int((side - window[0]) // step[0]) + 1))
        height = window[0] + (high - 1) * step[0]
        wide = min(columns, max(1, int((BLOCK_PIXELS / height - window[1]) // step[1]) + 1))
        self.block = high, wide

    def __len__(self) -> int:
        return self.shape[0] * self.shape[1]

    def blocks(self, start: int = 0) -> Iterator[Block]:
        """The blocks from the one with window number `start` on."""
        first = 0
        for row in range(0, self.shape[0], self.block[0]):
            for column in range(0, self.shape[1], self.block[1]):
                rows = slice(row, min(row + self.block[0], self.shape[0]))
                block = Block(rows, slice(column, min(column + self.block[1], self.shape[1])), first)
                first += len(block)
                if first > start:
                    yield block

    def numbers(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The number of the window in each place of the grid of windows."""
        block_row = rows // self.block[0] * self.block[0]
        block_column = columns // self.block[1] * self.block[1]
        high = np.minimum(self.block[0], self.shape[0] - block_row)
        wide = np.minimum(self.block[1], self.shape[1] - block_column)
        before = block_row * self.shape[1] + high * block_column
        return before + (rows - block_row) * wide + (columns - block_column)

    def origins(self, block: Block) -> list[tuple[int, int]]:
        """(row, column) of the first pixel of every window of a block, in order."""
        downs, acrosses = self.down.origins[block.rows], self.across.origins[block.columns]
        return [(int(row), int(column)) for row in downs for column in acrosses]


def overview_pieces(
    size: tuple[int, int], longest: int, strips: bool
) -> tuple[tuple[int, int], Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]]:
    """Every n-th pixel of a scene, piece by piece, so that a damaged block costs no more than the piece it is in.

    Args:
        size: (height, width) of the scene.
        longest: Most pixels a side of the overview.
        strips: The file is stored in strips: pieces are as wide as the scene.

    Returns:
        (height, width) of the overview, and (rows, columns) of each piece in it with (rows, columns) of the scene.
    """
    factor = math.ceil(max(size) / longest)
    shape = -(-size[0] // factor), -(-size[1] // factor)
    high = max(1, PIECE // factor)
    wide = shape[1] if strips else high

    def pieces() -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
        for row in range(0, shape[0], high):
            for column in range(0, shape[1], wide):
                down, across = slice(row, min(row + high, shape[0])), slice(column, min(column + wide, shape[1]))
                rows = slice(down.start * factor, min(down.stop * factor, size[0]))
                columns = slice(across.start * factor, min(across.stop * factor, size[1]))
                yield (down, across), (rows, columns)

    return shape, pieces()
