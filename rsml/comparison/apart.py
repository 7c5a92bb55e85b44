"""One run of a comparison in a process of its own: what TensorFlow keeps of a run goes with the process."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from rsml.config import Experiment
from rsml.utils.errors import UserError
from rsml.utils.jobs import Report, run_jobs


def measure_apart(experiment: Experiment, root: Path, split: str, retrieval: bool) -> dict[str, Any]:
    """Does what `train_and_measure` does, in a process that says on stderr what it is doing."""
    task = {"experiment": experiment.dump(), "root": str(root), "split": split, "retrieval": retrieval}
    scores: dict[str, Any] | UserError
    ((_, scores),) = run_jobs(measure_task, [task], 1, lambda _: None, apart=True)
    if isinstance(scores, UserError):
        raise UserError(f"{root / experiment.name}: {scores}")
    return scores


def measure_task(task: dict[str, Any], report: Report) -> dict[str, Any]:
    """The work of that process."""
    from rsml.data.options import check_source
    from rsml.utils.quiet import start_tensorflow

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("absl").setLevel(logging.ERROR)
    experiment = Experiment.parse(task["experiment"])
    check_source(experiment.data)
    start_tensorflow()
    from rsml.comparison.grid import train_and_measure

    return train_and_measure(experiment, Path(task["root"]), task["split"], task["retrieval"])
