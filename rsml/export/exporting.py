"""Export a model: gather images, write each format beside, check it, put it in place."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import rsml
from rsml.data.find_images import find_images
from rsml.data.pipeline import evaluation_dataset, naming_bad_images
from rsml.export.formats import FORMATS, INPUT, OUTPUT, Format, Runner, Source, companions, held_output, one_line
from rsml.prediction.scene_model import SceneModel, open_model
from rsml.run import Run
from rsml.tasks import task as task_row
from rsml.utils.errors import UserError
from rsml.utils.files import remove, replacing, write_text
from rsml.utils.progress import progress_bar
from rsml.utils.tables import render
from rsml.utils.text import counted

TOLERANCE = 1e-3
"""Of the probabilities of a float32 format: more is a fault of the conversion."""
BATCH = 8
TIMED_IMAGES, TIMED_SECONDS = 30, 3.0


@dataclass(frozen=True)
class Check:
    """How a written file does beside Keras on the same images.

    Args:
        format: Its name.
        file: Where it is.
        bytes: Its size.
        largest: Largest difference of a probability.
        mean: Mean difference of the probabilities.
        agreement: Share of equal decisions: of image-label pairs (multi-label), of images (single-label).
        milliseconds: Time an image, one after another.
    """

    format: str
    file: str
    bytes: int
    largest: float
    mean: float
    agreement: float
    milliseconds: float


@dataclass(frozen=True)
class Exported:
    """What came of an export.

    Args:
        task: Of the model.
        folder: Where the files are.
        checks: Of Keras itself and of what was written.
        faults: Of each format that was not written, by its name.
        checked_on: A line that says on which images.
    """

    task: str
    folder: Path
    checks: list[Check]
    faults: dict[str, str]
    checked_on: str


def export_model(
    model: str | Path,
    formats: Sequence[str],
    *,
    out: str | Path | None = None,
    images: int | Sequence[str] = 64,
    root: str | None = None,
    batch: int | None = None,
    calibration: int = 128,
    trust: bool = False,
    unnamed: Sequence[str] | None = None,
) -> Exported:
    """Writes a run's best model, or a checkpoint file, in formats; each only if it gives the answers of Keras.

    Args:
        model: A run folder or a checkpoint file.
        formats: Names in `FORMATS`.
        out: The folder; None is export/ in the run folder or beside the checkpoint.
        images: How many images of the run's test part to check on, or names of images, folders, globs.
        root: Where the run's images lie now.
        batch: Images a batch; None for any number.
        calibration: Images that set the ranges of int8.
        trust: Let a model file run the code it carries.
        unnamed: Names of its classes if it names none.
    """
    scene_model, run = open_model(model, trust, unnamed)
    if None in scene_model.model.input_shape[1:] or isinstance(scene_model.model.output_shape, list):
        raise UserError(f"{model}: expected a model with one output and a fixed image size, found {scene_model.model}")
    file = Path(model) if run is None else run.files.best
    folder = Path(out) if out else Run(file.parent).files.export
    checked, calibrated, checked_on = gather_images(scene_model, run, images, root, calibration)
    checks, faults = export(scene_model, file, folder, formats, checked, calibrated, batch)
    return Exported(scene_model.task, folder, checks, faults, checked_on)


def export(
    scene_model: SceneModel,
    file: Path,
    folder: Path,
    formats: Sequence[str],
    images: np.ndarray,
    calibration: np.ndarray,
    batch: int | None = None,
) -> tuple[list[Check], dict[str, str]]:
    """Writes formats into a folder, each only if it passes its check.

    Args:
        scene_model: The model and what its numbers mean.
        file: Its checkpoint.
        folder: Where the files go.
        formats: Names in `FORMATS`.
        images: `(images, height, width, bands)` to check on.
        calibration: The same, to set the ranges of int8 with.
        batch: Images a batch; None for any number.

    Returns:
        The checks of Keras itself and of what was written, and the fault of each format that was not.
    """
    about = facts(scene_model, file, batch)
    expected = _all(lambda part: scene_model.model.predict_on_batch(part), images, None)
    checks = [_check("keras", file, scene_model.model.predict_on_batch, scene_model, images, expected, None)]
    faults: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as workspace:
        source = Source(scene_model.model, about, calibration, Path(workspace), batch)
        for name in progress_bar(formats, title="exporting", unit="formats"):
            try:
                checks.append(_export_one(name, FORMATS[name], source, scene_model, folder, images, expected))
            except OSError:
                raise
            except Exception as fault:
                # Converters raise any type; one format that fails must not cost the others.
                faults[name] = str(fault) if isinstance(fault, UserError) else f"not converted: {one_line(fault)}"
    if len(checks) > 1:
        for name, text in companions({**about, "formats": _formats(folder, about, checks)}).items():
            write_text(folder / name, text)
    return checks, faults


def facts(scene_model: SceneModel, file: Path, batch: int | None) -> dict[str, Any]:
    """What a program that runs an exported file must know, ready for JSON."""
    reading = scene_model.reading
    return {
        "source": str(file),
        "written_by": f"rsml {rsml.__version__}",
        "task": scene_model.task,
        "labels": list(scene_model.labels),
        "thresholds": [float(value) for value in scene_model.thresholds],
        "input": {
            "name": INPUT,
            "shape": [batch, *scene_model.model.input_shape[1:]],
            "values": "pixels of 0 to 255 as they are in the file; float32, uint8 for tflite-int8",
            "resize": "antialiased" if reading.get("antialias", True) else "bilinear",
            "bands": _as_lists(reading.get("bands")),
            "value_range": _as_lists(reading.get("value_range")),
        },
        "output": {"name": OUTPUT, "shape": [batch, len(scene_model.labels)], "values": "float32 probabilities"},
    }


def gather_images(
    scene_model: SceneModel, run: Run | None, images: int | Sequence[str], root: str | None, calibration: int
) -> tuple[np.ndarray, np.ndarray, str]:
    """Reads the images to check on and those to calibrate with; never the same ones while there are others.

    Returns:
        Both as `(images, height, width, bands)` float32 of 0 to 255, and a line that says which they are.
    """
    if not isinstance(images, int):
        paths = list(find_images(images))
        if len(paths) < 2:
            raise UserError(f"{' '.join(images)}: one image is too few, as half calibrate int8; give two or more")
        return (
            _read(scene_model, paths[1::2]),
            _read(scene_model, _spread(paths[::2], calibration)),
            f"checked on {len(paths[1::2])} of the images given, int8 calibrated on others",
        )
    if run is None:
        raise UserError("a checkpoint file alone knows no images to check on; give some with --images FOLDER")
    if images < 1:
        raise UserError(f"--images {images}: expected 1 or more")
    samples = run.read_samples(root)
    parts = {name: part for name in ("test", "valid", "train") if len(part := samples.part(name))}
    if not parts:
        raise UserError(f"{run.files.samples}: no image in any part; give some with --images FOLDER")
    measured, calibrating = next(iter(parts)), list(parts)[-1]
    checked = _spread(list(parts[measured].files), images)
    first = checked[0]
    if not os.path.exists(first):
        raise UserError(
            f"{first}: the run's images are no longer there; say where with --root, or give others with --images FOLDER"
        )
    return (
        _read(scene_model, checked),
        _read(scene_model, _spread(list(parts[calibrating].files), calibration)),
        f"checked on {counted(len(checked), 'image')} of the {measured} part, int8 calibrated on the {calibrating} "
        "part",
    )


def checks_table(checks: Sequence[Check], task: str) -> str:
    """The checks as a table."""
    decisions = "equal decisions" if task_row(task).thresholds else "equal classes"
    header = ["format", "file", "MB", "largest diff.", "mean diff.", decisions, "ms an image"]
    rows = []
    for check in checks:
        compared = [f"{check.largest:.1e}", f"{check.mean:.1e}", f"{100 * check.agreement:.2f} %"]
        if check.format == "keras":
            compared = [""] * 3
        size = f"{check.bytes / 1e6:.2f}"
        rows.append([check.format, Path(check.file).name, size, *compared, f"{check.milliseconds:.1f}"])
    return render(header, rows)


def _export_one(
    name: str,
    format: Format,
    source: Source,
    scene_model: SceneModel,
    folder: Path,
    images: np.ndarray,
    expected: np.ndarray,
) -> Check:
    format.check_packages()
    path = folder / format.file
    with (_replacing_folder if name == "savedmodel" else replacing)(path) as beside:
        with held_output():
            logging.getLogger("tf2onnx").setLevel(logging.ERROR)
            format.write(source, beside)
            check = _check(name, beside, format.open(beside), scene_model, images, expected, source.batch)
        if not np.isfinite(check.largest):
            raise UserError("gives numbers that are not finite; not kept")
        if format.exact and check.largest > TOLERANCE:
            raise UserError(
                f"probabilities differ from those of Keras by up to {check.largest:.2g} (at most {TOLERANCE:g} is "
                "rounding); not kept"
            )
    return Check(**{**asdict(check), "file": str(path)})


def _check(
    name: str,
    path: Path,
    runner: Runner,
    scene_model: SceneModel,
    images: np.ndarray,
    expected: np.ndarray,
    batch: int | None,
) -> Check:
    given = _all(runner, images, batch)
    difference = np.abs(given.astype(np.float64) - expected)
    equal = scene_model.decide(given) == scene_model.decide(expected)
    agreement = equal.mean() if task_row(scene_model.task).thresholds else equal.all(axis=1).mean()
    return Check(
        format=name,
        file=str(path),
        bytes=sum(part.stat().st_size for part in [path, *path.rglob("*")] if part.is_file()),
        largest=float(difference.max()),
        mean=float(difference.mean()),
        agreement=float(agreement),
        milliseconds=_milliseconds(runner, images, batch),
    )


def _all(runner: Runner, images: np.ndarray, batch: int | None) -> np.ndarray:
    """Probabilities of all images; batches of several sizes where any size is allowed."""
    size = batch or BATCH
    parts = []
    for start in range(0, len(images), size):
        part = images[start : start + size]
        whole = part if batch is None else np.resize(part, (batch, *part.shape[1:]))
        parts.append(np.asarray(runner(whole))[: len(part)])
    return np.concatenate(parts)


def _milliseconds(runner: Runner, images: np.ndarray, batch: int | None) -> float:
    """Median time an image, one batch after another; batches of one where any size is allowed."""
    size = batch or 1
    one = np.resize(images[:size], (size, *images.shape[1:]))
    runner(one)
    taken: list[float] = []
    while len(taken) < TIMED_IMAGES and sum(taken) < TIMED_SECONDS:
        begun = time.perf_counter()
        runner(one)
        taken.append(time.perf_counter() - begun)
    return 1000 * float(np.median(taken)) / size


def _read(scene_model: SceneModel, files: Sequence[str]) -> np.ndarray:
    """Images as the model gets them."""
    reading = scene_model.reading
    files = [os.path.abspath(file) for file in files]
    with naming_bad_images(files, reading["bands"], reading["value_range"]):
        batches = evaluation_dataset(files, batch_size=32, **reading)
        return np.concatenate([images.numpy() for images, _ in batches])


def _spread(items: list[str], count: int) -> list[str]:
    """So many items, evenly from the whole list."""
    return [items[place] for place in np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)]


@contextlib.contextmanager
def _replacing_folder(path: Path) -> Iterator[Path]:
    """Yields a folder's stand-in beside it, which takes its place when all in it is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.writing-{os.getpid()}")
    old = path.with_name(f".{path.name}.old-{os.getpid()}")
    try:
        yield beside
        if path.exists():
            os.replace(path, old)
        os.replace(beside, path)
    except BaseException:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise
    finally:
        remove(beside)
        remove(old)


def _formats(folder: Path, about: dict[str, Any], checks: Sequence[Check]) -> dict[str, Any]:
    """The checks of what was written now, and of what an earlier call wrote of the same model."""
    try:
        before = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {}
    same = {key: value for key, value in before.items() if key != "formats"} == json.loads(json.dumps(about))
    kept = {
        name: entry
        for name, entry in (before.get("formats", {}) if same else {}).items()
        if name in FORMATS and (folder / FORMATS[name].file).exists()
    }
    now = {}
    for check in checks:
        if check.format in FORMATS:
            now[check.format] = {**asdict(check), "file": FORMATS[check.format].file}
    return {**kept, **now}


def _as_lists(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
