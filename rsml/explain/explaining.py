"""Explain a model's scores of images: class maps as pictures, arrays and GeoTIFF, one model beside another."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rsml.data.images import picture, scaled
from rsml.data.pipeline import evaluation_dataset, naming_bad_images
from rsml.explain.class_maps import ClassMaps, Method, resized
from rsml.explain.pictures import Shown, row_figure
from rsml.figures.style import save
from rsml.prediction.scene_model import SceneModel
from rsml.run import Run
from rsml.utils.errors import UserError
from rsml.utils.files import replacing
from rsml.utils.progress import progress_bar

SIDE = 320
"""Pixels of the longer side of an image in the pictures."""


@dataclass(frozen=True)
class Explainer:
    """A model, its class maps, and what it is called beside another one."""

    name: str
    model: SceneModel
    maps: ClassMaps

    @classmethod
    def of(cls, name: str, model: SceneModel, after: str | None = None, method: Method = "grad-cam") -> Explainer:
        """The explainer of an opened model."""
        return cls(name, model, ClassMaps(model.model, after, method))


@dataclass(frozen=True)
class Targets:
    """Images to explain.

    Attributes:
        files: Where they lie.
        truth: `(images, labels)` 0/1; -1 where nobody knows.
    """

    files: list[str]
    truth: np.ndarray

    @classmethod
    def of_part(cls, run: Run, root: str | Path | None = None) -> Targets:
        """The part that a run was measured on: test, or valid where there is none."""
        samples = run.read_samples(root)
        part = next((found for name in ("test", "valid") if len(found := samples.part(name))), None)
        if part is None:
            raise UserError(f"{run.folder}: has neither a test nor a validation part; name the images to explain")
        return cls(part.files.tolist(), part.present.astype(np.int8))

    @classmethod
    def of_files(cls, files: Sequence[str], labels: int, run: Run | None) -> Targets:
        """Images by name; those of the run's own data have their labels."""
        truth = np.full((len(files), labels), -1, np.int8)
        if run is not None and run.files.samples.is_file():
            samples = run.read_samples()
            known = {str(Path(file).resolve()): row for row, file in enumerate(samples.files)}
            for place, file in enumerate(files):
                row = known.get(str(Path(file).resolve()))
                if row is not None:
                    truth[place] = samples.present[row]
        return cls(list(files), truth)

    def worst_first(self, model: SceneModel, scores: np.ndarray, most: int) -> tuple[Targets, np.ndarray]:
        """Those with the most wrong and missed labels, the surest mistakes first among equals; and their scores."""
        given = model.decide(scores)
        wrong = (given != self.truth) & (self.truth >= 0)
        sure = np.where(wrong, np.abs(scores - model.thresholds), 0).max(axis=1, initial=0)
        order = np.lexsort((-sure, -wrong.sum(axis=1)))[:most]
        return Targets([self.files[row] for row in order], self.truth[order]), scores[order]


