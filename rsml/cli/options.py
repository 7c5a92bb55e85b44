"""Every option that several commands have: one spelling, one meaning, written once.

| option | means |
|---|---|
| `--config`, `--set` | an experiment and what is changed in it, arguments of the config included |
| `--name`, `--out` | what the outcome is called, where it goes |
| `--data`, `--labels`, `--root` | labelled data, their label file, where a run's own images lie now |
| `--split` | a part of the data |
| `--metric` | a measure of quality (how vectors are compared is `--distance`) |
| `--class-names` | the classes of a model that names none (`convert`) |
| `--fresh`, `--trust`, `--json` | start over; run the code in a model file; print JSON |
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

from rsml.data.options import LARGEST_BATCH, LARGEST_SIDE
from rsml.utils.files import check_writable
from rsml.utils.settings import LARGEST_SEED, MOST

SPLITS = ("train", "valid", "test")
_LARGEST = 3.4e38
_LIST: dict[str, Any] = {"action": "extend", "nargs": "+", "default": []}


def key_value(text: str) -> str:
    """A setting: `training.epochs=5`."""
    if not text.partition("=")[0].strip() or "=" not in text:
        raise argparse.ArgumentTypeError(f"'{text}': expected KEY=VALUE, for instance training.epochs=5")
    return text


def whole(least: int, most: int) -> Callable[[str], int]:
    """The type of an option that is a whole number between two bounds, which no option goes without."""

    def read(text: str) -> int:
        try:
            number = int(text) if len(text) < 30 else most + 1
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"'{text[:80]}': expected a whole number of {least} or more, up to {most}")
        return number

    return read


positive = whole(1, MOST)
seed = whole(0, LARGEST_SEED)
pixels = whole(1, LARGEST_SIDE)
batch = whole(1, LARGEST_BATCH)
processes = whole(1, 1024)


def real(least: float, most: float, missing: bool = False) -> Callable[[str], float]:
    """The type of an option that is a number between two bounds.

    Args:
        least: Smallest.
        most: Greatest.
        missing: Whether it may be NaN, as the mark of missing pixels is in many rasters.
    """

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.inf
        if not (least <= number <= most or (missing and math.isnan(number))):
            raise argparse.ArgumentTypeError(f"'{text[:80]}': expected a number of {least:g} to {most:g}")
        return number

    return read


share = real(0, 1)
percent = real(0, 100)
pixel_value = real(-_LARGEST, _LARGEST, missing=True)


def out_file(text: str) -> str:
    """A file that can be written; anything else is refused before the work that would fill it."""
    check_writable(text)
    return text


def out_folder(text: str) -> str:
    """A folder that can be made or written to."""
    check_writable(text, folder=True)
    return text


def out_place(text: str) -> str:
    """A file or folder that can be written, where the inputs decide which."""
    check_writable(text, folder=None)
    return text


def numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas between: `0,10000`."""
    try:
        found = tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        found = ()
    if not found or not all(map(math.isfinite, found)):
        raise argparse.ArgumentTypeError(f"'{text[:80]}': expected numbers with commas between, e.g. 0,10000")
    return found


def bands(text: str) -> tuple[int, ...]:
    """Bands, counted from 1: `4,3,2`."""
    try:
        return tuple(positive(part) for part in text.replace(",", " ").split()) or (positive(text),)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"'{text}': expected bands counted from 1, e.g. 4,3,2") from None


SHARED: dict[str, dict[str, Any]] = {
    "model": {"metavar": "RUN_OR_CHECKPOINT", "help": "a run folder, or a .keras / .h5 file"},
    "--config": {
        "default": "scenes",
        "metavar": "FILE",
        "help": "experiment file, or a name in configs/ (default: %(default)s)",
    },
    "--set": {
        **_LIST,
        "type": key_value,
        "metavar": "KEY=VALUE",
        "help": "an argument of the config (folder=divided) or a value of the experiment (training.epochs=5)",
    },
    "--name": {"help": "name of the run folder (default: the config's)"},
    "--out": {"type": out_file, "metavar": "FILE", "help": "where it goes"},
    "--data": {"metavar": "SOURCE", "help": "labelled data instead of the run's own: a folder or a CSV file"},
    "--labels": {"metavar": "FILE", "help": "label file of the data, where it is not in its usual place"},
    "--root": {"metavar": "FOLDER", "help": "where the images of the run lie now, if they were moved"},
    "--split": {"choices": [*SPLITS, "all"], "help": "part of the data (default: %(default)s)"},
    "--metric": {**_LIST, "metavar": "NAME", "help": "what is compared (default: the task's headline)"},
    "--batch-size": {
        "type": batch,
        "default": 32,
        "metavar": "N",
        "help": "images a step (default: %(default)s)",
    },
    "--workers": {"type": processes, "metavar": "N", "help": "processes (default: one a processor)"},
    "--seed": {"type": seed, "default": 0, "metavar": "N", "help": "(default: %(default)s)"},
    "--task": {"choices": ["multi-label", "single-label"], "help": "(default: what the files say)"},
    "--bands": {"type": bands, "metavar": "N,N,N", "help": "bands of the scenes, counted from 1"},
    "--nodata": {"type": pixel_value, "metavar": "VALUE", "help": "of missing pixels, where the file does not say"},
    "--crs": {"metavar": "CODE", "help": "coordinate system of files that do not say, e.g. EPSG:32612"},
    "--fresh": {"action": "store_true", "help": "start over what is done or begun"},
    "--trust": {"action": "store_true", "help": "let a model file run the code it carries"},
    "--json": {"dest": "as_json", "action": "store_true", "help": "print JSON instead of tables"},
}


def picked(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Options as the arguments of a function that calls them by the same names."""
    return {name: getattr(options, name) for name in names}


RUNS_FOLDER: dict[str, Any] = {
    "type": out_folder,
    "metavar": "FOLDER",
    "default": "checkpoint",
    "help": "folder of all runs (default: %(default)s)",
}
"""What `--out` is where runs are made."""


def add(parser: argparse._ActionsContainer, *names: str, **changes: Any) -> None:
    """Gives a command options that are shared, the last one with changes of its own."""
    for name in names:
        parser.add_argument(name, **{**SHARED[name], **(changes if name == names[-1] else {})})
