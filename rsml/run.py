"""What a run folder is: the files in it, writing them safely, reading them back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsml.config import Experiment
from rsml.utils.errors import UserError
from rsml.utils.files import remove, replacing, write_json

if TYPE_CHECKING:
    import keras
    import pandas as pd

    from rsml.data.samples import Samples

ROOT = Path("checkpoint")


class Run:
    """One run folder, `checkpoint/<name>/`.

    Args:
        folder: The folder; it need not exist yet.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.name = self.folder.name
        self.config = self.folder / "config.json"
        self.samples = self.folder / "samples.csv"
        self.origin = self.folder / "samples.json"
        self.best = self.folder / "best.keras"
        self.best_h5 = self.folder / "best.h5"
        self.last = self.folder / "last.keras"
        self.history = self.folder / "history.csv"
        self.metrics = self.folder / "metrics.json"
        self.predictions = self.folder / "predictions.csv"
        self.report = self.folder / "report.txt"
        self.figures = self.folder / "figures"
        self.export = self.folder / "export"
        self.logs = self.folder / "logs"
        self.retrieval = self.folder / "retrieval"
        self.retrieval_metrics = self.folder / "retrieval.json"
        self.state = self.folder / "state" / "state.npz"

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @classmethod
    def of(cls, experiment: Experiment, root: Path = ROOT, fresh: bool = False) -> Run:
        """The experiment's run: new, the same again, or to start over. Writes nothing; refuses another's folder."""
        run = cls(Path(root) / experiment.name)
        if run.config.is_file() and not fresh:
            differences = _differences(_with_new_defaults(_read_config(run.config)), experiment.dump())
            if differences:
                shown = "; ".join(differences[:4]) + (
                    f"; and {len(differences) - 4} more" if len(differences) > 4 else ""
                )
                raise UserError(
                    f"run {run.folder} was made with another config ({shown}); "
                    "give this one its own --name, or start it over with --fresh"
                )
        return run

    @classmethod
    def start(cls, experiment: Experiment, root: Path = ROOT, fresh: bool = False) -> Run:
        """Opens the experiment's folder for writing; see `of`."""
        run = cls.of(experiment, root, fresh)
        if fresh:
            run.clear()
        if not run.config.is_file():
            run.folder.mkdir(parents=True, exist_ok=True)
            write_json(run.config, experiment.dump())
        return run

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Opens a folder that holds a run with a model."""
        run = cls(folder)
        if not run.config.is_file():
            raise UserError(
                f"{run.folder}: not a run folder (no config.json in it); give checkpoint/<name> or a .keras / .h5 file"
            )
        if not run.best.is_file():
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
        for path in (
            self.config, self.samples, self.origin, self.best, self.best_h5, self.last, self.history, self.metrics,
            self.predictions, self.report, self.figures, self.export, self.logs, self.retrieval,
            self.retrieval_metrics, self.state.parent,
        ):  # fmt: skip
            remove(path)

    def experiment(self) -> Experiment:
        """The experiment this run was made with."""
        return Experiment.parse(_read_config(self.config), str(self.config))

    def read_samples(self, root: str | Path | None = None) -> Samples:
        """The images of the run with their labels and parts.

        Args:
            root: Where the images lie now, if not where they lay in training.
        """
        from rsml.data.samples import Samples

        about = _read_json(self.origin)
        return Samples.read_csv(self.samples, root=Path(root or about["root"]), task=about["task"])

    def write_samples(self, samples: Samples) -> None:
        """Keeps every image with its labels and part, and where the images lie."""
        samples.write_csv(self.samples)
        write_json(self.origin, {"root": str(samples.root.resolve()), "task": samples.task})

    def write_model(self, model: keras.Model, path: Path) -> None:
        """Writes a model whole or not at all."""
        with replacing(path) as beside:
            model.save(beside)

    def read_history(self) -> pd.DataFrame:
        """One row an epoch; empty before the first."""
        import pandas as pd

        return pd.read_csv(self.history) if self.history.is_file() else pd.DataFrame()

    def write_history(self, rows: list[dict[str, Any]]) -> None:
        """Writes one row an epoch."""
        import pandas as pd

        with replacing(self.history) as beside:
            pd.DataFrame(rows).to_csv(beside, index=False)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable ({error}); start the run over with --fresh") from None


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


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key}: {json.dumps(before)} there, {json.dumps(after)} now")
    return found
