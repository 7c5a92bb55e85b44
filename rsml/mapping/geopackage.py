"""Write polygons with their attributes as a GeoPackage: an SQLite file for every GIS, in any coordinate system.

GeoJSON knows only longitude and latitude (RFC 7946), and what else writes GeoPackages brings a second GDAL along; the
few tables that the standard asks for (OGC 12-128r18) are written here with the `sqlite3` of Python.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.crs import CRS
from rasterio.errors import CRSError

_TABLES = """
PRAGMA application_id = 0x47504B47;
PRAGMA user_version = 10300;
CREATE TABLE gpkg_spatial_ref_sys (srs_name TEXT NOT NULL, srs_id INTEGER NOT NULL PRIMARY KEY,
  organization TEXT NOT NULL, organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL, description TEXT);
CREATE TABLE gpkg_contents (table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL, identifier TEXT UNIQUE,
  description TEXT DEFAULT '', last_change DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
  min_x DOUBLE, min_y DOUBLE, max_x DOUBLE, max_y DOUBLE, srs_id INTEGER,
  CONSTRAINT fk_gc_r_srs_id FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys(srs_id));
CREATE TABLE gpkg_geometry_columns (table_name TEXT NOT NULL, column_name TEXT NOT NULL,
  geometry_type_name TEXT NOT NULL, srs_id INTEGER NOT NULL, z TINYINT NOT NULL, m TINYINT NOT NULL,
  CONSTRAINT pk_geom_cols PRIMARY KEY (table_name, column_name), CONSTRAINT uk_gc_table_name UNIQUE (table_name),
  CONSTRAINT fk_gc_tn FOREIGN KEY (table_name) REFERENCES gpkg_contents(table_name),
  CONSTRAINT fk_gc_srs FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys (srs_id));
INSERT INTO gpkg_spatial_ref_sys VALUES
  ('Undefined Cartesian SRS', -1, 'NONE', -1, 'undefined', 'undefined Cartesian coordinates'),
  ('Undefined geographic SRS', 0, 'NONE', 0, 'undefined', 'undefined geographic coordinates');
"""
_WGS84 = CRS.from_epsg(4326)
# Numbers that no authority uses; for systems without an EPSG code.
_OWN_SRS = 100_000


class PolygonLayer:
    """A new GeoPackage with one layer of polygons; a context that completes the file when it is left.

    Args:
        file: The file; it must not exist.
        name: Of the layer.
        crs: Coordinate system, or None.
        columns: Attributes and their SQL types ("TEXT", "INTEGER", "REAL"). Names that SQL takes for one another (it
            does not tell cases apart) get a number at their end.
    """

    def __init__(self, file: Path, name: str, crs: CRS | None, columns: Sequence[tuple[str, str]]) -> None:
        self.name = name
        self._database = sqlite3.connect(file)
        # The file is new and takes its place only when it is whole: a journal would protect nothing.
        self._database.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _TABLES)
        self._srs = self._add_crs(_WGS84)
        self._srs = -1 if crs is None else self._add_crs(crs)
        self._columns = len(columns)
        fields = "".join(
            f", {_quoted(each)} {kind}" for each, (_, kind) in zip(_distinct(columns), columns, strict=True)
        )
        self._database.execute(
            f"CREATE TABLE {_quoted(name)} (fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, geom BLOB{fields})"
        )
        self._low, self._high = np.full(2, np.inf), np.full(2, -np.inf)

    def __enter__(self) -> PolygonLayer:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            if kind is None:
                self._complete()
        finally:
            self._database.close()

    def add(self, corners: np.ndarray, rows: Iterable[Sequence[Any]]) -> None:
        """Adds polygons.

        Args:
            corners: `(polygons, points, 2)` x and y, without the first point again at the end.
            rows: The attributes of each.
        """
        if not len(corners):
            return
        self._low = np.minimum(self._low, corners.min(axis=(0, 1)))
        self._high = np.maximum(self._high, corners.max(axis=(0, 1)))
        places = ", ".join("?" * (self._columns + 1))
        self._database.executemany(
            f"INSERT INTO {_quoted(self.name)} VALUES (NULL, {places})",
            ((self._blob(ring), *row) for ring, row in zip(corners, rows, strict=True)),
        )

    def _blob(self, ring: np.ndarray) -> bytes:
        """Header of GeoPackage (little-endian, with an envelope) and well-known binary of a polygon of one ring."""
        (left, low), (right, high) = ring.min(axis=0), ring.max(axis=0)
        header = struct.pack("<2sBBi4d", b"GP", 0, 0b00000011, self._srs, left, right, low, high)
        closed = np.concatenate([ring, ring[:1]]).astype("<f8")
        return header + struct.pack("<BIII", 1, 3, 1, len(closed)) + closed.tobytes()

    def _add_crs(self, crs: CRS) -> int:
        code = crs.to_epsg()
        try:
            definition = crs.to_wkt()
        except CRSError:
            return -1
        name = definition.split('"')[1] if '"' in definition else "scene"
        known = ("EPSG", code, code) if code else ("NONE", _OWN_SRS, _OWN_SRS)
        self._database.execute(
            "INSERT OR IGNORE INTO gpkg_spatial_ref_sys VALUES (?, ?, ?, ?, ?, NULL)",
            (name, known[1], known[0], known[2], definition),
        )
        return known[1]

    def _complete(self) -> None:
        bounds = (None,) * 4 if np.isinf(self._low).any() else (*self._low.tolist(), *self._high.tolist())
        self._database.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, min_x, min_y, max_x, max_y, srs_id) "
            "VALUES (?, 'features', ?, ?, ?, ?, ?, ?)",
            (self.name, self.name, *bounds, self._srs),
        )
        self._database.execute(
            "INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', 'POLYGON', ?, 0, 0)", (self.name, self._srs)
        )
        self._database.commit()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _distinct(columns: Sequence[tuple[str, str]]) -> list[str]:
    taken, names = {"fid", "geom"}, []
    for name, _ in columns:
        own, number = name, 1
        while own.lower() in taken:
            number += 1
            own = f"{name} {number}"
        taken.add(own.lower())
        names.append(own)
    return names
