"""Land cover as labels: the classes GeoKR learns, and the table of their shares under each image."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path

import numpy as np

from rsml.data.samples import Samples
from rsml.data.tables import heading, read_cells, share_values
from rsml.utils.errors import UserError

logger = logging.getLogger("rsml")

TABLE = "land_cover.csv"
# Columns of the table that are no class.
_ABOUT = ("path", "scene", "split", "covered")

CLASSES: dict[str, tuple[int, ...]] = {
    "artificial": (80,),
    "bare": (90,),
    "cultivated": (10,),
    "forest": (20,),
    "grassland": (30,),
    "snow": (100,),
    "water": (60,),
    "wetland": (50,),
}
"""The 8 classes of GeoKR and their GlobeLand30 codes; shrubland, tundra and sea are none of them."""


def shares_of(codes: np.ndarray, classes: dict[str, tuple[int, ...]] = CLASSES) -> tuple[np.ndarray, float]:
    """Counts the classes of a land-cover raster.

    Args:
        codes: Any shape, whole numbers from 0 to 255.
        classes: Codes of each class; all others count as not covered.

    Returns:
        `(classes,)` float32 shares of the covered pixels, which sum to one (or are 0 where nothing is covered), and
        the covered fraction of all pixels.
    """
    counts = np.bincount(codes.ravel(), minlength=256)
    pixels = np.array([counts[list(members)].sum() for members in classes.values()], dtype=np.float64)
    covered = pixels.sum()
    return (pixels / max(covered, 1)).astype(np.float32), float(covered / codes.size)


def read_land_cover(
    file: str | Path, root: str | Path | None = None, allow_missing: bool = False, group: str | None = None
) -> Samples:
    """Reads a table of shares: `path`, optionally `scene`, `split` and `covered`, and one column a class.

    Images under which nothing is covered, or whose shares are left empty, have no label; they are counted and left out.

    Args:
        file: The table.
        root: Folder that the paths start from; the table's own if None.
        allow_missing: Use the images that are there, instead of refusing the table for those that are not.
        group: A column that says which images belong together; it is no class.
    """
    file = Path(file)
    root = Path(root) if root is not None else file.parent
    table = read_cells(file, "a table of path and land-cover shares", ours=True)
    head, cells, lines = heading(table), table.below(), np.array(table.lines[1:])
    column = {name: cells[:, number] for number, name in enumerate(head)}
    classes = [number for number, name in enumerate(head) if name not in (*_ABOUT, group)]
    names = [head[number] for number in classes]
    if "path" not in column or len(names) < 2:
        raise UserError(
            f"{file}: its columns are {', '.join(head[:6])}; expected path, optionally split and covered, and a column "
            "of shares for each of two classes or more"
        )
    if group is not None and group not in column:
        raise UserError(f"{file}: no column {group!r} to group by; its columns are {', '.join(head[:6])}")
    paths, shares = column["path"], cells[:, classes]
    uncovered = (shares == "").all(axis=1)
    if "covered" in column:
        covered = share_values(column["covered"][:, None], ["covered"], paths, lines, str(file))
        uncovered |= covered[:, 0] == 0
    there = np.array([os.path.isfile(os.path.join(root, path)) for path in paths], dtype=bool)
    missing = paths[~uncovered & ~there]
    if len(missing) and not allow_missing:
        raise UserError(
            f"{file}: {len(missing)} of its {len(paths)} images (such as {missing[0]!r}) are not under {root}; "
            "complete the set, or leave them out with --allow-missing (in Python: allow_missing=True)"
        )
    keep = ~uncovered & there
    if not keep.any():
        raise UserError(f"{file}: none of its {len(paths)} images lies over known land cover; nothing can be learned")
    for count, why in ((int(uncovered.sum()), "lie over no known land cover"), (len(missing), "are missing")):
        if count:
            logger.info("%s: %d of %d images %s and are left out", file, count, len(paths), why)
    paths = paths[keep]
    if len(set(paths)) < len(paths):
        twice = next(path for path, count in Counter(paths).items() if count > 1)
        raise UserError(f"{file}: {twice!r} has two rows; keep one of them")
    return Samples(
        paths=paths,
        labels=share_values(shares[keep], names, paths, lines[keep], str(file)),
        label_names=tuple(names),
        task="proportions",
        root=root,
        **{
            field: column[name][keep]
            for field, name in (("scenes", "scene"), ("splits", "split"), ("groups", group))
            if name in column
        },
    )
