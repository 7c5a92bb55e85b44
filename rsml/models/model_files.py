"""Load whole Keras models from files that may come from anywhere."""

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras

from rsml.errors import UserError
from rsml.models.weight_files import HDF5_MAGIC, find_weights

# Layers whose config is a program: Python bytecode, or a pickled or scripted module.
_RUNS_CODE = {"Lambda", "__lambda__", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer"}


def load_model(source: str | Path, trust: bool = False) -> keras.Model:
    """Loads a `.keras` or full `.h5` model, or the best model of a run folder; not compiled.

    Args:
        source: The file or run folder.
        trust: Load a model that carries code of its own (Lambda layers), which then runs.
    """
    path = find_weights(source)
    config = model_config(path)
    carried = sorted({kind for kind in _class_names(config) if kind in _RUNS_CODE})
    if carried and not trust:
        raise UserError(
            f"{path} carries code that would run on this machine ({', '.join(carried).strip('_')}); "
            "pass trust=True (--trust) if you know who wrote it."
        )
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=not trust)
    except Exception as error:
        # Keras raises nearly any type here (KeyError, TypeError, OSError ...); the first line says what it met.
        missing = re.search(r"Could not locate (?:class|function) '([^']+)'|Unknown layer: '?([\w>]+)", str(error))
        if missing:
            raise UserError(
                f"{path} needs {missing[1] or missing[2]!r}, which is not known here; import the package "
                "that defines it before loading."
            ) from None
        writer = saved_by(path)
        if writer and _numbers(writer) > _numbers(keras.__version__):
            raise UserError(
                f"{path} was saved by Keras {writer}, which writes options that Keras {keras.__version__} does not "
                "know; load it with that version."
            ) from None
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(f"{path} cannot be loaded by Keras {keras.__version__}: {reason}") from None


def saved_by(path: Path) -> str | None:
    """The version of Keras that wrote a `.keras` file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("metadata.json")).get("keras_version")
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def model_config(path: Path) -> dict[str, Any]:
    """Reads the architecture in a model file as data."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if "config.json" in archive.namelist():
                    return json.loads(archive.read("config.json"))
        else:
            with path.open("rb") as file:
                hdf5 = file.read(8) == HDF5_MAGIC
            if hdf5:
                with h5py.File(path, "r") as file:
                    if "model_config" in file.attrs:
                        return json.loads(file.attrs["model_config"])
                    raise UserError(
                        f"{path} holds weights alone, no model; name a backbone and give the file as its weights."
                    )
    except PermissionError:
        raise UserError(f"{path} cannot be read: no permission.") from None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged: {str(error).strip().splitlines()[0]}") from None
    raise UserError(f"{path} is no Keras model; give a .keras file, a whole-model .h5 file or a run folder.")


def _class_names(config: Any) -> Iterator[str]:
    if isinstance(config, dict):
        if isinstance(config.get("class_name"), str):
            yield config["class_name"]
        for value in config.values():
            yield from _class_names(value)
    elif isinstance(config, list):
        for value in config:
            yield from _class_names(value)
