"""What an experiment is: typed, validated, printable, overridable from the command line."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from rsml.data.augment import Augment, check_shape
from rsml.data.source import Data
from rsml.methods import METHODS, Method
from rsml.methods.objectives import Objective
from rsml.utils.errors import UserError
from rsml.utils.settings import Settings, nearest, one_line


class Callback(Settings):
    """A Keras callback of another package, also written short as its import path alone.

    Attributes:
        use: Import path, "package.module:Class".
        options: Keyword arguments of the class.
    """

    use: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    options: dict[str, Any] = {}


def _callbacks(value: Any) -> Any:
    items = [value] if isinstance(value, (str, dict)) else value
    return [{"use": item} if isinstance(item, str) else item for item in items]


class Model(Settings):
    """The network but for what the methods put into it.

    Attributes:
        backbone: "small", "resnet18", a `keras.applications` name, "keras_hub:<preset>", or a `.keras` / `.h5` file.
        weights: "imagenet", a weights file, a run folder, or None for a random start.
        preprocess: How the backbone wants its pixels; None takes what its name or file says.
        pooling: How the feature map becomes one vector.
        dropout: Fraction of pooled features dropped while training.
        trust: Let a model file run the code it carries (Lambda layers).
    """

    backbone: str = "small"
    weights: str | None = None
    preprocess: str | None = None
    pooling: Literal["average", "max"] = "average"
    dropout: float = Field(0.0, ge=0, lt=1)
    trust: bool = False


class Training(Settings):
    """How the weights are found.

    Attributes:
        learning_rate: Rate of the new parts, at the top of the schedule.
        backbone_rate: The backbone's rate as a fraction of `learning_rate`; None is 0.1 on pretrained weights, else 1.
        weight_decay: L2 in the gradient for adam and sgd (PyTorch's meaning), decoupled for adamw; never on
            biases and norms.
        schedule: "step" multiplies by `step_factor` every `step_epochs`, or at each of `milestones` (fractions of all
            epochs) by its factor; "plateau" does when `monitor` is no better for `plateau_patience` epochs.
        freeze: Keep the backbone as it is: for all epochs (True), or for that many first ones.
        freeze_batch_norm: Keep the backbone's normalisation statistics as pretrained.
        label_noise: Fraction of training labels flipped, to measure robustness. Never touches validation or test.
        class_weights: Weigh each label's positives by negatives / positives, or each class by its inverse frequency.
        monitor: Validation metric that chooses the best epoch; None is example_f1, or accuracy for single-label data.
        patience: Stop after this many epochs without a better `monitor`; None never stops early.
        precision: "float32", "mixed_float16", "mixed_bfloat16", or "auto": half precision where the processor or GPU
            computes faster in it.
        average: Serve the moving average of the weights with this momentum, such as 0.995; None serves the weights.
        layer_decay: Factor on the backbone's rate for each twelfth of its layers, counted from the head.
        accumulate: Batches whose gradients make one step.
        sizes: Image size from a fraction of the epochs on, such as {0: 128, 0.5: 160, 0.8: 224}; empty: always
            `data.image_size`, which is the size that is served.
        xla: Compile the step with XLA: worth it on a GPU, slower on every CPU measured.
        h5: Write the best model as best.h5 too.
        callbacks: Keras callbacks that follow the training (a tracker, a checkpoint of your own): import paths,
            "package.module:Class", or {"use": ..., "options": {...}}.
    """

    epochs: PositiveInt = 20
    batch_size: PositiveInt = 16
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: PositiveFloat = 1e-3
    backbone_rate: NonNegativeFloat | None = None
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: NonNegativeFloat = 0.0
    clip_norm: PositiveFloat | None = None
    schedule: Literal["constant", "step", "cosine", "plateau"] = "cosine"
    warmup_epochs: NonNegativeFloat = 0.0
    step_epochs: PositiveInt = 25
    step_factor: float = Field(0.1, gt=0, lt=1)
    milestones: dict[float, float] = {}
    plateau_patience: PositiveInt = 5
    minimum_rate: NonNegativeFloat = 0.0
    freeze: bool | NonNegativeInt = False
    freeze_batch_norm: bool = False
    label_noise: float = Field(0.0, ge=0, lt=0.5)
    class_weights: bool = False
    monitor: str | None = None
    patience: PositiveInt | None = None
    precision: Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    average: float | None = Field(None, gt=0, lt=1)
    layer_decay: float = Field(1.0, gt=0, le=1)
    accumulate: PositiveInt = 1
    sizes: dict[float, Annotated[PositiveInt, Field(le=4096)]] = {}
    xla: bool = False
    h5: bool = False
    callbacks: Annotated[tuple[Callback, ...], pydantic.BeforeValidator(_callbacks)] = ()


class Evaluation(Settings):
    """What is measured once the weights are found.

    Attributes:
        batch_size: Images a prediction step.
        tune_thresholds: Choose each label's threshold on the validation part; else every threshold is 0.5.
        threshold_objective: What the chosen thresholds maximise.
        resamples: Bootstrap resamples behind the 95 % intervals; 0 leaves the intervals out.
        figures: Draw the run's figures.
        bootstrap_chart: Draw the distribution of the task's first metric over the resamples too.
    """

    batch_size: PositiveInt = 32
    tune_thresholds: bool = False
    threshold_objective: Literal["f1", "f2"] = "f1"
    resamples: NonNegativeInt = 1000
    figures: bool = True
    bootstrap_chart: bool = False


def _as_list(value: Any) -> list:
    if isinstance(value, str):
        return [part.strip() for part in value.split("+") if part.strip()]
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _method(value: Any) -> Method:
    if isinstance(value, Method):
        return value
    options = {"kind": value} if isinstance(value, str) else dict(value)
    kind = str(options.get("kind"))
    if kind not in METHODS:
        raise ValueError(f"unknown method '{kind}'{nearest(kind, METHODS)}")
    return METHODS[kind].model_validate(options)


Methods = Annotated[
    tuple[pydantic.SerializeAsAny[Method], ...],
    pydantic.BeforeValidator(lambda value: tuple(_method(item) for item in _as_list(value))),
]
"""Methods in their order, also written short: "signa+ml-gcn"."""


class Experiment(Settings):
    """A whole experiment: data, network, methods, training. Nothing else decides what a run does."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+=-]*$")
    seed: NonNegativeInt = 0
    data: Data = Data()
    augment: Augment = Augment()
    model: Model = Model()
    methods: Methods = ()
    objective: Objective | None = None
    training: Training = Training()
    evaluation: Evaluation = Evaluation()

    @pydantic.model_validator(mode="after")
    def _one_of_each(self) -> Experiment:
        kinds = [method.kind for method in self.methods]
        classifiers = [method.kind for method in self.methods if method.replaces_logits]
        if len(classifiers) > 1:
            raise ValueError(f"methods {' and '.join(classifiers)} each bring a classifier; keep one of them")
        poolings = {method.pooling() for method in self.methods} - {None}
        if len(poolings) > 1:
            raise ValueError(f"methods {', '.join(kinds)} want different poolings ({', '.join(sorted(poolings))})")
        for method in self.methods:
            method.check(self.training.batch_size)
        side = self.data.image_size
        check_shape(self.augment, (side, side, len(self.data.bands) if self.data.bands else 3))
        return self

    def dump(self) -> dict[str, Any]:
        """The experiment with every default, as plain JSON values."""
        return self.model_dump(mode="json")

    def text(self) -> str:
        """The experiment as indented JSON."""
        return json.dumps(self.dump(), indent=2)

    @classmethod
    def parse(cls, values: dict[str, Any], subject: str = "experiment") -> Experiment:
        """Validates plain values; a fault becomes one line that names the key."""
        try:
            return cls.model_validate(values)
        except pydantic.ValidationError as error:
            raise one_line(error, subject) from None


