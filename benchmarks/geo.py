"""Times the cutting of scenes and the counting of land cover, and measures whether memory stays flat.

Run: `python benchmarks/geo.py [--side 4096] [--times 1 4 16] [--layouts tiles strips] [--folder FOLDER]`

Each scene is three bands of 16 bits, deflated, with more and more pixels; each is cut by a process of its own, whose
peak of memory is what the operating system says of it. `--sparse 50000` adds a scene of that side that has data only
at its corner, as files of that size are cut in part; all its tiles are read and looked at.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import rasterio
import rasterio.warp
from rasterio.transform import from_origin
from rasterio.windows import Window

ROOT = Path(__file__).resolve().parent.parent

# A small process stands between, since a child's peak counts from that of the process that starts it.
BETWEEN = """
import resource, subprocess, sys, time
start = time.perf_counter()
status = subprocess.run([sys.executable, "-m", "rsml", "geo", *sys.argv[1:]], stdout=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(status, time.perf_counter() - start, used.ru_utime + used.ru_stime, peak)
"""


def write_scene(path: Path, height: int, width: int, layout: str, filled: int | None = None) -> None:
    """A scene of smooth noise, written block by block; `filled` rows and columns only, if given."""
    random = np.random.default_rng(0)
    side = 1024
    coarse = random.integers(1000, 9000, (3, side // 16, side // 16)).astype(np.uint16)
    block = np.repeat(np.repeat(coarse, 16, axis=1), 16, axis=2) + random.integers(0, 200, (3, side, side), np.uint16)
    shape = {"tiled": True, "blockxsize": 512, "blockysize": 512} if layout == "tiles" else {"blockysize": 1}
    options = {"compress": "deflate", "zlevel": 1, "SPARSE_OK": True, "BIGTIFF": "YES", "interleave": "pixel"}
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=3, dtype="uint16", crs="EPSG:32612",
        transform=from_origin(300_000, 4_100_000, 10, 10), **options, **shape,
    ) as dataset:  # fmt: skip
        for row in range(0, filled or height, side):
            for column in range(0, filled or width, side):
                high, wide = min(side, height - row), min(side, width - column)
                dataset.write(block[:, :high, :wide], window=Window(column, row, wide, high))


def write_map(path: Path, height: int, width: int) -> None:
    """Codes of 10 m in the zone beside the scene's, around it."""
    left, bottom, right, top = rasterio.warp.transform_bounds(
        "EPSG:32612", "EPSG:4326", 300_000, 4_100_000 - 10 * height, 300_000 + 10 * width, 4_100_000
    )
    cell = 1 / 12_000
    rows, columns = int((top - bottom) / cell) + 20, int((right - left) / cell) + 20
    codes = np.random.default_rng(0).choice(np.array([10, 30, 50, 80], np.uint8), (rows, columns))
    with rasterio.open(
        path, "w", driver="GTiff", width=columns, height=rows, count=1, dtype="uint8", crs="EPSG:4326",
        transform=from_origin(left - 10 * cell, top + 10 * cell, cell, cell), compress="deflate", tiled=True,
    ) as dataset:  # fmt: skip
        dataset.write(codes, 1)


def run(*arguments: object) -> tuple[float, float, float]:
    """Seconds, seconds of the processor, and peak of memory in MiB of `rsml geo`, working in one process."""
    command = [sys.executable, "-c", BETWEEN, *map(str, arguments), "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    status, seconds, busy, peak = done.stdout.split()
    if status != "0":
        sys.exit(done.stderr)
    return float(seconds), float(busy), int(peak) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=4096, help="of the smallest scene (default: %(default)s)")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4, 16], help="so many times its pixels")
    parser.add_argument("--layouts", nargs="+", default=["tiles", "strips"], choices=["tiles", "strips"])
    parser.add_argument("--sparse", type=int, default=0, help="side of a scene with data at its corner only")
    parser.add_argument("--folder", help="where the scenes are written for the while (default: a temporary one)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    print("| job | layout | pixels a side | tiles | seconds | CPU seconds | tiles / CPU second | peak MiB |")
    print("|---" * 8 + "|")
    try:
        for layout in options.layouts:
            for times in options.times:
                side = int(options.side * times**0.5)
                measure(folder, layout, side, None, counting=layout == "tiles" and times == options.times[0])
        if options.sparse:
            measure(folder, "tiles", options.sparse, 2048, counting=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(folder: Path, layout: str, side: int, filled: int | None, counting: bool) -> None:
    scene, out = folder / "scene.tif", folder / "out"
    write_scene(scene, side, side, layout, filled)
    figures = run("crop", scene, "--out", out, *[] if filled else ["--keep-all"])
    tiles = len((out / "tiles.csv").read_text().splitlines()) - 1
    name = f"{layout}, data in {filled} x {filled}" if filled else layout
    say("crop", name, side, tiles, *figures)
    if counting:
        write_map(folder / "map.tif", side, side)
        figures = run("supervise", out, "--land-cover", folder / "map.tif", "--classes", "worldcover", "--no-json")
        say("supervise, map of 10 m in degrees", layout, side, tiles, *figures)
    shutil.rmtree(out)


def say(job: str, layout: str, side: int, tiles: int, seconds: float, busy: float, peak: float) -> None:
    print(
        f"| {job} | {layout} | {side} | {tiles} | {seconds:.1f} | {busy:.1f} | {tiles / busy:.0f} | {peak:.0f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
