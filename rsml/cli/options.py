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
from typing import Any

SPLITS = ("train", "valid", "test")
_LIST: dict[str, Any] = {"action": "extend", "nargs": "+", "default": []}


def key_value(text: str) -> str:
    """A setting: `training.epochs=5`."""
    if not text.partition("=")[0].strip() or "=" not in text:
        raise argparse.ArgumentTypeError(f"'{text}': expected KEY=VALUE, for instance training.epochs=5")
    return text


def positive(text: str) -> int:
    """A whole number of 1 or more."""
    return _at_least(text, 1)


def seed(text: str) -> int:
    """A whole number of 0 or more."""
    return _at_least(text, 0)


def _at_least(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"'{text}': expected a whole number of {least} or more")
    return number


def numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas between: `0,10000`."""
    try:
        found = tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        found = ()
    if not found:
        raise argparse.ArgumentTypeError(f"'{text}': expected numbers with commas between, e.g. 0,10000")
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
    "--out": {"metavar": "FILE", "help": "where it goes"},
    "--data": {"metavar": "SOURCE", "help": "labelled data instead of the run's own: a folder or a CSV file"},
    "--labels": {"metavar": "FILE", "help": "label file of the data, where it is not in its usual place"},
    "--root": {"metavar": "FOLDER", "help": "where the images of the run lie now, if they were moved"},
    "--split": {"choices": [*SPLITS, "all"], "help": "part of the data (default: %(default)s)"},
    "--metric": {**_LIST, "metavar": "NAME", "help": "what is compared (default: the task's headline)"},
    "--batch-size": {
        "type": positive,
        "default": 32,
        "metavar": "N",
        "help": "images a step (default: %(default)s)",
    },
    "--workers": {"type": positive, "metavar": "N", "help": "processes (default: one a processor)"},
    "--seed": {"type": seed, "default": 0, "metavar": "N", "help": "(default: %(default)s)"},
    "--task": {"choices": ["multi-label", "single-label"], "help": "(default: what the files say)"},
    "--bands": {"type": bands, "metavar": "N,N,N", "help": "bands of the scenes, counted from 1"},
    "--nodata": {"type": float, "metavar": "VALUE", "help": "of missing pixels, where the file does not say"},
    "--crs": {"metavar": "CODE", "help": "coordinate system of files that do not say, e.g. EPSG:32612"},
    "--fresh": {"action": "store_true", "help": "start over what is done or begun"},
    "--trust": {"action": "store_true", "help": "let a model file run the code it carries"},
    "--json": {"dest": "as_json", "action": "store_true", "help": "print JSON instead of tables"},
}


def picked(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Options as the arguments of a function that calls them by the same names."""
    return {name: getattr(options, name) for name in names}


def add(parser: argparse._ActionsContainer, *names: str, **changes: Any) -> None:
    """Gives a command options that are shared, the last one with changes of its own."""
    for name in names:
        parser.add_argument(name, **{**SHARED[name], **(changes if name == names[-1] else {})})
