"""What is known of a scene that is being cut: how, and what became of each tile; a killed run goes on from it."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from rsml.geo.sources import Source
from rsml.geo.tiles import KEPT, Measures
from rsml.raster.grid import Grid, crs_code
from rsml.utils.errors import UserError
from rsml.utils.files import replacing, write_json
from rsml.utils.guard import read_json

NOTE, TABLE, JOURNAL = "scene.json", "tiles.csv", "journal.csv"
_MEASURES = list(Measures.__dataclass_fields__)
HEADER = ["path", "scene", "row", "column", "left", "bottom", "right", "top", "reason", *_MEASURES]


@dataclass(frozen=True)
class Tile:
    """What became of one tile.

    Args:
        row: First row in the scene.
        column: First column in the scene.
        reason: "kept", or why it was dropped.
        measures: What the filters saw; None where it could not be read.
        size: Bytes of its file.
    """

    row: int
    column: int
    reason: str
    measures: Measures | None = None
    size: int = 0


class SceneRecord:
    """The record of one scene, in its folder: `scene.json` how it is cut, `journal.csv` a line for each tile done.

    Args:
        folder: Of the scene's tiles; its name is the scene's.
        source: The scene's files.
        options: How it is cut, as plain values.

    Raises:
        UserError: The folder holds tiles of other files, or cut otherwise.
    """

    def __init__(self, folder: Path, source: Source, options: dict[str, Any]) -> None:
        self.folder = folder
        self.note: dict[str, Any] = {"files": list(source.files), "versions": _versions(source), "options": options}
        found = self._read_note()
        if found is not None:
            self._check_same(found)
            self.note = found
        folder.mkdir(parents=True, exist_ok=True)
        # What a killed process had begun.
        for leftover in folder.glob(".*.writing-*"):
            leftover.unlink(missing_ok=True)
        if found is None:
            # Before anything else: a folder with files and without this note is somebody else's.
            write_json(folder / NOTE, self.note)
        self.tiles: dict[tuple[int, int], Tile] = {(tile.row, tile.column): tile for tile in self._read_journal()}
        self._journal = self._begin_journal()

    def __enter__(self) -> SceneRecord:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()

    def limits(self, find: Callable[[], list | None]) -> list | None:
        """The limits of the stretch: those that the first tiles were made with, else what `find` says."""
        if "limits" not in self.note:
            self.note["limits"] = find()
            write_json(self.folder / NOTE, self.note)
        return self.note["limits"]

    def file(self, row: int, column: int) -> Path:
        """Where a tile lies."""
        return self.folder / f"{self.folder.name}_r{row:06d}_c{column:06d}.tif"

    def add(self, tile: Tile) -> None:
        """Notes that a tile is done, after its file was written."""
        self.tiles[tile.row, tile.column] = tile
        measured = tile.measures.rounded().values() if tile.measures else [""] * len(_MEASURES)
        self._journal.write(",".join(map(str, [tile.row, tile.column, tile.reason, *measured, tile.size])) + "\n")

    def finish(self, grid: Grid, tile: int) -> None:
        """Writes the scene's table: all tiles, row by row."""
        with replacing(self.folder / TABLE) as beside, open(beside, "w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(HEADER)
            for (row, column), found in sorted(self.tiles.items()):
                path = f"{self.folder.name}/{self.file(row, column).name}" if found.reason == KEPT else ""
                bounds = grid.part(row, column, tile, tile).bounds()
                measured = found.measures.rounded().values() if found.measures else [""] * len(_MEASURES)
                rows.writerow([path, self.folder.name, row, column, *bounds, found.reason, *measured])
        if "crs" not in self.note:
            self.note["crs"] = crs_code(grid.crs)
            write_json(self.folder / NOTE, self.note)

    def _read_note(self) -> dict[str, Any] | None:
        note = self.folder / NOTE
        if note.is_file():
            found: dict[str, Any] = read_json(note, advice=f"remove {self.folder}")
            return found
        if self.folder.is_dir() and any(not entry.name.startswith(".") for entry in self.folder.iterdir()):
            raise UserError(f"{self.folder}: holds other files and no {NOTE}; choose another --out")
        return None

    def _check_same(self, found: dict[str, Any]) -> None:
        if found["versions"] != self.note["versions"]:
            raise UserError(
                f"{self.folder}: holds tiles of {', '.join(found['files'])} as it was when they were cut, found "
                f"{', '.join(self.note['files'])}; choose another --out or name, or remove the folder"
            )
        old, new = _flat(found["options"]), _flat(self.note["options"])
        different = [f"{key} {old.get(key)}, not {new.get(key)}" for key in new if old.get(key) != new[key]]
        if different:
            raise UserError(
                f"{self.folder}: its tiles were cut with {'; '.join(different)}; choose another --out, or remove it"
            )

    def _read_journal(self) -> list[Tile]:
        """The tiles that are done; one whose file is gone or not whole is not."""
        try:
            lines = (self.folder / JOURNAL).read_text(encoding="utf-8").splitlines(keepends=True)
        except FileNotFoundError:
            return []
        sizes = {entry.name: entry.stat().st_size for entry in os.scandir(self.folder)}
        tiles = []
        for line in lines:
            cells = line.split(",")
            if len(cells) != 4 + len(_MEASURES) or not line.endswith("\n"):
                continue
            row, column, reason, *measured, size = cells
            measures = Measures(*map(float, measured)) if measured[0] else None
            tile = Tile(int(row), int(column), reason, measures, int(size))
            if tile.reason != KEPT or sizes.get(self.file(tile.row, tile.column).name) == tile.size:
                tiles.append(tile)
        return tiles

    def _begin_journal(self) -> TextIO:
        """Opens the journal to go on; a last line that was cut short ends here."""
        journal = self.folder / JOURNAL
        whole = not journal.exists() or journal.read_bytes()[-1:] in (b"", b"\n")
        file = open(journal, "a", encoding="utf-8", newline="", buffering=1)  # noqa: SIM115
        if not whole:
            file.write("\n")
        return file


def _versions(source: Source) -> list[list]:
    """Name, size and time of change of every file."""
    return [
        [os.path.basename(file), os.stat(file).st_size, os.stat(file).st_mtime_ns] if os.path.exists(file) else [file]
        for file in source.files
    ]


def _flat(options: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in options.items():
        result |= _flat(value, f"{key}.") if isinstance(value, dict) else {prefix + key: value}
    return result
