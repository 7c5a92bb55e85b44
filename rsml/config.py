"""What an experiment is: typed, validated, printable, overridable from the command line."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from rsml.data.augment_options import Augment, check_shape
from rsml.data.options import LARGEST_BATCH, Data, Division
from rsml.methods import Method, find_method
from rsml.methods.objectives import Objective
from rsml.methods.published_code import PublishedCode
from rsml.utils.errors import UserError
from rsml.utils.settings import LARGEST_SEED, Settings, nearest, one_line

Fraction = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(gt=0, le=1000)]

__all__ = ["Augment", "Callback", "Data", "Division", "Evaluation", "Experiment", "Model", "Training", "override"]


class Callback(Settings):
    """A Keras callback of another package, also written short as its import path alone.

    Attributes:
        use: Import path, "package.module:Class".
        options: Keyword arguments of the class.
    """

    use: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    options: dict[str, Any] = {}


def _callbacks(value: Any) -> Any:
    items = value if isinstance(value, (list, tuple)) else [value]
    return [{"use": item} if isinstance(item, str) else item for item in items]


class Model(Settings):
    """The network but for what the methods put into it.

    Attributes:
        backbone: A name as torchvision spells it ("resnet50", "swin_t", "vit_b_16"), "efficientnet_lite0", "small",
            "keras:ResNet50", "keras_hub:<preset>" and so on, or a `.keras` / `.h5` file; see docs/backbones.md.
        weights: "imagenet", "imagenet_v2" (torchvision's later recipe), a weights file, a run folder, or None for a
            random start. What a file holds besides the backbone is loaded too.
        head: Whether the classifier in the file of `weights` is gone on from: "auto" when its labels are the data's
            (in files that name none: as many), "load" must, "fresh" never.
        preprocess: How the backbone wants its pixels; None takes what its name or file says.
        pooling: How the feature map becomes one vector.
        dropout: Fraction of pooled features dropped while training.
        trust: Let a model file run the code it carries (Lambda layers).
        published_code: Classify as SIGNA's published code does: see `PublishedCode`.
    """

    backbone: str = "small"
    weights: str | None = None
    head: Literal["auto", "load", "fresh"] = "auto"
    preprocess: str | None = None
    pooling: Literal["average", "max"] = "average"
    dropout: float = Field(0.0, ge=0, lt=1)
    trust: bool = False
    published_code: bool = False


def _devices(value: Any) -> Any:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError(f'expected a whole number of 1 or more, or "auto", found {value!r}')


Devices = Annotated[int | Literal["auto"], pydantic.PlainValidator(_devices)]
"""How many devices, or all there are."""


class Training(Settings):
    """How the weights are found.

    Attributes:
        learning_rate: Rate of the new parts, at the top of the schedule.
        backbone_rate: The backbone's rate as a fraction of `learning_rate`; None is 0.1 on pretrained weights, else 1.
        weight_decay: L2 in the gradient for adam and sgd (PyTorch's meaning), decoupled for adamw.
        decay_all: Decay biases and norms too, as the authors of GRN do.
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
        devices: GPUs of this machine (CPUs where there are none) that share each batch, or "auto" for all of them. The
            batch is the whole one, and what is learned is the same to rounding.
        h5: Write the best model as best.h5 too.
        save_every: Keep the state within an epoch too: every so many steps (500), or minutes ("10 min"). It changes no
            result, and may be changed when a run is resumed.
        callbacks: Keras callbacks that follow the training (a tracker, a checkpoint of your own): import paths,
            "package.module:Class", or {"use": ..., "options": {...}}.
    """

    epochs: PositiveInt = 20
    batch_size: int = Field(16, ge=1, le=LARGEST_BATCH)
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: PositiveFloat = 1e-3
    backbone_rate: NonNegativeFloat | None = None
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: NonNegativeFloat = 0.0
    decay_all: bool = False
    clip_norm: PositiveFloat | None = None
    schedule: Literal["constant", "step", "cosine", "plateau"] = "cosine"
    warmup_epochs: NonNegativeFloat = 0.0
    step_epochs: PositiveInt = 25
    step_factor: float = Field(0.1, gt=0, lt=1)
    milestones: dict[Fraction, Factor] = {}
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
    devices: Devices = 1
    h5: bool = False
    save_every: (
        Annotated[int, Field(ge=1, strict=True)] | Annotated[str, Field(pattern=r"^\d{1,6}(\.\d+)? ?min$")] | None
    ) = None
    callbacks: Annotated[tuple[Callback, ...], pydantic.BeforeValidator(_callbacks)] = ()


def _promise(text: str) -> str:
    from rsml.evaluation.promises import Promise

    try:
        Promise.parse(text)
    except UserError as fault:
        raise ValueError(str(fault)) from None
    return text


class Evaluation(Settings):
    """What is measured once the weights are found.

    Attributes:
        batch_size: Images a prediction step.
        tune_thresholds: Choose each label's threshold on the validation part; else every threshold is 0.5.
        threshold_objective: What the chosen thresholds maximise.
        thresholds: A promise instead of thresholds of 0.5 or tuned ones: "recall>=0.95" or "precision>=0.9", kept on
            new images by conformal risk control on the validation part; for single-label data sets of classes, or none.
        calibrate: Fit temperature (single-label) or Platt scaling (multi-label) on the validation part, so that a score
            of 0.8 means 80 %. Thresholds move along and no decision changes. Needs 100 validation images.
        views: Flips and quarter turns of an image that scores are the mean of: 1, 2, 4, or 8 (square images). Measured
            and predicted so; epochs are chosen by one view. Plain Keras serves one view.
        page: Write report.html: all of the run on one page.
        resamples: Bootstrap resamples behind the 95 % intervals; 0 leaves the intervals out.
        figures: Draw the run's figures.
        bootstrap_chart: Draw the distribution of the task's first metric over the resamples too.
    """

    batch_size: int = Field(32, ge=1, le=LARGEST_BATCH)
    tune_thresholds: bool = False
    threshold_objective: Literal["f1", "f2"] = "f1"
    thresholds: Annotated[str, pydantic.AfterValidator(_promise)] | None = None
    calibrate: bool = True
    views: Literal[1, 2, 4, 8] = 1
    page: bool = True
    resamples: int = Field(1000, ge=0, le=100_000)
    figures: bool = True
    bootstrap_chart: bool = False

    @pydantic.model_validator(mode="after")
    def _one_kind_of_thresholds(self) -> Evaluation:
        if self.thresholds is not None and self.tune_thresholds:
            raise ValueError("thresholds and tune_thresholds are two ways to choose them; keep one")
        return self


def _as_list(value: Any) -> list:
    if isinstance(value, str):
        return [part.strip() for part in value.split("+") if part.strip()]
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _method(value: Any) -> Method:
    if isinstance(value, Method):
        return value
    if not isinstance(value, (str, dict)):
        raise ValueError("expected the name of a method, or its name and options as {'kind': ...}")
    options = {"kind": value} if isinstance(value, str) else dict(value)
    # What is no text in a name is shown as such; pydantic's report could not hold it.
    kind = str(options.pop("kind", None))[:1000].encode("utf-8", "backslashreplace").decode()
    method = find_method(kind)
    return method.model_validate(options)


Methods = Annotated[
    tuple[pydantic.SerializeAsAny[Method], ...],
    pydantic.BeforeValidator(lambda value: tuple(_method(item) for item in _as_list(value))),
]
"""Methods in their order, also written short: "signa+ml-gcn"."""


class Experiment(Settings):
    """A whole experiment: data, network, methods, training. Nothing else decides what a run does."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+=-]*$")
    seed: int = Field(0, ge=0, le=LARGEST_SEED)
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
        classifiers = [method.kind for method in self.applied_methods() if method.replaces_logits]
        if len(classifiers) > 1:
            raise ValueError(f"methods {' and '.join(classifiers)} each bring a classifier; keep one of them")
        poolings = {pooling for method in self.methods if (pooling := method.pooling()) is not None}
        if len(poolings) > 1:
            raise ValueError(f"methods {', '.join(kinds)} want different poolings ({', '.join(sorted(poolings))})")
        for method in self.methods:
            method.check(self.training.batch_size)
        hard = [method.kind for method in self.methods if not method.takes_mixed_labels]
        if self.objective is not None and self.objective.kind == "improved-cross-entropy":
            hard.append(self.objective.kind)
        if self.augment.mixes and hard:
            raise ValueError(
                f"augment.mixup and augment.cutmix make labels of shares, which {' and '.join(hard)} cannot learn "
                "from; set both to 0"
            )
        side = self.data.image_size
        check_shape(self.augment, (side, side, len(self.data.bands) if self.data.bands else 3))
        return self

    def applied_methods(self) -> tuple[Method, ...]:
        """The methods that are named and those that they, or `model.published_code`, bring along."""
        brought = [companion for method in self.methods for companion in method.companions()]
        brought += [PublishedCode()] if self.model.published_code else []
        named = {method.kind for method in self.methods}
        return (*self.methods, *{method.kind: method for method in brought if method.kind not in named}.values())

    def decision_threshold(self) -> float | None:
        """The probability that a method decides by instead of 0.5, if one does."""
        return next((own for method in self.applied_methods() if (own := method.decision_threshold)), None)

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


def override(experiment: Experiment, settings: Sequence[str], also: Sequence[str] = ()) -> tuple[Experiment, list[str]]:
    """Applies `a.b.c=value` settings; returns the new experiment and a line for each value that changed.

    A list is entered by position or, for methods, by kind: `methods.signa.heads=4`.

    Args:
        experiment: What is changed.
        settings: The changes, in order.
        also: Other keys that a user may have meant.
    """
    values, changed = experiment.dump(), []
    for setting in settings:
        path, separator, text = setting.partition("=")
        if not separator:
            raise UserError(f"--set {setting}: expected key=value, for instance --set training.epochs=5")
        path = path.strip()
        if path == "objective.kind" and literal(text) != (values["objective"] or {}).get("kind"):
            # Another kind has options of its own.
            path = "objective"
        *parents, last = path.split(".")
        place: Any = values
        for depth, key in enumerate(parents):
            place = place[_key(place, key, ".".join(parents[:depth]), setting, also)]
        last = _key(place, last, ".".join(parents), setting, also)
        old, place[last] = place[last], literal(text)
        if path in _WrittenShort.model_fields:
            values[path] = _in_full(path, values[path])
        changed.append(f"{path} = {text} (was {old if not isinstance(old, (dict, list)) else json.dumps(old)})")
    return Experiment.parse(values, "--set"), changed


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


def _key(place: Any, key: str, where: str, setting: str, also: Sequence[str]) -> Any:
    if isinstance(place, list):
        # A method of another package is entered by its class: methods.MyMethod.option=...
        kinds = [
            item["kind"].rpartition(":")[2] if isinstance(item, dict) and "kind" in item else None for item in place
        ]
        if key in kinds:
            return kinds.index(key)
        if key.isdigit() and int(key) < len(place):
            return int(key)
        known = [str(kind) for kind in kinds if kind] or [str(position) for position in range(len(place))]
    elif isinstance(place, dict):
        if key in place:
            return key
        known = [*place, *(also if not where else ())]
    else:
        hint = f"; set it first: --set {where}=... {where}.{key}=..." if place is None else ""
        raise UserError(f"--set {setting}: '{where}' has no keys below it; it is {place!r}{hint}")
    if not known:
        raise UserError(f"--set {setting}: '{where}' is empty")
    raise UserError(f"--set {setting}: unknown key '{key}'{' in ' + where if where else ''}{nearest(key, known)}")


def literal(text: str) -> Any:
    """The value that a text on the command line stands for; a text that is none stands for itself."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return {"True": True, "False": False, "None": None}.get(text, text)