def override(experiment: Experiment, settings: Sequence[str]) -> tuple[Experiment, list[str]]:
    """Applies `a.b.c=value` settings; returns the new experiment and a line for each value that changed.

    A list is entered by position or, for methods, by kind: `methods.signa.heads=4`.
    """
    values, said = experiment.dump(), []
    for setting in settings:
        path, separator, text = setting.partition("=")
        if not separator:
            raise UserError(f"--set {setting}: expected key=value, for instance --set training.epochs=5")
        path = path.strip()
        if path == "objective.kind" and _literal(text) != (values["objective"] or {}).get("kind"):
            # Another kind has options of its own.
            path = "objective"
        *parents, last = path.split(".")
        place: Any = values
        for depth, key in enumerate(parents):
            place = place[_key(place, key, ".".join(parents[:depth]), setting)]
        last = _key(place, last, ".".join(parents), setting)
        old, place[last] = place[last], _literal(text)
        if path in _WrittenShort.model_fields:
            values[path] = _in_full(path, values[path])
        said.append(f"{path} = {text} (was {old if not isinstance(old, (dict, list)) else json.dumps(old)})")
    return Experiment.parse(values, "--set"), said


class _WrittenShort(Settings):
    """What is often given by name alone, "signa+ml-gcn" or "focal"; whether all fits together is not asked here."""

    methods: Methods = ()
    objective: Objective | None = None


