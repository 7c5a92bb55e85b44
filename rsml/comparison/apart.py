"""One run of a comparison in a process of its own: what TensorFlow keeps of a run goes with the process."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

from rsml.config import Experiment
from rsml.utils.errors import UserError


def measure_apart(experiment: Experiment, root: Path, split: str, retrieval: bool) -> dict[str, Any]:
    """Does what `train_and_measure` does, in a process that prints where this one does."""
    task = {"experiment": experiment.dump(), "root": str(root), "split": split, "retrieval": retrieval}
    answer = root / f".{experiment.name}.scores.json"
    root.mkdir(parents=True, exist_ok=True)
    try:
        code = f"from rsml.comparison.apart import work; work({str(answer)!r})"
        package = str(Path(__file__).parents[2])
        words = [sys.executable, "-c", f"import sys; sys.path.insert(0, {package!r}); {code}"]
        ended = subprocess.run(words, input=json.dumps(task), text=True, check=False).returncode
        if ended or not answer.is_file():
            hint = " (often for want of memory)" if ended == -9 else ""
            raise UserError(
                f"{root / experiment.name}: its process ended with exit code {ended}{hint}; what is finished is kept, "
                "run the same command again to go on"
            )
        return json.loads(answer.read_text(encoding="utf-8"))
    finally:
        answer.unlink(missing_ok=True)


def work(answer: str) -> None:
    """Does the task on standard input and writes the scores into a file."""
    from rsml.cli.faults import run

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("absl").setLevel(logging.ERROR)
    sys.exit(run(lambda: _work(json.loads(sys.stdin.read()), Path(answer))))


def _work(task: dict[str, Any], answer: Path) -> None:
    from rsml.data.options import check_source
    from rsml.utils.quiet import start_tensorflow

    experiment = Experiment.parse(task["experiment"])
    check_source(experiment.data)
    start_tensorflow()
    from rsml.comparison.grid import train_and_measure

    scores = train_and_measure(experiment, Path(task["root"]), task["split"], task["retrieval"])
    answer.write_text(json.dumps(scores), encoding="utf-8")
