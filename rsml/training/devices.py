"""Several devices: which ones, and a step over them that gives what it gives on one.

Each device computes the rows it holds. What mixes the rows of a batch is brought together: batch normalisation works
with the statistics of the whole batch, dropout takes its rows of the whole batch's mask, and the loss is computed on
every device from the outputs of all of them. So a sum, a ranking or a memory means what it means on one device.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from rsml.config import Training
from rsml.data.pipeline import Share
from rsml.utils.errors import UserError
from rsml.utils.link import Link
from rsml.utils.virtual_devices import split_cpu, wanted


@dataclass(frozen=True)
class Spread:
    """What a training runs on.

    Attributes:
        strategy: Of TensorFlow; None is one device, without any.
        link: To the other hosts, where there are any.
    """

    strategy: tf.distribute.Strategy | None = None
    link: Link | None = None

    @property
    def replicas(self) -> int:
        """Devices that share a batch."""
        return self.strategy.num_replicas_in_sync if self.strategy else 1

    @property
    def chief(self) -> bool:
        """Whether this process is the one that writes."""
        return self.link is None or self.link.chief

    @property
    def share(self) -> Share | None:
        """The pieces of each batch that this host's devices take; None is the whole batch."""
        if self.link is None:
            return None
        own = self.replicas // len(self.link.cluster.hosts)
        return Share(self.replicas, self.link.cluster.rank * own, own)

    def batches(self, images: tf.data.Dataset) -> Any:
        """What `fit` is given: whole batches, which it divides over devices, or this host's pieces as they are."""
        if self.link is None or self.strategy is None:
            return images
        return self.strategy.distribute_datasets_from_function(lambda _: images)

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Variables made within it are there on every device."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()


ALONE = Spread()
"""One device of one host."""


def choose(options: Training, rows: int, hosts: Spread | None = None) -> Spread:
    """The devices that the options ask for.

    Args:
        options: Of the training.
        rows: Images of the training part.
        hosts: The devices of several hosts, where the training was started on several.
    """
    batch = min(options.batch_size, rows)
    if hosts is not None:
        _check(options, batch, hosts.replicas)
        return hosts
    if tf.distribute.has_strategy():
        raise UserError(
            f"train: called within the scope of a {type(tf.distribute.get_strategy()).__name__}, where losses would be "
            "summed over its devices; leave the scope, and set training.devices (rsml train --devices N)"
        )
    split_cpu()
    gpus = [] if wanted() else tf.config.list_logical_devices("GPU")
    found = gpus or tf.config.list_logical_devices("CPU")
    number = min(len(found), batch) if options.devices == "auto" else options.devices
    if number == 1:
        return ALONE
    if number > len(found):
        kind = "GPU" if gpus else "CPU"
        raise UserError(
            f"training.devices={number}: expected at most {len(found)}, the {kind}s that TensorFlow finds here; "
            'set fewer, or "auto" for all'
        )
    _check(options, batch, number)
    return Spread(_mirrored(tuple(device.name for device in found[:number])))


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    # One for all trainings of a process: a second one would count its collective operations from the start again,
    # and meet those of the first.
    return tf.distribute.MirroredStrategy(list(devices))


def _check(options: Training, batch: int, replicas: int) -> None:
    if batch < replicas:
        raise UserError(
            f"training.batch_size={batch}: smaller than the {replicas} devices that share a batch; "
            "raise it, or set training.devices to less"
        )
    if options.xla:
        raise UserError(f"training.xla: not together with {replicas} devices; set training.xla=false")


def whole(values: Any) -> Any:
    """The whole batch's values on every device, from the rows of each; gradients find their way back.

    Args:
        values: Any structure of tensors `(rows, ...)`.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values

    def gather(value: Any) -> Any:
        value = tf.identity(value)
        return tf.ensure_shape(context.all_gather(value, axis=0), [None, *value.shape[1:]])

    return tf.nest.map_structure(gather, values)


def summed(gradients: Sequence[Any]) -> list[Any]:
    """The gradients of the whole batch, from what the rows of each device add to them."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return list(gradients)
    there = [gradient for gradient in gradients if gradient is not None]
    sums = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, there))
    return [None if gradient is None else next(sums) for gradient in gradients]


class WholeOutputs(dict[str, Any]):
    """The network's outputs of the whole batch, and its images where a term asks for them.

    Args:
        outputs: By name.
        images: Of this device; gathered when they are read, since that is costly.
    """

    def __init__(self, outputs: dict[str, Any], images: Any) -> None:
        super().__init__(outputs)
        self._images = images

    def __missing__(self, name: str) -> Any:
        if name != "images":
            raise KeyError(name)
        return self.setdefault(name, whole(self._images))


class SpreadModel(keras.Model):
    """A model that `fit` drives over the devices of a spread.

    It is made outside the strategy's scope on purpose: Keras then leaves out its own symbolic build, which fails on
    several hosts.

    Args:
        spread: The devices.
        name: Of the model.
    """

    def __init__(self, spread: Spread, name: str) -> None:
        super().__init__(name=name)
        self.spread = spread

    @property
    def distribute_strategy(self) -> tf.distribute.Strategy:
        return self.spread.strategy or tf.distribute.get_strategy()

    def train_step(self, data: Any) -> dict[str, Any]:
        logs = super().train_step(data)
        # Over hosts Keras takes means along the first axis, which a scalar lacks.
        return logs if self.spread.link is None else {name: tf.reshape(value, [1]) for name, value in logs.items()}

    def compile(self, *arguments: Any, **options: Any) -> None:
        with self.spread.scope():
            super().compile(*arguments, **options)


class WholeBatch(keras.callbacks.Callback):
    """Lets normalisation and dropout see the whole batch while steps are taken.

    Between epochs, when the model is measured and saved, its layers are what they are on one device.

    Args:
        layers: All layers that take part in a step.
    """

    def __init__(self, layers: Iterable[keras.layers.Layer]) -> None:
        super().__init__()
        layers = list(layers)
        self.norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
        self.drops = [layer for layer in layers if isinstance(layer, keras.layers.Dropout)]

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        for norm in self.norms:
            norm.synchronized = True
        for drop in self.drops:
            drop.call = _of_whole_mask(drop.call)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        for norm in self.norms:
            norm.synchronized = False
        for drop in self.drops:
            del drop.call


def _of_whole_mask(drop: Callable[..., Any]) -> Callable[..., Any]:
    """A dropout's call that draws the mask of the whole batch and takes the rows of its own device."""

    def call(inputs: Any, training: bool = False) -> Any:
        context = tf.distribute.get_replica_context()
        if not training or context is None:
            return drop(inputs, training=training)
        rows, *others = tf.unstack(tf.shape(inputs))
        counts = context.all_gather(rows[None], axis=0)
        start = tf.reduce_sum(counts[: context.replica_id_in_sync_group])
        mask = drop(tf.ones([tf.reduce_sum(counts), *others], inputs.dtype), training=True)
        return inputs * tf.ensure_shape(mask[start : start + rows], inputs.shape)

    return call
