"""Several hosts: a training that each of them runs alike, on its own rows, and that one of them writes down."""

from __future__ import annotations

import io
import logging
from typing import Any

import numpy as np
import tensorflow as tf

from rsml.config import Experiment
from rsml.data.samples import Samples
from rsml.run import Run
from rsml.training.devices import Spread
from rsml.utils.errors import UserError
from rsml.utils.link import Link
from rsml.utils.manifest import digest

logger = logging.getLogger(__name__)


def over_hosts(link: Link, experiment: Experiment) -> Spread:
    """The devices of all hosts; to be called before TensorFlow's first operation.

    Args:
        link: To the others.
        experiment: How many devices each host gives, and what is to be done on them.
    """
    if experiment.augment.mixes:
        raise UserError("augment: images are mixed within a batch, which no host has whole; set mixup and cutmix to 0")
    gpus, number = tf.config.list_physical_devices("GPU"), experiment.training.devices
    if number == "auto":
        number = max(len(gpus), 1)
    if number > max(len(gpus), 1):
        raise UserError(
            f"training.devices={number}: {link.cluster.named(link.cluster.rank)} has {len(gpus)} GPUs; "
            'set fewer, or "auto" for all'
        )
    link.agree("devices:", str(number), "give every host as many, with training.devices=N")
    if gpus:
        tf.config.set_visible_devices(gpus[:number], "GPU")
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(link.cluster.hosts)}),
        task_type="worker",
        task_id=link.cluster.rank,
        rpc_layer="grpc",
    )
    return Spread(tf.distribute.MultiWorkerMirroredStrategy(resolver), link)


def check_alike(link: Link, experiment: Experiment, samples: Samples, run: Run) -> None:
    """Refuses hosts that would not train the same: other data, or another run folder to go on from.

    Args:
        link: To the others.
        experiment: What is done.
        samples: The images as this host sees them.
        run: As this host sees it.
    """
    link.agree("the images and labels", samples.fingerprint(), f"copy {experiment.data.source} from one to the other")
    state = run.files.state
    kept = digest(state) if state.is_file() else "none"
    link.agree("the training state", kept, f"{run.folder.resolve()} must be one folder that all hosts see (--out)")


def own_rows(spread: Spread, part: Samples) -> Samples:
    """The images of a part that this host measures."""
    if spread.link is None:
        return part
    cluster = spread.link.cluster
    return part.select(np.array_split(np.arange(len(part)), len(cluster.hosts))[cluster.rank])


def gathered(spread: Spread, arrays: dict[str, Any]) -> dict[str, Any]:
    """What all hosts have measured on their own rows, in the order of the part."""
    if spread.link is None:
        return arrays
    kept = io.BytesIO()
    np.savez(kept, **arrays)
    each = [np.load(io.BytesIO(text)) for text in spread.link.exchange(kept.getvalue())]
    names = next(list(one) for one in each if one.files)
    return {name: np.concatenate([one[name] for one in each if one.files]) for name in names}
