"""Load whole Keras models from files that may come from anywhere."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras

from rsml.utils.errors import UserError
from rsml.weights.arrays import find_weights
from rsml.weights.keras2 import is_legacy, load_legacy
from rsml.weights.screen import screen


def load_model(source: str | Path, trust: bool = False) -> keras.Model:
    """Loads a `.keras` or full `.h5` model, or the best model of a run folder; not compiled.

    A full `.h5` file of Keras 2 is rebuilt from today's layers (see `rsml.weights.keras2`).

    Args:
        source: The file or run folder.
        trust: Load a model that carries code of its own (Lambda layers), which then runs.
    """
    path = find_weights(source)
    config = model_config(path)
    programs, unknown = screen(config)
    if programs and not trust:
        raise UserError(
            f"{path} carries code that would run on this machine ({', '.join(programs)}); "
            "pass trust=True (--trust) if you know who wrote it."
        )
    # Bytecode is not rebuilt: whoever trusts it has Keras itself read the file.
    if is_legacy(path) and not programs:
        return load_legacy(path, config)
    writer = saved_by(path)
    if writer and _numbers(writer) < (3,):
        raise UserError(
            f"{path} is a .keras file of Keras {writer}, which Keras 3 does not read; load it there, save it as .h5, "
            "and give that file."
        )
    if unknown:
        raise _not_known(path, unknown[0])
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=not trust)
    except Exception as error:
        # Keras raises nearly any type here (KeyError, TypeError, OSError ...); the first line says what it met.
        missing = re.search(r"Could not locate (?:class|function) '([^']+)'|Unknown layer: '?([\w>]+)", str(error))
        if missing:
            raise _not_known(path, missing[1] or missing[2]) from None
        if writer and _numbers(writer) > _numbers(keras.__version__):
            raise UserError(
                f"{path} was saved by Keras {writer}, which writes options that Keras {keras.__version__} does not "
                "know; load it with that version."
            ) from None
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(f"{path} cannot be loaded by Keras {keras.__version__}: {reason}") from None


def _not_known(path: Path, name: str) -> UserError:
    return UserError(
        f"{path} needs {name!r}, which is not known here; import the package that defines it before loading."
    )


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
        # Either format may begin behind other bytes. A file that is both could show one model and load another.
        is_zip, is_hdf5 = zipfile.is_zipfile(path), h5py.is_hdf5(path)
        if is_zip and is_hdf5:
            raise UserError(f"{path} is a zip file and an HDF5 file at once; such a file is not opened.")
        if is_zip:
            with zipfile.ZipFile(path) as archive:
                if "config.json" in archive.namelist():
                    return json.loads(archive.read("config.json"))
        elif is_hdf5:
            with h5py.File(path, "r") as file:
                if "model_config" in file.attrs:
                    return json.loads(file.attrs["model_config"])
                raise UserError(
                    f"{path} holds weights alone, no model; name a backbone and give the file as its weights."
                )
    except PermissionError:
        raise UserError(f"{path} cannot be read: no permission.") from None
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged ({str(error).strip().splitlines()[0]}); get the file again.") from None
    raise UserError(f"{path} is no Keras model; give a .keras file, a whole-model .h5 file or a run folder.")
