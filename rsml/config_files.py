"""Config files: found by name, run, and what is wrong with them in one line."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pydantic

from rsml.config import Experiment, literal, override
from rsml.data.options import Division
from rsml.utils.errors import UserError
from rsml.utils.guard import read_json
from rsml.utils.settings import nearest, one_line


def read_experiment(config: str | Path, settings: Sequence[str] = ()) -> tuple[Experiment, list[str]]:
    """An experiment from a config file and `key=value` settings; and a line for each value that they changed.

    A setting whose key is an argument of the config goes to the config, any other one to the experiment it makes.

    Args:
        config: A file, or the name of one in configs/.
        settings: `folder=divided`, `training.epochs=5`; of two with one key the later one holds.
    """
    path = find_config(config)
    found = _execute(path, "experiment")
    known = list(inspect.signature(found).parameters) if callable(found) else []
    own = [setting for setting in settings if setting.partition("=")[0].strip() in known]
    experiment = _experiment(path, found, own)
    return override(experiment, [setting for setting in settings if setting not in own], known)


def load_config(config: str | Path, arguments: Sequence[str] = ()) -> Experiment:
    """Reads a config file: Python that sets `experiment`, an `Experiment` or a function that returns one.

    Args:
        config: A file, or the name of one in configs/.
        arguments: `key=value` arguments for a config whose `experiment` is a function.
    """
    path = find_config(config)
    return _experiment(path, _execute(path, "experiment"), arguments)


def find_config(config: str | Path) -> Path:
    """The file of a config: as it is named, or the one of configs/ here or of this package that has the name."""
    path = Path(config)
    places = [path]
    if path.parent in (Path(), Path("configs")):
        package = Path(__file__).parent
        folders = (Path("configs"), package / "configs", package.parent / "configs")
        places += [folder / f"{path.stem}.py" for folder in folders]
    for place in places:
        if place.is_file():
            return place
    there = sorted(item.stem for place in places if place.parent.is_dir() for item in place.parent.glob("*.py"))
    hint = nearest(path.stem, there) if there else ""
    raise UserError(f"config {path}: no such file{hint}; give one from configs/ with --config")


def read_division(config: str | Path | None, given: dict[str, Any]) -> Division:
    """What a config file sets as `division`, if there is one, with what is given in its place."""
    values: dict[str, Any] = {}
    if config is not None:
        path = find_config(config)
        found = _execute(path, "division")
        if not isinstance(found, Division):
            raise UserError(f"config {path}: expected it to set `division` to an rsml.config.Division")
        values = found.model_dump(exclude_unset=True)
        if given.keys() & {"train", "valid", "test"}:
            values = {key: value for key, value in values.items() if key not in ("train", "valid", "test")}
    if missing := [name.upper() for name in ("source", "dest") if name not in {**values, **given}]:
        raise UserError(f"no {missing[0]}; give SOURCE and DEST, or neither and set both in configs/divide.py")
    try:
        return Division.model_validate({**values, **given})
    except pydantic.ValidationError as error:
        raise one_line(error, "divide") from None


def _execute(path: Path, wanted: str) -> Any:
    """What a config file sets under a name; the config.json of a run is an experiment already."""
    if path.suffix == ".json" and wanted == "experiment":
        return Experiment.parse(read_json(path, advice="give a config of configs/"), str(path))
    spec = importlib.util.spec_from_loader(path.stem, loader=None)
    assert spec is not None
    scope = importlib.util.module_from_spec(spec).__dict__
    scope["__file__"] = str(path)
    with _faults_of(path):
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec", dont_inherit=True), scope)
    return scope.get(wanted)


def _experiment(path: Path, found: Any, arguments: Sequence[str]) -> Experiment:
    if callable(found):
        with _faults_of(path):
            found = pydantic.validate_call(found)(**_arguments(found, arguments, path))
    elif arguments:
        raise UserError(f"config {path}: takes no arguments, found {arguments[0]}")
    if not isinstance(found, Experiment):
        raise UserError(
            f"config {path}: expected it to set `experiment` to an rsml.config.Experiment, found {type(found).__name__}"
        )
    return found


@contextlib.contextmanager
def _faults_of(path: Path) -> Iterator[None]:
    """Says what is wrong with a config file in one line, with the line's number where there is one."""
    try:
        yield
    except UserError:
        raise
    except pydantic.ValidationError as error:
        raise one_line(error, f"config {path}") from None
    except SyntaxError as error:
        raise UserError(f"config {path}, line {error.lineno}: {error.msg}: {(error.text or '').strip()}") from None
    except Exception as error:
        line = _line_in(error, str(path))
        raise UserError(f"config {path}{line}: {type(error).__name__}: {error}") from None


def _arguments(function: Callable[..., Any], arguments: Sequence[str], path: Path) -> dict[str, Any]:
    known = inspect.signature(function).parameters
    values = {}
    for argument in arguments:
        key, separator, text = argument.partition("=")
        if not separator or key not in known:
            raise UserError(f"config {path}: unknown argument '{argument}', expected key=value{nearest(key, known)}")
        values[key] = literal(text)
    for key, parameter in known.items():
        if parameter.default is parameter.empty and key not in values:
            raise UserError(f"config {path}: needs --set {key}=..., see the top of the file")
    return values


def _line_in(error: BaseException, file: str) -> str:
    place, line = error.__traceback__, None
    while place:
        if place.tb_frame.f_code.co_filename == file:
            line = place.tb_lineno
        place = place.tb_next
    return f", line {line}" if line else ""
