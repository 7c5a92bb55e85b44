"""Optimizers with a rate a group of weights, and schedules that resume exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from rsml.training.devices import summed

if TYPE_CHECKING:
    from rsml.config import Training


@keras.saving.register_keras_serializable("rsml")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate as a pure function of the step: warm-up, then a curve.

    Args:
        base: Rate at the top.
        kind: "constant", "step", "cosine", or "plateau" (constant until `scale` is lowered).
        steps: Steps an epoch.
        epochs: Epochs in all.
        warmup: Epochs of linear warm-up from 0.
        drops: `(epoch, factor)` pairs: from that epoch on the rate is multiplied by the factor.
        minimum: Rate below which the curve does not go.
    """

    def __init__(
        self,
        base: float,
        kind: str,
        steps: int,
        epochs: int,
        warmup: float = 0.0,
        drops: Iterable[tuple[float, float]] = (),
        minimum: float = 0.0,
    ) -> None:
        self.base, self.kind, self.steps, self.epochs = base, kind, steps, epochs
        self.warmup, self.drops, self.minimum = warmup, [list(drop) for drop in drops], minimum
        self.scale = keras.Variable(1.0, trainable=False, name="plateau_scale")

    def __call__(self, step: Any) -> Any:
        """Returns the rate of a step, counted from 0."""
        step = ops.cast(step, "float32")
        epoch = step / self.steps
        rate = self.base * ops.convert_to_tensor(self.scale)
        if self.kind == "cosine":
            done = (epoch - self.warmup) / max(self.epochs - self.warmup, 1e-9)
            rate = rate * 0.5 * (1 + ops.cos(math.pi * ops.clip(done, 0.0, 1.0)))
        for start, factor in self.drops:
            # Half a step of slack, so that rounding cannot move a drop by a step.
            rate = ops.where(step >= start * self.steps - 0.5, rate * factor, rate)
        rate = ops.maximum(rate, self.minimum)
        if self.warmup:
            rate = rate * ops.minimum((step + 1) / (self.warmup * self.steps), 1.0)
        return rate

    def get_config(self) -> dict[str, Any]:
        keys = ("base", "kind", "steps", "epochs", "warmup", "drops", "minimum")
        return {key: getattr(self, key) for key in keys}


class _Summing:
    """Sums gradients over devices before anything else: a norm to clip by is that of the whole batch's gradient."""

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Any]]) -> Any:
        gradients, variables = zip(*grads_and_vars, strict=True)
        return super().apply_gradients(zip(summed(gradients), variables, strict=True))  # type: ignore[misc]


class _Grouped(_Summing):
    """Gives some variables a fraction of the rate, and decays weights but not biases and norms.

    `backbone_rate` is the backbone's fraction, 1 where it has none of its own. Keras's MultiOptimizer keeps one
    optimizer a group; it refuses frozen weights and is missing in Keras 3.12.
    """

    _get_variable_index: Callable[[Any], int]  # of the Keras optimizer that a subclass also is
    assign_sub: Callable[[Any, Any], None]

    def group(self, rates: Sequence[float], decays: Sequence[float], decoupled: bool) -> None:
        """Sets each variable's fraction of the rate and its decay, in the order of `build`."""
        self._rates, self._decays, self._decoupled = rates, decays, decoupled

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        # Keras's own would sum over the devices, each of which has the whole gradient and moves its own copies.
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            self.update_step(gradient, variable, learning_rate)

    def _backend_increment_gradient_accumulators(self, grads: Any, acc_grads: Any) -> None:
        for gradient, sum_so_far in zip(grads, acc_grads, strict=True):
            sum_so_far.assign(sum_so_far + gradient)

    def finalize_variable_values(self, var_list: Any) -> None:
        """Leaves the weights as they are; Keras would put the average in their place whenever `fit` ends."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        position = self._get_variable_index(variable)
        rate, decay = ops.cast(learning_rate, variable.dtype) * self._rates[position], self._decays[position]
        if decay and self._decoupled:
            self.assign_sub(variable, variable * (decay * rate))
        elif decay:
            gradient = gradient + decay * ops.cast(variable, gradient.dtype)
        super().update_step(gradient, variable, rate)  # type: ignore[misc]


class ScaledLoss(_Summing, keras.optimizers.LossScaleOptimizer):
    """Loss scaling for float16, which skips a step on which any device overflows."""


class GroupedAdam(_Grouped, keras.optimizers.Adam):
    """Adam with a rate and a decay a variable."""


class GroupedSGD(_Grouped, keras.optimizers.SGD):
    """SGD with a rate and a decay a variable."""


def make_optimizer(
    options: Training,
    variables: Iterable[Any],
    depths: Mapping[str, int],
    backbone_rate: float,
    steps: int,
    own_rates: Mapping[str, float] | None = None,
) -> keras.optimizers.Optimizer:
    """Builds the optimizer of a training.

    Args:
        options: The training options.
        variables: All variables that any phase of the training may move.
        depths: Paths of the backbone's own variables, and how deep below the head each lies, from 1.
        backbone_rate: The backbone's rate as a fraction of the others'; `layer_decay` lowers it with the depth.
        steps: Steps an epoch.
        own_rates: Rates of single variables by their path, as fractions of the others'; they go before `depths`.
    """
    own_rates = own_rates or {}
    schedule = Schedule(
        options.learning_rate,
        options.schedule,
        steps,
        options.epochs,
        options.warmup_epochs,
        _drops(options),
        options.minimum_rate,
    )
    common = {
        "learning_rate": schedule,
        "global_clipnorm": options.clip_norm,
        "gradient_accumulation_steps": options.accumulate if options.accumulate > 1 else None,
        "use_ema": options.average is not None,
        "ema_momentum": options.average or 0.0,
    }
    if options.optimizer == "sgd":
        optimizer = GroupedSGD(momentum=options.momentum, nesterov=options.nesterov, **common)
    else:
        optimizer = GroupedAdam(**common)
    variables = list(variables)
    optimizer.group(
        rates=[
            own_rates.get(v.path, backbone_rate * options.layer_decay ** depths[v.path] if v.path in depths else 1.0)
            for v in variables
        ],
        decays=[options.weight_decay if options.decay_all or len(v.shape) > 1 else 0.0 for v in variables],
        decoupled=options.optimizer == "adamw",
    )
    optimizer.backbone_rate = backbone_rate if any(variable.path in depths for variable in variables) else 1.0
    optimizer.build(variables)
    return optimizer


@contextmanager
def averaged(optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Within it, the weights are their moving average, where the optimizer keeps one."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not optimizer.use_ema:
        yield
        return
    variables, averages = optimizer._trainable_variables, optimizer._model_variables_moving_average
    kept = [ops.copy(variable) for variable in variables]
    for variable, average in zip(variables, averages, strict=True):
        variable.assign(average)
    try:
        yield
    finally:
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)


def _drops(options: Training) -> list[tuple[float, float]]:
    if options.schedule != "step":
        return []
    if options.milestones:
        return [(fraction * options.epochs, factor) for fraction, factor in sorted(options.milestones.items())]
    return [(epoch, options.step_factor) for epoch in range(options.step_epochs, options.epochs, options.step_epochs)]
