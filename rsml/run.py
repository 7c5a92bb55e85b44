"""What a run folder is: the files in it, writing them safely, reading them back, predicting with its model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsml.config import Experiment
from rsml.utils.errors import UserError
from rsml.utils.files import remove, write_json
from rsml.utils.guard import read_json
from rsml.utils.manifest import MANIFEST, Manifest

if TYPE_CHECKING:
    import keras
    import pandas as pd

    from rsml.data.samples import Samples

ROOT = Path("checkpoint")
_STEADY = ("constant", "step", "plateau")
"""Schedules whose rate at an epoch does not hang on how many there are in all."""

_NO_MATTER = ("training.devices", "training.save_every")
"""Options that a run may be gone on with otherwise, since what is learned does not hang on them."""


class RunFiles:
    """Where each file of a run lies, whether it is there yet or not."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "config.json"
        self.samples = folder / "samples.csv"
        self.origin = folder / "samples.json"
        self.best = folder / "best.keras"
        self.best_h5 = folder / "best.h5"
        self.last = folder / "last.keras"
        self.history = folder / "history.csv"
        self.metrics = folder / "metrics.json"
        self.predictions = folder / "predictions.csv"
        self.report = folder / "report.txt"
        self.page = folder / "report.html"
        self.made_with = folder / "made_with.json"
        self.figures = folder / "figures"
        self.export = folder / "export"
        self.index = folder / "index"
        self.logs = folder / "logs"
        self.retrieval = folder / "retrieval"
        self.retrieval_metrics = folder / "retrieval.json"
        self.state = folder / "state" / "state.npz"


class Run:
    """One run folder, `checkpoint/<name>/`.

    Args:
        folder: The folder; it need not exist yet.

    Examples:
        >>> run = rsml.Run.open("checkpoint/tiny")
        >>> sorted(run.metrics), sorted(run.metrics["test"])[:2]
        (['test', 'valid'], ['accuracy', 'balanced_accuracy'])
        >>> run.history[["epoch", "loss", "val_loss"]].shape
        (1, 3)
        >>> table = run.predict("photos")
        >>> table.columns.tolist()
        ['path', 'labels', 'score forest', 'score sand', 'score water']
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.name = self.folder.name
        self.files = RunFiles(self.folder)
        # What this object wrote itself need not be read again.
        self._samples: Samples | None = None
        self.writes = True  # of several hosts the chief's alone does
        self._evaluation: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @classmethod
    def of(cls, experiment: Experiment, root: Path = ROOT, fresh: bool = False) -> Run:
        """The experiment's run: new, the same again, or to start over. Writes nothing; refuses another's folder."""
        run = cls(Path(root) / experiment.name)
        if run.files.config.is_file() and not fresh:
            differences = run._differences(experiment)
            if differences and not run.grows(experiment):
                raise _another_config(run, differences)
        return run

    @classmethod
    def start(cls, experiment: Experiment, root: Path = ROOT, fresh: bool = False) -> Run:
        """Opens the experiment's folder for writing; see `of`."""
        run = cls.of(experiment, root, fresh)
        if fresh:
            run.clear()
        if not run.files.config.is_file() or run.grows(experiment):
            run.folder.mkdir(parents=True, exist_ok=True)
            # A run with metrics counts as complete, which one with more epochs to go is not.
            remove(run.files.metrics)
            run._write_json(run.files.config, experiment.dump())
        return run

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Opens a folder that holds a run with a model."""
        run = cls(folder)
        if not run.files.config.is_file():
            raise UserError(
                f"{run.folder}: not a run folder (no config.json in it); give checkpoint/<name> or a .keras / .h5 file"
            )
        if not run.files.best.is_file():
            raise UserError(
                f"{run.folder}: no best.keras yet; its training has not finished an epoch, run rsml train again"
            )
        return run

    @classmethod
    def newest(cls, root: Path = ROOT) -> Run:
        """The run whose best model was written last."""
        models = sorted(Path(root).glob("*/best.keras"), key=lambda file: file.stat().st_mtime)
        if not models:
            raise UserError(f"{root}/: no run with a model in it; train one with `rsml train`, or name a checkpoint")
        return cls.open(models[-1].parent)

    def clear(self) -> None:
        """Removes the files a run writes, and nothing a person put beside them."""
        for path in vars(self.files).values():
            remove(path.parent if path == self.files.state else path)
        remove(self.folder / MANIFEST)

    def grows(self, experiment: Experiment) -> bool:
        """Whether the experiment is this run's own with more epochs, under a schedule where one follows the other."""
        differences, training = self._differences(experiment), experiment.training
        steady = training.schedule in _STEADY and not (training.milestones or training.sizes)
        return (
            set(differences) == {"training.epochs"}
            and experiment.training.epochs > differences["training.epochs"][0]
            and steady
            and not any(method.counts_epochs for method in experiment.applied_methods())
        )

    def _differences(self, experiment: Experiment) -> dict[str, tuple[Any, Any]]:
        found = _differences(_with_new_defaults(_read_config(self.files.config)), experiment.dump())
        return {key: pair for key, pair in found.items() if key not in _NO_MATTER}

    @property
    def experiment(self) -> Experiment:
        """The experiment this run was made with."""
        return Experiment.parse(_read_config(self.files.config), str(self.files.config))

    @property
    def samples(self) -> Samples:
        """The images of the run with their labels and parts."""
        return self._samples or self.read_samples()

    @property
    def evaluation(self) -> dict[str, Any]:
        """All that was measured, by part: see `rsml.evaluation.summary`."""
        if self._evaluation is not None:
            return self._evaluation
        if not self.files.metrics.is_file():
            raise UserError(f"{self.folder}: no metrics.json yet; its training is not finished, train it again")
        return {part: found for part, found in _read_json(self.files.metrics).items() if part != "run"}

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """The numbers of each part that was measured: `run.metrics["test"]["accuracy"]`."""
        return {part: found["metrics"] for part, found in self.evaluation.items()}

    @property
    def history(self) -> pd.DataFrame:
        """One row an epoch; empty before the first."""
        import pandas as pd

        return pd.read_csv(self.files.history) if self.files.history.is_file() else pd.DataFrame()

    def model(self) -> keras.Model:
        """The best model: raw images `(batch, height, width, 3)` of 0 to 255, as `rsml.images` reads, to probabilities.

        Examples:
            >>> model = rsml.Run.open("checkpoint/tiny").model()
            >>> model.predict(rsml.images("photos", size=32), verbose=0).shape
            (36, 3)
        """
        from rsml.weights.models import load_model  # TensorFlow: not for those who only read numbers.

        return load_model(self.files.best, trust=self.experiment.model.trust)

    def predict(self, images: str | Path | Sequence[str | Path] | pd.DataFrame, batch_size: int = 32) -> pd.DataFrame:
        """Labels images with the best model, read as they were in training.

        Args:
            images: A folder, an image, paths, or a table with a column `path`, whose index the answer keeps.
            batch_size: Images a step.

        Returns:
            One row an image: `path`, `labels` (a tuple of names), and a column `score <label>` for each label.
        """
        import numpy as np
        import pandas as pd

        from rsml.api import image_paths
        from rsml.prediction.scene_model import open_model

        paths = image_paths(images)
        model = open_model(self.folder)[0]
        scores = model.scores(paths, batch_size)
        names = np.array(model.labels, dtype=object)
        table = pd.DataFrame(scores, columns=[f"score {name}" for name in model.labels])
        table.insert(0, "labels", [tuple(names[decided]) for decided in model.decide(scores).astype(bool)])
        table.insert(0, "path", paths)
        return table.set_axis(images.index) if isinstance(images, pd.DataFrame) else table

    def read_samples(self, root: str | Path | None = None) -> Samples:
        """The images of the run with their labels and parts.

        Args:
            root: Where the images lie now, if not where they lay in training.
        """
        from rsml.data.samples import Samples

        Manifest(self.folder).check(self.files.samples.name, "start the run over with --fresh")
        about = _read_json(self.files.origin)
        return Samples.read_csv(self.files.samples, root=Path(root or about["root"]), task=about["task"])

    def write_samples(self, samples: Samples) -> None:
        """Keeps every image with its labels and part, and where the images lie."""
        self._samples = samples
        if not self.writes:
            return
        samples.write_csv(self.files.samples)
        Manifest(self.folder).record([self.files.samples])
        write_json(self.files.origin, {"root": str(samples.root.resolve()), "task": samples.task})

    def write_model(self, model: keras.Model, path: Path) -> None:
        """Writes a model whole or not at all."""
        if not self.writes:
            return
        with Manifest(self.folder).replacing(path) as beside:
            model.save(beside)

    def _write_json(self, path: Path, value: dict[str, Any]) -> None:
        with Manifest(self.folder).replacing(path) as beside:
            beside.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")

    def fault(self) -> str | None:
        """What is wrong with the best model's file, or None: a run without it is not complete."""
        if not self.files.best.is_file():
            return "is gone"
        return Manifest(self.folder).fault(self.files.best.name)

    def write_history(self, rows: list[dict[str, Any]]) -> None:
        """Writes one row an epoch."""
        if not self.writes:
            return
        import pandas as pd

        with Manifest(self.folder).replacing(self.files.history) as beside:
            pd.DataFrame(rows).to_csv(beside, index=False)

    def write_evaluation(self, parts: dict[str, Any]) -> None:
        """Writes what was measured on each part; from then on the run is complete."""
        self._write_json(self.files.metrics, {"run": self.name, **parts})
        self._evaluation = parts