def explain(
    explainers: Sequence[Explainer],
    targets: Targets,
    out: str | Path,
    *,
    labels: Sequence[str] | None = None,
    most: int = 24,
    shown: int = 5,
    batch_size: int = 32,
) -> list[dict[str, Any]]:
    """Writes class maps of images into a folder.

    `maps.npz` holds the maps of all labels, `labels.csv` each label's score, rank and verdict, `<image>.jpg` the
    overlays of the labels that matter: wrong and missed ones first. A georeferenced image gets `<image>.tif` too, one
    band a label.

    Args:
        explainers: One model, or two to compare, which must have the same labels.
        targets: The images.
        out: The folder.
        labels: Labels to draw; None takes those that are wrong, missed or named.
        most: Images at most, worst first where the truth is known.
        shown: Labels drawn of an image.
        batch_size: Images a step.

    Returns:
        The rows of `labels.csv`.
    """
    first = explainers[0]
    for other in explainers[1:]:
        if other.model.labels != first.model.labels:
            alone = sorted(set(first.model.labels) ^ set(other.model.labels)) or ["their order"]
            raise UserError(
                f"{first.name} and {other.name}: their labels differ ({alone[0]}); compare models of one task"
            )
    chosen = first.maps.columns(labels) if labels is not None else None
    targets, scores = targets.worst_first(first.model, _scores(first.model, targets.files, batch_size), most)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    stems = _stems(targets.files)
    rows: list[dict[str, Any]] = []
    kept: dict[str, list[np.ndarray]] = {explainer.name: [] for explainer in explainers}
    each = [_with_maps(first, targets.files, batch_size, scores)]
    each += [_with_maps(other, targets.files, batch_size) for other in explainers[1:]]
    bar = progress_bar(zip(*each, strict=True), title="explaining", unit="images", total=len(stems))
    for place, found in enumerate(bar):
        file, truth = targets.files[place], targets.truth[place]
        sides = []
        for explainer, (own_scores, maps) in zip(explainers, found, strict=True):
            kept[explainer.name].append(maps.astype(np.float16))
            sides.append(_judged(explainer.model, own_scores, truth, maps))
            for one in sides[-1]:
                about = {"image": file, "model": explainer.name, "label": one.name, "score": f"{one.score:.6f}"}
                rows.append({**about, "rank": one.rank, "named": int(one.given), "verdict": one.verdict})
        columns = chosen if chosen is not None else _that_matter(sides, shown)
        reading = first.model.reading
        shrunk = scaled(picture(file, reading["bands"], reading["value_range"]), SIDE)
        drawn = [(one.name, [side[column] for column in columns]) for one, side in zip(explainers, sides, strict=True)]
        save(row_figure(shrunk, drawn, Path(file).name), out / f"{stems[place]}.jpg", dpi=110)
        write_map_tiff(file, found[0][1], first.model.labels, out / f"{stems[place]}.tif")
    arrays: dict[str, Any] = {_array_name(name, len(kept)): np.array(maps) for name, maps in kept.items()}
    with replacing(out / "maps.npz") as beside, open(beside, "wb") as stream:
        np.savez_compressed(stream, images=np.array(targets.files), labels=np.array(first.model.labels), **arrays)
    with replacing(out / "labels.csv") as beside, open(beside, "w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    return rows


def _array_name(name: str, models: int) -> str:
    return "maps" if models == 1 else f"maps {name}"


def _scores(model: SceneModel, files: Sequence[str], batch_size: int) -> np.ndarray:
    return np.concatenate([model.predictor.predict_on_batch(images) for images in _batches(model, files, batch_size)])


def _batches(model: SceneModel, files: Sequence[str], batch_size: int) -> Any:
    reading = model.reading
    with naming_bad_images(list(files), reading["bands"], reading["value_range"]):
        for images, _ in evaluation_dataset(list(files), batch_size=batch_size, **reading):
            yield images.numpy()


def _with_maps(explainer: Explainer, files: Sequence[str], batch_size: int, scores: np.ndarray | None = None) -> Any:
    """Yields each image's scores and maps `(labels, h, w)`."""
    start = 0
    for images in _batches(explainer.model, files, batch_size):
        stop = start + len(images)
        own = explainer.model.predictor.predict_on_batch(images) if scores is None else scores[start:stop]
        yield from zip(own, explainer.maps(images, batch_size=batch_size), strict=True)
        start = stop


def _judged(model: SceneModel, scores: np.ndarray, truth: np.ndarray, maps: np.ndarray) -> list[Shown]:
    ranks = np.empty(len(scores), int)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    given = model.decide(scores)
    return [
        Shown(name, float(scores[column]), int(ranks[column]), bool(given[column]),
              None if truth[column] < 0 else bool(truth[column]), maps[column])
        for column, name in enumerate(model.labels)
    ]  # fmt: skip


def _that_matter(sides: Sequence[Sequence[Shown]], most: int) -> list[int]:
    """Labels wrong or missed by any model, then those named, by score; at least the one that scores highest."""
    urgency = {"wrong": 0, "missed": 0}

    def key(column: int) -> tuple[int, float]:
        ones = [side[column] for side in sides]
        named = min(urgency.get(one.verdict, 1 if one.given else 2) for one in ones)
        return named, -max(one.score for one in ones)

    order = sorted(range(len(sides[0])), key=key)
    matter = [column for column in order if key(column)[0] < 2]
    return (matter or order[:1])[:most]


def _stems(files: Sequence[str]) -> list[str]:
    """A name for each file's outcome: its own, with its folder's where two are called alike."""
    stems = [Path(file).stem for file in files]
    twice = {stem for stem in stems if stems.count(stem) > 1}
    return [
        f"{place:03d}-{Path(file).parent.name}-{stem}" if stem in twice else f"{place:03d}-{stem}"
        for place, (file, stem) in enumerate(zip(files, stems, strict=True))
    ]


def write_map_tiff(file: str, maps: np.ndarray, labels: Sequence[str], path: Path) -> bool:
    """Writes maps as a GeoTIFF over a georeferenced image, one band a label; False where the image has no place.

    Args:
        file: The image.
        maps: `(labels, h, w)` from 0 to 1.
        labels: Names of the bands.
        path: The GeoTIFF.
    """
    if Path(file).suffix.lower() not in (".tif", ".tiff"):
        return False
    try:
        import rasterio
    except ImportError:
        return False
    from rsml.raster.grid import georeferenced
    from rsml.raster.opening import open_raster

    profile = {"driver": "GTiff", "dtype": "float32", "count": len(labels), "compress": "deflate", "predictor": 3}
    try:
        with open_raster(file) as source:
            if not georeferenced(source):
                return False
            size = source.height, source.width
            profile |= {"height": size[0], "width": size[1], "crs": source.crs, "transform": source.transform}
    except UserError:  # an image for our decoders alone
        return False
    large = resized(maps, size)
    with replacing(path) as beside, rasterio.open(beside, "w", **profile) as target:
        target.write(large)
        for band, name in enumerate(labels, 1):
            target.set_band_description(band, name)
    return True


def explain_signa(model: SceneModel, files: Sequence[str], out: str | Path, batch_size: int = 32) -> list[str]:
    """Writes what the SIGNA layers of a model did with some images; returns the names of the files, if it has any.

    Args:
        model: Any model.
        files: Some dozens of images.
        out: The folder.
        batch_size: Images a step.
    """
    from rsml.explain.signa import SignaExplanation, effects_chart, weights_chart
    from rsml.layers import SIGNA

    if not any(isinstance(layer, SIGNA) and not layer.folded for layer in model.model.layers):
        return []
    signa = SignaExplanation(model.model, np.concatenate(list(_batches(model, files, batch_size))))
    found, out = signa.ablations(), Path(out)
    with replacing(out / "signa_ablations.csv") as beside:
        signa.table(found).to_csv(beside, index=False)
    save(effects_chart(found, model.labels), out / "signa_ablations.png")
    made = ["signa_ablations.csv", "signa_ablations.png"]
    for name in signa.layers:
        save(weights_chart(signa.channel_weights(name), name), out / f"{name}_heads.png")
        made.append(f"{name}_heads.png")
    return made
