"""From scenes and a map to training data: python -m rsml.geo crop | supervise"""

import argparse
import sys


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m rsml.geo",
        description="Cut georeferenced scenes into tiles, and let a land-cover map say what is under each of them.",
        epilog="Exit code 0: all is well; 2: bad input; 3: some scenes or tiles could not be read, all others were.",
    )
    jobs = parser.add_subparsers(dest="job", required=True, metavar="crop | supervise")
    _add_crop(jobs)
    _add_supervise(jobs)
    return parser.parse_args(arguments)


def _add_crop(jobs) -> None:
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
    crop.add_argument("--out", required=True, metavar="FOLDER", help="where the tiles go")
    crop.add_argument("--tile", type=int, metavar="PIXELS", help="side of a tile (default: 256)")
    crop.add_argument(
        "--step",
        type=int,
        metavar="PIXELS",
        help="from one tile to the next (default: 200 for tiles of 256, others in proportion)",
    )
    crop.add_argument(
        "--bands", metavar="B,B,B", help="bands, counted from 1 over all files of a scene (default: all but alpha)"
    )
    crop.add_argument(
        "--stretch",
        choices=["band", "scene", "none"],
        help="limits for each band, one pair for the scene, or values as they are (default: band)",
    )
    crop.add_argument(
        "--percentiles", type=float, nargs=2, metavar=("LOW", "HIGH"), help="limits of the stretch (default: 1 99)"
    )
    crop.add_argument("--nodata", type=float, metavar="VALUE", help="of missing pixels, for files that do not say")
    crop.add_argument("--crs", metavar="CODE", help="coordinate system, for files that do not say, e.g. EPSG:32612")
    crop.add_argument(
        "--workers", type=int, metavar="N", help="processes (default: one a processor, at most one a scene)"
    )
    filters = crop.add_argument_group("which tiles are dropped (brightness: mean of the bands, 0 to 255)")
    for name, value, text in (
        ("max-nodata", 0.1, "share of pixels that may be missing"),
        ("black", 20, "a pixel below is dark; a tile without anything brighter is empty"),
        ("max-dark", 0.1, "share of pixels that may be dark"),
        ("min-contrast", 0.05, "from the 1st to the 99th percentile, as a share of 255"),
        ("white", 230, "a pixel above is cloud"),
        ("max-cloud", 0.5, "share of pixels that may be cloud"),
    ):
        filters.add_argument(f"--{name}", type=float, metavar="X", help=f"{text} (default: {value})")
    filters.add_argument("--keep-all", action="store_true", help="drop only what cannot be read")


def _add_supervise(jobs) -> None:
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
    supervise.add_argument("--out", metavar="FOLDER", help="where the tables go (default: the folder of tiles)")
    supervise.add_argument(
        "--min-covered",
        type=float,
        default=0.5,
        metavar="X",
        help="share of a tile that must be under a class (default: %(default)s)",
    )
    supervise.add_argument("--nodata", type=int, metavar="CODE", help="of the maps, if they do not say")
    supervise.add_argument("--crs", metavar="CODE", help="coordinate system of maps that do not say")
    supervise.add_argument("--no-json", action="store_true", help="write no JSON file of counts for each tile")
    supervise.add_argument(
        "--picture", metavar="FILE", help="draw scene, land cover and tiles side by side (.png, .pdf)"
    )
    supervise.add_argument("--picture-scene", metavar="NAME", help="which scene (default: the first)")
    supervise.add_argument("--workers", type=int, metavar="N", help="processes (default: one a processor)")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    options = vars(parse(arguments))
    from rsml.cli.faults import run

    return run(lambda: _start(**options))


def _start(job: str, **options: object) -> int:
    from rsml.geo import jobs as commands

    return {"crop": commands.crop_scenes, "supervise": commands.supervise_tiles}[job](**options)


if __name__ == "__main__":
    sys.exit(main())
