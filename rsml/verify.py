"""Whether the files of a run, an index or a division are still what was written, and what can be repaired."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from rsml.config import Experiment
from rsml.data.samples import Samples
from rsml.utils.errors import UserError
from rsml.utils.files import is_leftover
from rsml.utils.guard import Damaged, ZipReader, read_json, read_npz
from rsml.utils.locks import holder
from rsml.utils.manifest import Finding, Manifest

_FRESH = "start the run over with --fresh"
_INDEX, _DIVISION, _TABLE = "index.json", "division.json", "samples.csv"


def verify(folder: str | Path) -> tuple[str, list[Finding]]:
    """Reads every file of a run, index or division folder.

    Args:
        folder: The folder.

    Returns:
        What the folder is, and what is wrong in it; nothing is changed.
    """
    path = Path(folder)
    for name, kind, look in (
        ("config.json", "run", _run),
        (_INDEX, "index", _index),
        (_DIVISION, "division", _division),
    ):
        if (path / name).is_file():
            what, found = kind, look(path)
            break
    else:
        raise UserError(
            f"{path}: neither a run, an index nor a division; expected config.json, {_INDEX} or {_DIVISION}"
        )
    held = holder(path)
    if held is None:
        found += [
            Finding(Path(place) / name, "left by a writer that was killed", "remove it, or run the same command again")
            for place, _, names in os.walk(path)
            for name in names
            if is_leftover(Path(place) / name)
        ]
    return what if held is None else f"{what} (in use by process {held.get('pid')} on {held.get('host')})", found


def _run(folder: Path) -> list[Finding]:
    found: list[Finding] = []
    _try(found, folder / "config.json", _FRESH, lambda p: Experiment.parse(read_json(p), str(p)))
    for name, remedy in (
        ("best.keras", "evaluate another epoch's model (last.keras), or train on: the next better epoch replaces it"),
        ("last.keras", "train on: the next epoch replaces it"),
    ):
        if (folder / name).is_file():
            _try(found, folder / name, remedy, _check_model)
    if (folder / "metrics.json").is_file() and not (folder / "best.keras").is_file():
        found.append(Finding(folder / "best.keras", "is gone, and the run says it is complete", _FRESH))
    states = [
        folder / "state" / name for name in ("state.npz", "state.previous.npz") if (folder / "state" / name).is_file()
    ]
    for state in states:
        remedy = "remove it: training goes on from the other one" if len(states) > 1 else _FRESH
        _try(found, state, remedy, read_npz)
    if (folder / "metrics.json").is_file():
        _try(found, folder / "metrics.json", "remove it and run the same command again", read_json)
    if (folder / "samples.csv").is_file():
        _try(found, folder / "samples.csv", _FRESH, lambda p: _read_table(p, folder / "samples.json"))
    return found + _by_manifest(folder, found)


def _index(folder: Path) -> list[Finding]:
    from rsml.retrieval.index import check_files

    found: list[Finding] = []
    damaged: list[Finding] = []
    _try(found, folder / _INDEX, "make the index again with --fresh", lambda _: damaged.extend(check_files(folder)))
    return found + damaged


def _division(folder: Path) -> list[Finding]:
    found: list[Finding] = []
    about = {}
    _try(found, folder / _DIVISION, f"remove {folder} and divide again", lambda p: about.update(read_json(p)))
    if not about:
        return found
    copied = about.get("how") != "table"
    root = folder if copied else Path(str(about.get("root")))
    samples: list[Samples] = []
    again = f"remove {folder} and divide again"
    _try(
        found,
        folder / _TABLE,
        again,
        lambda path: samples.append(Samples.read_csv(path, root=root, task=about.get("task", "multi-label"))),
    )
    for file in samples[0].files if samples else []:
        if not os.path.isfile(file):
            found.append(
                Finding(Path(file), "is gone", "divide again: what is missing is written" if copied else again)
            )
        elif not os.path.getsize(file):
            found.append(Finding(Path(file), "is empty", "remove it and divide again: what is missing is written"))
    return found + _by_manifest(folder, found)


def _by_manifest(folder: Path, found: list[Finding]) -> list[Finding]:
    manifest, known = Manifest(folder), {finding.file for finding in found}
    return [
        Finding(folder / name, fault, "copy it from where it is whole, or run the same command again with --fresh")
        for name in manifest.names
        if folder / name not in known and (fault := manifest.fault(name))
    ]


def _read_table(path: Path, about: Path) -> None:
    division = read_json(about)
    Samples.read_csv(path, root=Path(str(division.get("root"))), task=division.get("task"))


def _check_model(path: Path) -> None:
    """Unpacks every member, whose checksums are compared; the network is not built."""
    with ZipReader(path) as archive:
        json.loads(archive.read("config.json"))
        for name in archive.names:
            with archive.open(name) as file:
                while file.read(1 << 20):
                    pass


def _try(found: list[Finding], path: Path, remedy: str, check: Callable[[Path], object]) -> None:
    try:
        check(path)
    except UserError as fault:
        words = str(fault).removeprefix(f"{path}: ")
        found.append(Finding(path, words.partition(";")[0] if isinstance(fault, Damaged) else words, remedy))
