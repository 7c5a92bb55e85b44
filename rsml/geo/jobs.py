"""What `python -m rsml.geo` does with its arguments, and what it prints."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pydantic

from rsml.geo.crop import SOME_FAILED, CropOptions, crop
from rsml.geo.scene_record import TABLE
from rsml.geo.supervise import DAMAGED as DAMAGED_MAP
from rsml.geo.supervise import LEFT_OUT, UNREADABLE, supervise
from rsml.geo.supervise import TABLE as PROPORTIONS
from rsml.geo.tiles import DAMAGED, KEPT, Filters
from rsml.utils.errors import UserError
from rsml.utils.settings import one_line


def crop_scenes(
    scenes: list[str], out: str, bands: str | None, keep_all: bool, workers: int | None, **options: Any
) -> int:
    """Cuts scenes and prints how many tiles there are of each reason."""
    given = {name: value for name, value in options.items() if value is not None}
    filters = {name: given.pop(name) for name in Filters.model_fields if name in given}
    if keep_all and filters:
        raise UserError(
            f"--keep-all: leaves no use for --{next(iter(filters)).replace('_', '-')}; give one or the other"
        )
    try:
        given["filters"] = None if keep_all else Filters(**filters)
        if bands is not None:
            given["bands"] = tuple(bands.replace(",", " ").split())
        chosen = CropOptions(**given)
    except pydantic.ValidationError as error:
        raise one_line(error, "crop") from None
    counts = crop(scenes, out, chosen, workers)
    for name, count in counts.items():
        if count:
            print(f"{name}: {_sentence(count)}")
    total = sum(counts.values(), Counter())
    if len(counts) > 1:
        print(f"{sum(bool(count) for count in counts.values())} scenes: {_sentence(total)}")
    if total[DAMAGED]:
        print(f"damaged tiles, left out: {_named(out, DAMAGED)}")
    print(f"table of all tiles: {Path(out) / TABLE}")
    return SOME_FAILED if total[DAMAGED] or not all(counts.values()) else 0


def supervise_tiles(
    tiles: list[str],
    land_cover: list[str] | None,
    classes: str,
    no_json: bool,
    picture: str | None,
    picture_scene: str | None,
    **options: Any,
) -> int:
    """Writes proportions under tiles and prints what is under all of them together."""
    done = supervise(tiles, land_cover, classes, counts=not no_json, **options)
    reasons = ", ".join(f"{number} {reason}" for reason, number in done.left_out.most_common())
    left_out = sum(done.left_out.values())
    print(
        f"{done.tiles + left_out} tiles: {done.tiles} with proportions, {left_out} left out"
        + f" ({reasons})" * bool(reasons)
    )
    for name, share in sorted(done.proportions.items(), key=lambda item: -item[1]):
        print(f"{name:>14} {100 * share:6.2f} %")
    if done.unknown:
        codes = ", ".join(f"{code} ({number} pixels)" for code, number in done.unknown.most_common(12))
        print(f"codes outside the classes, left out: {codes}")
    print(f"proportions: {done.folder / PROPORTIONS}")
    if done.left_out:
        print(f"tiles left out: {done.folder / LEFT_OUT}")
    if picture:
        from rsml.figures.tiles import draw

        maps = {name: options[name] for name in ("nodata", "crs")}
        print(f"picture: {draw(picture, tiles, land_cover or [], classes, done.folder, picture_scene, **maps)}")
    return SOME_FAILED if done.left_out.keys() & {DAMAGED_MAP, UNREADABLE} else 0


def _sentence(counts: Counter) -> str:
    dropped = sum(counts.values()) - counts[KEPT]
    reasons = ", ".join(f"{number} {reason}" for reason, number in counts.most_common() if reason != KEPT)
    return f"{sum(counts.values())} tiles: {counts[KEPT]} kept, {dropped} dropped" + (
        f" ({reasons})" if reasons else ""
    )


def _named(out: str, reason: str, most: int = 3) -> str:
    """The first tiles that were dropped for a reason, by scene, row and column."""
    with open(Path(out) / TABLE, encoding="utf-8", newline="") as file:
        names = [
            f"{row['scene']} row {row['row']} column {row['column']}"
            for row in csv.DictReader(file)
            if row["reason"] == reason
        ]
    more = f" and {len(names) - most} more, see the table" if len(names) > most else ""
    return "; ".join(names[:most]) + more
