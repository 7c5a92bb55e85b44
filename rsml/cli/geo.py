"""Cut georeferenced scenes into tiles, and let a land-cover map say what is under each of them."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from rsml.cli.options import add, out_file, out_folder, percent, picked, pixels, real, share, whole
from rsml.utils.exit_codes import SOME_BAD
from rsml.utils.settings import LARGEST_SEED

_FILTERS = (
    ("max-nodata", 0.1, share, "share of pixels that may be missing"),
    ("black", 20, real(0, 255), "a pixel below is dark; a tile without anything brighter is empty"),
    ("max-dark", 0.1, share, "share of pixels that may be dark"),
    ("min-contrast", 0.05, share, "from the 1st to the 99th percentile, as a share of 255"),
    ("white", 230, real(0, 255), "a pixel above is cloud"),
    ("max-cloud", 0.5, share, "share of pixels that may be cloud"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What there is to say."""
    jobs = parser.add_subparsers(dest="job", required=True, metavar="crop | supervise")
    _add_crop(jobs)
    _add_supervise(jobs)


def _add_crop(jobs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    crop = jobs.add_parser(
        "crop",
        help="cut scenes into 8-bit tiles that keep their place",
        description="Cut scenes into GeoTIFF tiles of 8 bit that keep their place and coordinate system. "
        "FOLDER/tiles.csv lists all tiles, with the reason for each that was dropped. Interrupted, the same command "
        "goes on where it stopped.",
    )
    crop.add_argument(
        "scenes",
        nargs="+",
        metavar="SCENE",
        help="raster, folder, glob, @list.txt; a.tif,b.tif,c.tif are the bands of one scene, name=... names it",
    )
    add(crop, "--out", type=out_folder, required=True, metavar="FOLDER", help="where the tiles go")
    crop.add_argument("--tile", type=pixels, metavar="PIXELS", help="side of a tile (default: 256)")
    crop.add_argument(
        "--step",
        type=pixels,
        metavar="PIXELS",
        help="from one tile to the next (default: 200 for tiles of 256, others in proportion)",
    )
    add(crop, "--bands", help="bands, counted from 1 over all files of a scene (default: all but alpha)")
    crop.add_argument(
        "--stretch",
        choices=["band", "scene", "none"],
        help="limits for each band, one pair for the scene, or values as they are (default: band)",
    )
    crop.add_argument(
        "--percentiles", type=percent, nargs=2, metavar=("LOW", "HIGH"), help="limits of the stretch (default: 1 99)"
    )
    add(crop, "--nodata", "--crs", "--workers", help="processes (default: one a processor, at most one a scene)")
    filters = crop.add_argument_group("which tiles are dropped (brightness: mean of the bands, 0 to 255)")
    for name, value, kind, text in _FILTERS:
        filters.add_argument(f"--{name}", type=kind, metavar="X", help=f"{text} (default: {value})")
    filters.add_argument("--keep-all", action="store_true", help="drop only what cannot be read")


def _add_supervise(jobs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    supervise = jobs.add_parser(
        "supervise",
        help="land-cover proportions under every tile",
        description="Count the land-cover pixels under every tile: land_cover.csv holds the proportions of classes, "
        "left_out.csv the tiles without any, and why. A pixel counts where its centre lies.",
    )
    supervise.add_argument(
        "tiles",
        nargs="+",
        metavar="TILES",
        help="folder that crop wrote, folder of built-in scenes, or any georeferenced rasters",
    )
    supervise.add_argument(
        "--land-cover",
        nargs="+",
        metavar="MAP",
        help="categorical rasters: files, folders, globs; where maps overlap, the first one counts",
    )
    supervise.add_argument(
        "--classes",
        required=True,
        metavar="NAME_OR_FILE",
        help="what the codes mean: geokr, globeland30, worldcover, nlcd, corine, zion, or a .json / .csv file",
    )
    add(
        supervise, "--out", type=out_folder, metavar="FOLDER", help="where the tables go (default: the folder of tiles)"
    )
    supervise.add_argument(
        "--min-covered",
        type=share,
        default=0.5,
        metavar="X",
        help="share of a tile that must be under a class (default: %(default)s)",
    )
    add(
        supervise,
        "--crs",
        "--nodata",
        type=whole(-(2**31), LARGEST_SEED),
        metavar="CODE",
        help="of the maps, if they do not say",
    )
    supervise.add_argument("--no-json", action="store_true", help="write no JSON file of counts for each tile")
    supervise.add_argument(
        "--picture", type=out_file, metavar="FILE", help="draw scene, land cover and tiles side by side (.png, .pdf)"
    )
    supervise.add_argument("--picture-scene", metavar="NAME", help="which scene (default: the first)")
    add(supervise, "--workers")


def run(options: argparse.Namespace) -> int:
    """Does one of the two jobs."""
    from rsml.utils.packages import require

    require("rasterio")
    return {"crop": _crop, "supervise": _supervise}[options.job](options)


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: value for name, value in picked(options, *names).items() if value is not None}


def _crop(options: argparse.Namespace) -> int:
    import csv
    from pathlib import Path

    import pydantic

    from rsml.geo.crop import CropOptions, crop
    from rsml.geo.scene_record import TABLE
    from rsml.geo.tiles import DAMAGED, Filters
    from rsml.utils.errors import UserError
    from rsml.utils.settings import one_line

    filters = _given(options, *(name.replace("-", "_") for name, *_ in _FILTERS))
    if options.keep_all and filters:
        unused = next(iter(filters)).replace("_", "-")
        raise UserError(f"--keep-all: leaves no use for --{unused}; give one or the other")
    given = _given(options, "tile", "step", "bands", "stretch", "percentiles", "nodata", "crs")
    try:
        chosen = CropOptions(**given, filters=None if options.keep_all else Filters(**filters))
    except pydantic.ValidationError as error:
        raise one_line(error, "crop") from None
    counts = crop(options.scenes, options.out, chosen, options.workers)
    for name, count in counts.items():
        if count:
            print(f"{name}: {_sentence(count)}")
    total = sum(counts.values(), Counter())
    if len(counts) > 1:
        print(f"{sum(bool(count) for count in counts.values())} scenes: {_sentence(total)}")
    table = Path(options.out) / TABLE
    if total[DAMAGED]:
        with open(table, encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["reason"] == DAMAGED]
        names = "; ".join(f"{row['scene']} row {row['row']} column {row['column']}" for row in rows[:3])
        more = f" and {len(rows) - 3} more, see the table" if len(rows) > 3 else ""
        print(f"damaged tiles, left out: {names}{more}")
    print(f"table of all tiles: {table}")
    return SOME_BAD if total[DAMAGED] or not all(counts.values()) else 0


def _sentence(counts: Counter[str]) -> str:
    from rsml.geo.tiles import KEPT
    from rsml.utils.text import counted

    dropped = sum(counts.values()) - counts[KEPT]
    reasons = ", ".join(f"{number} {reason}" for reason, number in counts.most_common() if reason != KEPT)
    line = f"{counted(sum(counts.values()), 'tile')}: {counts[KEPT]} kept, {dropped} dropped"
    return line + (f" ({reasons})" if reasons else "")


def _supervise(options: argparse.Namespace) -> int:
    from rsml.geo.supervise import DAMAGED, LEFT_OUT, TABLE, UNREADABLE, supervise
    from rsml.utils.text import counted

    maps = picked(options, "nodata", "crs")
    done = supervise(
        options.tiles,
        options.land_cover,
        options.classes,
        options.out,
        counts=not options.no_json,
        min_covered=options.min_covered,
        workers=options.workers,
        **maps,
    )
    reasons = ", ".join(f"{number} {reason}" for reason, number in done.left_out.most_common())
    left_out = sum(done.left_out.values())
    print(
        f"{counted(done.tiles + left_out, 'tile')}: {done.tiles} with proportions, {left_out} left out"
        + f" ({reasons})" * bool(reasons)
    )
    for name, part in sorted(done.proportions.items(), key=lambda item: -item[1]):
        print(f"{name:>14} {100 * part:6.2f} %")
    if done.unknown:
        codes = ", ".join(f"{code} ({counted(number, 'pixel')})" for code, number in done.unknown.most_common(12))
        print(f"codes outside the classes, left out: {codes}")
    print(f"proportions: {done.folder / TABLE}")
    if done.left_out:
        print(f"tiles left out: {done.folder / LEFT_OUT}")
    if options.picture:
        from rsml.figures.tiles import draw

        sources = (options.tiles, options.land_cover or [], options.classes, done.folder, options.picture_scene)
        print(f"picture: {draw(options.picture, *sources, **maps)}")
    return SOME_BAD if done.left_out.keys() & {DAMAGED, UNREADABLE} else 0