def _read_json(path: Path) -> dict[str, Any]:
    kept: dict[str, Any] = read_json(path, advice="start the run over with --fresh")
    return kept


# Names that meant Keras's networks before there were torchvision's.
_MEANT_KERAS = {"resnet50": "ResNet50", "resnet101": "ResNet101"}
_MEANT_KERAS |= {f"convnext_{size}": f"ConvNeXt{size.title()}" for size in ("tiny", "small", "base", "large")}


def _read_config(path: Path) -> dict[str, Any]:
    """A kept config; where it is older than the backbones of torchvision, its names are written as they are now."""
    kept = _read_json(path)
    model = kept.get("model")
    if isinstance(model, dict) and "head" not in model and model.get("backbone") in _MEANT_KERAS:
        model["backbone"] = f"keras:{_MEANT_KERAS[model['backbone']]}"
    return kept


def _with_new_defaults(kept: dict[str, Any]) -> dict[str, Any]:
    """A kept config as this version writes it: options that came later have their defaults, and are no difference."""
    try:
        return Experiment.parse(kept).dump()
    except UserError:
        return kept


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    found: dict[str, tuple[Any, Any]] = {}
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found |= _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found[f"{prefix}{key}"] = before, after
    return found


def _another_config(run: Run, differences: dict[str, tuple[Any, Any]]) -> UserError:
    lines = [f"{key}: {json.dumps(old)} there, {json.dumps(new)} now" for key, (old, new) in differences.items()]
    shown = "; ".join(lines[:4]) + (f"; and {len(lines) - 4} more" if len(lines) > 4 else "")
    further = ""
    if set(differences) == {"training.epochs"} and run.files.best.is_file():
        further = f" (with --set model.weights={run.folder} it begins with this one's weights)"
    return UserError(
        f"run {run.folder} was made with another config ({shown}); "
        f"give this one its own --name{further}, or start it over with --fresh"
    )
