"""Load whole Keras models from files that may come from anywhere."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
from keras.src.backend.common import global_state
from keras.src.legacy.saving import saving_utils

from rsml.utils.errors import UserError
from rsml.utils.guard import Damaged, ZipReader, parse_json
from rsml.utils.guard.faults import as_damaged
from rsml.utils.guard.hdf5_files import open_hdf5
from rsml.utils.guard.memory import check_fits_memory
from rsml.utils.text import in_a_line
from rsml.weights.arrays import CONFIG, WEIGHTS, check_finite, find_weights
from rsml.weights.keras2 import build_legacy, is_legacy, load_legacy
from rsml.weights.screen import screen

_METADATA = "metadata.json"


def load_model(source: str | Path, trust: bool = False) -> keras.Model:
    """Loads a `.keras` or full `.h5` model, or the best model of a run folder; not compiled.

    A full `.h5` file of Keras 2 is rebuilt from today's layers (see `rsml.weights.keras2`). The file is looked through
    before Keras sees it: where its bytes lie, how many they are, what its config would run, and whether the network in
    it fits into memory. One whose weights hold NaN or infinity is refused.

    Args:
        source: The file or run folder.
        trust: Load a model that carries code of its own (Lambda layers), which then runs.

    Examples:
        >>> import keras, tempfile, os
        >>> image = keras.Input((8, 8, 3))
        >>> path = os.path.join(tempfile.mkdtemp(), "model.keras")
        >>> keras.Model(image, keras.layers.Flatten()(image)).save(path)
        >>> load_model(path).output_shape
        (None, 192)
    """
    path = find_weights(source)
    config = model_config(path)
    check_container(path)
    model = _load(path, config, trust)
    for variable in model.weights:
        check_finite(str(path), variable.path, keras.ops.convert_to_numpy(variable))
    return model


def _load(path: Path, config: dict[str, Any], trust: bool) -> keras.Model:
    programs, unknown = screen(config)
    if programs and not trust:
        raise UserError(
            f"{path} carries code that would run on this machine ({', '.join(programs)}); "
            "pass trust=True (--trust) if you know who wrote it."
        )
    # Bytecode is not rebuilt: whoever trusts it has Keras itself read the file.
    if is_legacy(path) and not programs:
        _check_memory(path, lambda: build_legacy(path, config))
        return load_legacy(path, config)
    writer = saved_by(path)
    if writer and _numbers(writer) < (3,):
        raise UserError(
            f"{path} is a .keras file of Keras {writer}, which Keras 3 does not read; load it there, save it as .h5, "
            "and give that file."
        )
    if unknown:
        raise _not_known(path, unknown[0])
    if not programs:
        read = keras.saving.deserialize_keras_object if zipfile.is_zipfile(path) else saving_utils.model_from_config
        _check_memory(path, lambda: read(_without_compiling(config)))
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
        raise UserError(f"{path} cannot be loaded by Keras {keras.__version__}: {in_a_line(error)}") from None


def check_container(path: Path) -> None:
    """Refuses a model file that points to other files, or holds less than it declares; see `rsml.utils.guard`."""
    if h5py.is_hdf5(path):
        with open_hdf5(path):
            return
    with ZipReader(path) as archive:
        strange = [name for name in archive.names if name not in (CONFIG, _METADATA, WEIGHTS) and name[:7] != "assets/"]
        if strange:
            raise Damaged(f"{path}: holds {strange[0]!r}, which no .keras file does; save it again with Keras")
        with open_hdf5(archive.read(WEIGHTS), f"{path}: {WEIGHTS} in it"):
            return


def _check_memory(path: Path, build: Callable[[], keras.Model]) -> None:
    """Refuses a network that does not fit into memory, from a build in which no variable gets its numbers."""
    waiting = global_state.get_global_attribute("uninitialized_variables", [], set_to_default=True)
    before = len(waiting)
    try:
        with keras.StatelessScope(initialize_variables=False):
            model = build()
    except UserError:
        raise
    except Exception:
        return  # whoever builds it in earnest says what is wrong with it
    finally:
        # Keras would give the variables of this build their numbers at the next opportunity.
        del waiting[before:]
    check_fits_memory(model, title=str(path), advice="use a machine with more, or a smaller network")


def _without_compiling(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "compile_config"}


def _not_known(path: Path, name: str) -> UserError:
    return UserError(
        f"{path} needs {name!r}, which is not known here; import the package that defines it before loading."
    )


def saved_by(path: Path) -> str | None:
    """The version of Keras that wrote a `.keras` file."""
    if not zipfile.is_zipfile(path):
        return None
    with ZipReader(path) as archive:
        if _METADATA not in archive:
            return None
        version = parse_json(archive.read(_METADATA), f"{path}: {_METADATA} in it").get("keras_version")
    return version if isinstance(version, str) else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d{1,9}", version)[:2])


def model_config(path: Path) -> dict[str, Any]:
    """Reads the architecture in a model file as data."""
    with as_damaged(str(path), "get the file again"):
        # Either format may begin behind other bytes. A file that is both could show one model and load another.
        is_zip, is_hdf5 = zipfile.is_zipfile(path), h5py.is_hdf5(path)
        if is_zip and is_hdf5:
            raise UserError(f"{path} is a zip file and an HDF5 file at once; such a file is not opened.")
        if is_zip:
            with ZipReader(path) as archive:
                if CONFIG in archive:
                    return parse_json(archive.read(CONFIG), f"{path}: {CONFIG} in it", allow_nan=True)
        elif is_hdf5:
            with open_hdf5(path) as file:
                if "model_config" in file.attrs:
                    return parse_json(file.attrs["model_config"], f"{path}: its config", allow_nan=True)
                raise UserError(
                    f"{path} holds weights alone, no model; name a backbone and give the file as its weights."
                )
        with path.open("rb"):  # says what is in the way, if it cannot be read
            pass
    raise UserError(f"{path} is no Keras model; give a .keras file, a whole-model .h5 file or a run folder.")
