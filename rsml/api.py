"""What Python users call: train by name with overrides, and images as the networks see them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from rsml.config import Experiment
from rsml.config_files import load_config
from rsml.data.find_images import find_images
from rsml.run import ROOT, Run
from rsml.utils.errors import UserError
from rsml.utils.settings import Settings, nearest

if TYPE_CHECKING:
    import keras

Images: TypeAlias = str | Path | Sequence[str | Path] | pd.DataFrame
_WRITTEN_SHORT = ("methods", "objective")


def train(
    experiment: Experiment | str | Path = "scenes",
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    root: str | Path = ROOT,
    fresh: bool = False,
    **settings: Any,
) -> Run:
    """Trains an experiment, or goes on where it stopped, and evaluates its best epoch.

    Args:
        experiment: An `Experiment`, the name of a built-in config ("scenes", "signa", ...), or a config file.
        callbacks: Keras callbacks that follow the training; those a run must have again when it is resumed belong
            into `training.callbacks` instead. They see every column of the history, and their `model` saves, predicts
            and describes itself as the model that is served.
        root: Folder of all runs.
        fresh: Start over instead of going on.
        **settings: Changes to the experiment. A name is that of a top-level option (`name`, `seed`, `methods`) or of
            the one option below that is called so (`epochs` is `training.epochs`); where several are, it is given
            whole: `**{"evaluation.batch_size": 8}`.

    Returns:
        The run, with best.keras, metrics.json and predictions.csv in its folder.

    Examples:
        >>> run = rsml.train("scenes", source="photos", image_size=32, methods=(), epochs=1, name="example")
        1/1 - ... - loss: ... - val_accuracy: ... - val_macro_f1: ...
        >>> run.metrics["test"]["accuracy"] <= 1
        True
        >>> rsml.train("scenes", epoch=1)
        Traceback (most recent call last):
        rsml.utils.errors.UserError: train: unknown option 'epoch' (did you mean 'epochs'?)
    """
    from rsml.training.loop import train as train_experiment  # TensorFlow: a misspelt option is named before it loads.

    if not isinstance(experiment, Experiment):
        experiment = load_config(experiment)
    return train_experiment(with_settings(experiment, settings), callbacks=callbacks, root=root, fresh=fresh)


def images(paths: Images, size: int | tuple[int, int], **reading: Any) -> np.ndarray:
    """Reads images as the very batch that training and prediction see.

    A model was trained on images shrunk with antialiasing. `keras.utils.image_dataset_from_directory` shrinks without
    it, which costs some 3 points of accuracy; give a model what this function returns.

    Args:
        paths: A folder, an image, paths, or a table with a column `path`.
        size: Side, or (height, width), that every image is stretched to.
        **reading: `bands`, `value_range` and `antialias` of the experiment's data, where they are not the usual ones.

    Returns:
        `(images, height, width, bands)` float32 of 0 to 255.

    Examples:
        >>> batch = rsml.images("photos", size=32)
        >>> batch.shape, batch.dtype
        ((36, 32, 32, 3), dtype('float32'))
    """
    from rsml.data.pipeline import evaluation_dataset, naming_bad_images  # TensorFlow.

    files = image_paths(paths)
    named = {key: reading[key] for key in ("bands", "value_range") if key in reading}
    with naming_bad_images(files, **named):
        dataset = evaluation_dataset(files, image_size=size, batch_size=32, **reading)
        return np.concatenate([batch.numpy() for batch, _ in dataset])


def image_paths(images: Images) -> list[str]:
    """The image files that are meant: those below a folder, those listed, or those of a table's column `path`."""
    if isinstance(images, pd.DataFrame):
        if "path" not in images:
            raise UserError(f"images: a table with columns {', '.join(map(str, images.columns))}; expected one 'path'")
        paths = [os.fspath(path) for path in images["path"]]
        if missing := [path for path in paths if not os.path.isfile(path)]:
            raise UserError(f"{missing[0]}: no such image ({len(missing)} of the table's {len(paths)} are missing)")
        return paths
    several = [images] if isinstance(images, (str, Path)) else list(images)
    found = list(find_images(os.fspath(path) for path in several))
    if not found:
        raise UserError("images: none given; expected a folder, paths, or a table with a column 'path'")
    return found


def with_settings(experiment: Experiment, settings: dict[str, Any]) -> Experiment:
    """The experiment with some options changed, each by its name or its path; see `train`."""
    # What is often written short is spelt out first, so that its own options can be given beside it.
    short = {key: _as_json(value) for key, value in settings.items() if key in _WRITTEN_SHORT}
    if short:
        experiment = Experiment.parse({**experiment.dump(), **short}, "train")
    values = experiment.dump()
    places = dict(_places(values))
    for name, value in settings.items():
        if name in _WRITTEN_SHORT:
            continue
        holder, key = places[_path(name, list(places))]
        holder[key] = _as_json(value)
    return Experiment.parse(values, "train")


def _path(name: str, paths: list[str]) -> str:
    if name in paths:
        return name
    meant = [path for path in paths if path.rpartition(".")[2] == name]
    if len(meant) > 1:
        each = ", ".join(f'**{{"{path}": ...}}' for path in meant)
        raise UserError(f"train: '{name}' is an option of several parts; give it whole: {each}")
    if not meant:
        known = paths if "." in name else {path.rpartition(".")[2] for path in paths}
        raise UserError(f"train: unknown option '{name}'{nearest(name, known)}")
    return meant[0]


def _places(values: Any, prefix: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Every option by its path, with what holds it; a method's options are entered by its kind."""
    if isinstance(values, dict):
        entries = [(key, key, value) for key, value in values.items()]
    else:
        entries = [
            (i, item["kind"], item) for i, item in enumerate(values) if isinstance(item, dict) and "kind" in item
        ]
    for key, name, value in entries:
        yield f"{prefix}{name}", (values, key)
        if isinstance(value, (dict, list)):
            yield from _places(value, f"{prefix}{name}.")


def _as_json(value: Any) -> Any:
    """A value as a config file's JSON has it."""
    if isinstance(value, Settings):
        return value.model_dump(mode="json")
    return [_as_json(item) for item in value] if isinstance(value, (list, tuple)) else value