def _in_full(key: str, value: Any) -> Any:
    """What was written short with all its options, so that later settings can enter them."""
    try:
        return _WrittenShort.model_validate({key: value}).model_dump(mode="json")[key]
    except pydantic.ValidationError as error:
        raise one_line(error, "--set") from None


def _key(place: Any, key: str, where: str, setting: str) -> Any:
    if isinstance(place, list):
        kinds = [item.get("kind") if isinstance(item, dict) else None for item in place]
        if key in kinds:
            return kinds.index(key)
        if key.isdigit() and int(key) < len(place):
            return int(key)
        known = [str(kind) for kind in kinds if kind] or [str(position) for position in range(len(place))]
    elif isinstance(place, dict):
        if key in place:
            return key
        known = list(place)
    else:
        hint = f"; set it first: --set {where}=... {where}.{key}=..." if place is None else ""
        raise UserError(f"--set {setting}: '{where}' has no keys below it; it is {place!r}{hint}")
    if not known:
        raise UserError(f"--set {setting}: '{where}' is empty")
    raise UserError(f"--set {setting}: unknown key '{key}'{' in ' + where if where else ''}{nearest(key, known)}")


def _literal(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    return {"True": True, "False": False, "None": None}.get(text, text)


def load_config(path: str | Path, arguments: Sequence[str] = ()) -> Experiment:
    """Reads a config file: Python that sets `experiment`, an `Experiment` or a function that returns one.

    Args:
        path: The file.
        arguments: `key=value` arguments for a config whose `experiment` is a function.
    """
    path = Path(path)
    if not path.is_file():
        there = sorted(item.stem for item in path.parent.glob("*.py")) if path.parent.is_dir() else []
        hint = nearest(path.stem, there) if there else ""
        raise UserError(f"config {path}: no such file{hint}; give one from configs/ with --config")
    spec = importlib.util.spec_from_loader(path.stem, loader=None)
    scope = importlib.util.module_from_spec(spec).__dict__
    scope["__file__"] = str(path)
    try:
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec", dont_inherit=True), scope)
        found = scope.get("experiment")
        if callable(found):
            found = pydantic.validate_call(found)(**_arguments(found, arguments, path))
        elif arguments:
            raise UserError(f"config {path}: takes no arguments, found --arg {arguments[0]}")
    except UserError:
        raise
    except pydantic.ValidationError as error:
        raise one_line(error, f"config {path}") from None
    except SyntaxError as error:
        raise UserError(f"config {path}, line {error.lineno}: {error.msg}: {(error.text or '').strip()}") from None
    except Exception as error:
        line = _line_in(error, str(path))
        raise UserError(f"config {path}{line}: {type(error).__name__}: {error}") from None
    if not isinstance(found, Experiment):
        raise UserError(
            f"config {path}: expected it to set `experiment` to an rsml.config.Experiment, found {type(found).__name__}"
        )
    return found


def _arguments(function: Callable, arguments: Sequence[str], path: Path) -> dict[str, Any]:
    known = list(inspect.signature(function).parameters)
    values = {}
    for argument in arguments:
        key, separator, text = argument.partition("=")
        if not separator or key not in known:
            raise UserError(f"config {path}: unknown argument '{argument}', expected key=value{nearest(key, known)}")
        values[key] = _literal(text)
    for key, parameter in inspect.signature(function).parameters.items():
        if parameter.default is parameter.empty and key not in values:
            raise UserError(f"config {path}: needs --arg {key}=..., see the top of the file")
    return values


def _line_in(error: BaseException, file: str) -> str:
    place, line = error.__traceback__, None
    while place:
        if place.tb_frame.f_code.co_filename == file:
            line = place.tb_lineno
        place = place.tb_next
    return f", line {line}" if line else ""
