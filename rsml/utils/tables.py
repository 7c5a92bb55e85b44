"""Tables of strings for a terminal or a pipe: aligned, and folded where they are wider than a line."""

from __future__ import annotations

from collections.abc import Collection, Sequence

WIDTH = 100


def render(
    header: Sequence[str], rows: Sequence[Sequence[str]], width: int = WIDTH, attached: Collection[int] = ()
) -> str:
    """A table whose first column is aligned to the left, all others to the right. Ends with a line break.

    Columns that do not fit go below, behind the first column again.

    Args:
        header: Names of the columns.
        rows: Cells.
        width: Of a line.
        attached: Columns that stay with the one on their left.

    Examples:
        >>> print(render(["label", "F1"], [["sea", "90.1"], ["sand", "7.0"]]), end="")
        label    F1
        -----  ----
        sea    90.1
        sand    7.0
    """
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    blocks: list[list[int]] = [[]]
    for first in (column for column in range(1, len(header)) if column not in attached):
        end = next((column for column in range(first + 1, len(header)) if column not in attached), len(header))
        unit = list(range(first, end))
        taken = widths[0] + sum(widths[one] + 2 for one in [*blocks[-1], *unit])
        if blocks[-1] and taken > width:
            blocks.append([])
        blocks[-1] += unit
    return "\n".join(_block(header, rows, [0, *columns], widths) for columns in blocks)


def _block(header: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[int], widths: Sequence[int]) -> str:
    lines = ["  ".join("-" * widths[column] for column in columns)]
    for row in [header, *rows]:
        cells = [row[0].ljust(widths[0]), *(row[column].rjust(widths[column]) for column in columns[1:])]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([lines[1], lines[0], *lines[2:]]) + "\n"
