"""Which model is meant, and which inputs: found and checked before anything heavy is loaded."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rsml.data.find_images import find_images
from rsml.data.image_index import SUFFIXES
from rsml.run import ROOT, Run
from rsml.utils.errors import UserError
from rsml.utils.text import counted

MODEL_FILES = (".keras", ".h5", ".hdf5")


def split_inputs(inputs: Sequence[str]) -> tuple[str | None, list[str]]:
    """Tells the model from the images: a run folder or a .keras / .h5 file in the first place is the model."""
    if inputs:
        first = Path(inputs[0])
        if (first / "config.json").is_file() or first.suffix.lower() in MODEL_FILES:
            return inputs[0], list(inputs[1:])
    return None, list(inputs)


def find_model(source: str | Path | None) -> tuple[Path, Run | None]:
    """The file of a model, and its run where it has one.

    Args:
        source: A run folder, a checkpoint file, or None for the newest run or the only file in checkpoint/.
    """
    if source is None:
        try:
            run = Run.newest()
        except UserError as fault:
            # Published checkpoints are put into this folder; of several nobody knows which is meant.
            files = sorted(path for path in ROOT.glob("*") if path.suffix.lower() in MODEL_FILES)
            if len(files) == 1:
                return files[0], None
            if not files:
                raise
            raise UserError(
                f"{ROOT}/: no run with a model in it, but {len(files)} checkpoint files; name one: "
                f"rsml predict {files[0]}"
            ) from fault
        return run.files.best, run
    if Path(source).is_dir():
        if runs := _runs_below(source):
            raise _folder_of_runs(source, runs)
        run = Run.open(source)
        return run.files.best, run
    check_file(source)
    return Path(source), None


def check_file(file: str | Path) -> None:
    """Refuses a model file that is not there."""
    if not os.path.exists(file):
        raise UserError(f"{file}: no such file or folder; give a run folder, or a .keras / .h5 file")


def check_model_name(file: str | Path) -> None:
    """Refuses a name that no model can be saved under."""
    if Path(file).suffix not in (".keras", ".h5"):
        raise UserError(f"{file}: expected a file ending in .keras or .h5 to save the model in")


def check_images(named: Sequence[str], suffixes: tuple[str, ...] = SUFFIXES) -> None:
    """Refuses what names no image, before the first one is labelled."""
    for name in named:
        if os.path.isdir(name):
            if os.path.isfile(os.path.join(name, "config.json")):
                raise UserError(f"{name}: a run folder, not images; it goes first: rsml predict {name} IMAGES")
            if runs := _runs_below(name):
                raise _folder_of_runs(name, runs)
        if name != "-":
            next(find_images([name], suffixes), None)


def without_own_pictures(found: Iterable[str], named: Sequence[str]) -> Iterator[str]:
    """Leaves out the figures and pictures that a run holds, but for files that are named themselves."""
    asked = set(named)
    return (path for path in found if path in asked or not _in_a_run(os.path.dirname(path)))


@functools.lru_cache(maxsize=1024)
def _in_a_run(folder: str) -> bool:
    place = Path(folder)
    return any(
        (parent / "config.json").is_file() and any((parent / mark).exists() for mark in ("best.keras", "samples.csv"))
        for parent in (place, *list(place.absolute().parents)[:3])
    )


def _runs_below(folder: str | Path) -> list[str]:
    return sorted(file.parent.name for file in Path(folder).glob("*/config.json"))


def _folder_of_runs(folder: str | Path, runs: Sequence[str]) -> UserError:
    shown = ", ".join(runs[:3]) + (", ..." if len(runs) > 3 else "")
    return UserError(f"{folder}: a folder of {counted(len(runs), 'run')} ({shown}); name one: {Path(folder, runs[0])}")


def find_ready_data(folder: str | Path = "data") -> str:
    """The one data set below a folder that has a validation part, as the published divisions have: data/<set>/valid."""
    ready = sorted(str(part.parent) for part in Path(folder).glob("*/valid") if part.is_dir())
    if len(ready) != 1:
        found = f"{len(ready)} data sets with a valid part ({', '.join(ready[:3])})" if ready else "no data/<set>/valid"
        raise UserError(f"{folder}: {found}; say which labelled data to measure on with --data")
    return ready[0]


def class_folders(data: str | Path) -> tuple[str, ...] | None:
    """The class folders of a data set, of its first part if it is divided, as Keras numbers them: sorted."""
    folder = next((part for name in ("train", "valid", "test") if (part := Path(data, name)).is_dir()), Path(data))
    if not folder.is_dir():
        return None
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return tuple(names) or None
