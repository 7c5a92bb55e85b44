"""The last layer of a saved model: logits to probabilities, and all that a user needs to read them."""

import json
from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import ops

from rsml.tasks import task
from rsml.utils.errors import UserError


@keras.saving.register_keras_serializable("rsml")
class ScenePredictions(keras.layers.Layer):
    """Turns logits into probabilities, in float32 under any dtype policy, and carries what the numbers mean.

    Args:
        labels: Label names in the order of the columns.
        task: `"multi-label"` (sigmoid, any number of labels true), `"single-label"` (softmax, one class true) or
            `"proportions"` (softmax, the share of each class).
        thresholds: One decision threshold a label for a multi-label model; a label counts as present when its
            probability is strictly greater. Default: 0.5 each. It may be set after training (`layer.thresholds = ...`).
        experiment: The experiment that made the model, as a JSON-like dictionary.
        metadata: Anything else that belongs to the model (bands, image size, version), as a JSON-like dictionary.
        calibration: `{"scale", "bias"}`, a number a label each: probabilities are made of `scale * logit + bias`, as
            `rsml.evaluation.calibration` fits it. Set after training, it is in force once the model is loaded again.
        promise: What the thresholds promise, as a JSON-like dictionary; see `rsml.evaluation.promises`.

    Input and output: `(batch, labels)`.

    Examples:
        >>> layer = ScenePredictions(["sea", "trees"], thresholds=[0.5, 0.3])
        >>> layer(np.zeros((1, 2))).numpy().tolist()
        [[0.5, 0.5]]
    """

    def __init__(
        self,
        labels: Sequence[str],
        task: Literal["multi-label", "single-label", "proportions"] = "multi-label",
        thresholds: Sequence[float] | None = None,
        experiment: dict[str, Any] | str | None = None,
        metadata: dict[str, Any] | str | None = None,
        calibration: dict[str, Sequence[float]] | None = None,
        promise: dict[str, Any] | str | None = None,
        **kwargs: Any,
    ):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
            raise ValueError(f"ScenePredictions labels must be a list of names; got {labels!r}.")
        self.labels = tuple(labels)
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"ScenePredictions labels must be distinct names, at least one; got {list(self.labels)}.")
        if task not in ("multi-label", "single-label", "proportions"):
            raise ValueError(
                f"ScenePredictions task must be 'multi-label', 'single-label' or 'proportions'; got {task!r}."
            )
        self.task = task
        self.thresholds = thresholds
        self._experiment = _as_json("experiment", experiment)
        self._metadata = _as_json("metadata", metadata)
        self.calibration = calibration
        self.promise = promise

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        """One decision threshold a label, or None for 0.5 each."""
        return self._thresholds

    @thresholds.setter
    def thresholds(self, values: Sequence[float] | None) -> None:
        if values is not None:
            values = tuple(float(value) for value in values)
            if len(values) != len(self.labels):
                raise ValueError(f"There are {len(self.labels)} labels but {len(values)} thresholds.")
            if not all(0.0 <= value <= 1.0 for value in values):
                raise ValueError(f"Thresholds must lie between 0 and 1; got {list(values)}.")
        self._thresholds = values

    @property
    def calibration(self) -> dict[str, Sequence[float]] | None:
        """Scale and bias of each label's logit, or None for the logits as they are."""
        return self._calibration

    @calibration.setter
    def calibration(self, values: dict[str, Sequence[float]] | None) -> None:
        if values is not None:
            values = {key: [float(number) for number in values[key]] for key in ("scale", "bias")}
            found = sorted({len(numbers) for numbers in values.values()})
            if found != [len(self.labels)]:
                raise ValueError(f"There are {len(self.labels)} labels but a calibration of {found}.")
            if not min(values["scale"]) > 0:
                raise ValueError(f"Scales must be positive, or rankings would turn round; got {values['scale']}.")
        self._calibration = values

    @property
    def promise(self) -> dict[str, Any] | None:
        """A copy of what the thresholds promise, or None."""
        return None if self._promise is None else json.loads(self._promise)

    @promise.setter
    def promise(self, value: dict[str, Any] | str | None) -> None:
        self._promise = _as_json("promise", value)

    @property
    def experiment(self) -> dict[str, Any] | None:
        """A copy of the experiment that made the model."""
        return None if self._experiment is None else json.loads(self._experiment)

    @property
    def metadata(self) -> dict[str, Any]:
        """A copy of the other facts kept with the model."""
        return {} if self._metadata is None else json.loads(self._metadata)

    def build(self, input_shape: Any) -> None:
        if input_shape[-1] != len(self.labels):
            raise ValueError(f"There are {len(self.labels)} labels but {input_shape[-1]} logits an image.")

    def call(self, logits: Any) -> Any:
        # The policy of this layer is float32, so half-precision logits arrive widened.
        if self.calibration is not None:
            scale, bias = (ops.convert_to_tensor(self.calibration[key], "float32") for key in ("scale", "bias"))
            logits = scale * logits + bias
        return ops.sigmoid(logits) if task(self.task).activation == "sigmoid" else ops.softmax(logits, axis=-1)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        # The dictionaries travel as JSON text: Keras would read a dictionary with "class_name" in it as an object.
        return {
            **super().get_config(),
            "labels": list(self.labels),
            "task": self.task,
            "thresholds": None if self.thresholds is None else list(self.thresholds),
            "experiment": self._experiment,
            "metadata": self._metadata,
            "calibration": self.calibration,
            "promise": self._promise,
        }


def predictions_layer(model: keras.Model) -> ScenePredictions | None:
    """Returns the `ScenePredictions` of a model (of a nested one too), or None when it has none."""
    for layer in reversed(model.layers):
        if isinstance(layer, ScenePredictions):
            return layer
        if isinstance(layer, keras.Model) and (found := predictions_layer(layer)) is not None:
            return found
    return None


def predictions_of(model: keras.Model) -> ScenePredictions:
    """As `predictions_layer`, of a model that must have one."""
    if (found := predictions_layer(model)) is None:
        raise UserError(f"{model.name}: not an rsml classifier, whose labels are known; open it with rsml.load_model")
    return found


def logits_of(model: keras.Model) -> Any | None:
    """The logits of a model that ends in `ScenePredictions`; None of any other."""
    last = model.output._keras_history
    if not isinstance(last.operation, ScenePredictions):
        return None
    return last.operation._inbound_nodes[last.node_index].input_tensors[0]


def _as_json(name: str, value: dict[str, Any] | str | None) -> str | None:
    try:
        if isinstance(value, str):
            json.loads(value)
            return value
        return None if value is None else json.dumps(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"ScenePredictions {name} must hold only JSON values: {error}.") from None
