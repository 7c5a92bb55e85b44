"""Writes the built-in scenes to a folder as an ordinary image data set, and draws contact sheets of them."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, PngImagePlugin

from rsml.scenes.drawing import SCENES, SMALLEST, draw
from rsml.scenes.materials import LABELS
from rsml.utils.errors import UserError
from rsml.utils.files import replacing, write_json
from rsml.utils.jobs import Report, run_jobs
from rsml.utils.locks import LOCK, lock
from rsml.utils.progress import progress_bar

SPLITS = ("train", "valid", "test")

# A change here makes folders written by an older version another set of scenes.
VERSION = 1

_FACTS = "rsml-scene"
_LEFTOVER = ".writing-"
_WORTH_PROCESSES = 150
_TOGETHER = 25


def image_path(index: int) -> str:
    """Returns where scene `index` lies in its folder."""
    scene = SCENES[index % len(SCENES)]
    return f"images/{scene}/{scene}_{index:05d}.png"


def land_cover_path(index: int) -> str:
    """Returns where the land cover of scene `index` lies in its folder."""
    return image_path(index).replace("images/", "land_cover/", 1)


def divide(count: int, fractions: Sequence[float], seed: int) -> list[str]:
    """Returns the split of each of `count` scenes, stratified by scene class, with exact totals.

    Totals follow the fractions by largest remainder. Every class gets its whole shares; the scenes left over in
    a class go to the splits that still lack most.
    """
    shares = [count * fraction for fraction in fractions]
    need = [int(share + 1e-9) for share in shares]
    for split in sorted(range(3), key=lambda k: (need[k] - shares[k], k))[: count - sum(need)]:
        need[split] += 1
    classes = [list(range(first, count, len(SCENES))) for first in range(min(len(SCENES), count))]
    whole = [[int(len(members) * fraction + 1e-9) for fraction in fractions] for members in classes]
    lack = [need[k] - sum(row[k] for row in whole) for k in range(3)]
    order = random.Random(f"rsml scenes division {seed} {count}")
    result = [""] * count
    for members, row in zip(classes, whole, strict=True):
        for _ in range(len(members) - sum(row)):
            # A class takes each split at most once more while another lacks any.
            split = max(range(3), key=lambda k: (lack[k] > 0, lack[k] / max(need[k], 1), -k))
            row[split] += 1
            lack[split] -= 1
        order.shuffle(members)
        names = [name for name, number in zip(SPLITS, row, strict=True) for _ in range(number)]
        for index, name in zip(members, names, strict=True):
            result[index] = name
    return result


def _save(path: Path, image: np.ndarray, facts: dict[str, Any] | None = None) -> None:
    info = PngImagePlugin.PngInfo()
    if facts is not None:
        info.add_text(_FACTS, json.dumps(facts))
    with replacing(path, sync=False) as beside:
        Image.fromarray(image).save(beside, "PNG", compress_level=1, pnginfo=info)


def write_one(folder: Path, index: int, *, seed: int, size: int, land_cover: bool) -> None:
    """Writes scene `index`, unless it is there; the image carries its labels and georeference as text."""
    image_file, cover_file = folder / image_path(index), folder / land_cover_path(index)
    if image_file.exists() and (cover_file.exists() or not land_cover):
        return
    scene = draw(index, seed=seed, size=size)
    if land_cover:
        _save(cover_file, scene.land_cover)
    facts = {"labels": scene.labels.tolist(), "crs": scene.crs, "transform": scene.transform}
    _save(image_file, scene.image, facts)


def _facts(path: Path) -> dict[str, Any] | None:
    """Returns what an image carries about itself, or `None` where it is not one of ours."""
    try:
        with Image.open(path) as image:
            return json.loads(image.info[_FACTS])
    except (OSError, KeyError, ValueError):
        return None


def _draw_all(folder: Path, missing: list[int], job: dict[str, Any], workers: int) -> None:
    """Writes the missing scenes, in processes of their own when there are many.

    Drawing is Python with many small calls, so threads would wait for each other.
    """
    workers = workers if len(missing) >= _WORTH_PROCESSES else 1
    tasks = [
        {"folder": str(folder), "indices": missing[first : first + _TOGETHER], **job}
        for first in range(0, len(missing), _TOGETHER)
    ]
    with progress_bar(title="drawing", unit="scenes", total=len(missing)) as bar:
        for _, fault in run_jobs(draw_share, tasks, workers, bar.update):
            if fault is not None:
                raise fault


def draw_share(task: dict[str, Any], report: Report) -> None:
    """Writes some of the scenes: the job of one process."""
    folder = Path(task.pop("folder"))
    for index in task.pop("indices"):
        write_one(folder, index, **task)
        report(1)


def write(
    folder: str | Path,
    *,
    count: int,
    size: int,
    seed: int = 0,
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    land_cover: bool = False,
    workers: int = 2,
) -> Path:
    """Writes scenes 0 to `count - 1` as PNG files, with their labels and splits.

    The folder holds `images/<scene>/<scene>_<index>.png`, `labels.csv` (path, scene, split, a 0/1 column for each
    label), `scenes.json` (the arguments) and, if asked for, `land_cover/...` of the same names with `georeference.csv`.
    Interrupted and called again, it goes on; called again when finished, it returns at once.

    Args:
        folder: where to write; new, empty, or a folder that was written with the same arguments.
        count: number of scenes; the scene classes take turns.
        size: side of the images in pixels.
        seed: seed of the scenes and of the division.
        fractions: shares of train, valid and test.
        land_cover: write the land-cover rasters and the georeference too.
        workers: processes to draw with.

    Returns:
        The folder.
    """
    folder = Path(folder)
    if count < 1:
        raise UserError(f"count: expected at least 1 scene, found {count}.")
    if size < SMALLEST:
        raise UserError(f"size: scenes are drawn from {SMALLEST} pixels on, found {size}; give a larger size.")
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise UserError(
            f"fractions: expected three shares (train, valid, test) that sum to 1, found {tuple(fractions)}."
        )
    asked = {"version": VERSION, "count": count, "size": size, "seed": seed, "fractions": list(fractions)}
    note, table = folder / "scenes.json", folder / "labels.csv"
    found = _read_note(folder, note)
    if found is not None:
        different = [
            f"{key} {found.get(key)!r}, not {value!r}" for key, value in asked.items() if found.get(key) != value
        ]
        if different:
            raise UserError(f"{folder} holds another set of scenes ({'; '.join(different)}); choose another folder.")
        if table.exists() and (found.get("land_cover") or not land_cover):
            return folder
    try:
        with lock(folder, "drawing scenes"):
            if found is None:
                write_json(note, {**asked, "land_cover": False})
            _write_files(folder, asked, land_cover, workers)
            write_json(note, {**asked, "land_cover": land_cover})
    except OSError as error:
        raise UserError(
            f"{folder}: cannot write scenes there ({error.strerror or error}); free space or choose another folder."
        ) from error
    return folder


def _read_note(folder: Path, note: Path) -> dict[str, Any] | None:
    """Returns the arguments a folder was written with, `None` for a new folder; refuses a folder of something else."""
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise UserError(f"{folder} is a file, where a folder for the scenes was expected; choose another folder.")
    if note.exists():
        try:
            found = json.loads(note.read_text())
            if isinstance(found, dict):
                return found
        except ValueError:
            pass
        raise UserError(f"{note} is not readable as the note of a set of scenes; remove the folder or choose another.")
    if any(entry.name != LOCK and _LEFTOVER not in entry.name for entry in folder.iterdir()):
        raise UserError(f"{folder} holds other files and no scenes.json; choose a new or empty folder for the scenes.")
    return None


def _write_files(folder: Path, asked: dict[str, Any], land_cover: bool, workers: int) -> None:
    """Draws what is missing, then writes the tables."""
    count = asked["count"]
    found = [_facts(folder / image_path(index)) for index in range(count)]
    missing = []
    for index in range(count):
        if found[index] is None:
            (folder / image_path(index)).unlink(missing_ok=True)
        if found[index] is None or (land_cover and not (folder / land_cover_path(index)).exists()):
            missing.append(index)
    job = {"seed": asked["seed"], "size": asked["size"], "land_cover": land_cover}
    _draw_all(folder, missing, job, workers)
    # What a killed process had begun.
    for leftover in folder.rglob(f".*{_LEFTOVER}*"):
        leftover.unlink(missing_ok=True)
    facts = [fact or _facts(folder / image_path(index)) for index, fact in enumerate(found)]
    known = [fact for fact in facts if fact is not None]
    if len(known) < count:
        lost = folder / image_path(facts.index(None))
        raise UserError(f"{lost}: vanished or was changed while scenes were written; run again")
    splits = divide(count, asked["fractions"], asked["seed"])
    if land_cover:
        _write_table(
            folder / "georeference.csv",
            ["path", "land_cover", "crs", *"abcdef"],
            ([image_path(k), land_cover_path(k), fact["crs"], *fact["transform"]] for k, fact in enumerate(known)),
        )
    _write_table(
        folder / "labels.csv",
        ["path", "scene", "split", *LABELS],
        ([image_path(k), SCENES[k % len(SCENES)], splits[k], *fact["labels"]] for k, fact in enumerate(known)),
    )


def _write_table(path: Path, header: list[str], rows: Iterable[list[Any]]) -> None:
    with replacing(path) as beside, open(beside, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(header)
        table.writerows(rows)


def contact_sheet(
    path: str | Path | None = None,
    *,
    columns: int = 8,
    size: int = 128,
    seed: int = 0,
    scenes: Sequence[str] = SCENES,
    labels: bool = True,
) -> Image.Image:
    """Draws examples of the scene classes side by side, a captioned row for each class.

    Args:
        path: where to save the sheet, or `None`.
        columns: examples of a class.
        size: side of an example in pixels.
        seed: seed of the scenes.
        scenes: the classes to show.
        labels: write the labels of each example under it.

    Returns:
        The sheet, an RGB image.
    """
    gap, head, foot = 4, 16, 36 if labels else 4
    row_height = head + size + foot
    sheet = Image.new("RGB", (columns * (size + gap) + gap, row_height * len(scenes)), (255, 255, 255))
    pen = ImageDraw.Draw(sheet)
    for row, name in enumerate(scenes):
        if name not in SCENES:
            raise UserError(f"scenes: expected names from {', '.join(SCENES)}; found {name!r}.")
        top = row * row_height
        pen.text((gap, top + 2), name, fill=(0, 0, 0))
        for column in range(columns):
            scene = draw(SCENES.index(name) + column * len(SCENES), seed=seed, size=size)
            left = gap + column * (size + gap)
            sheet.paste(Image.fromarray(scene.image), (left, top + head))
            if labels:
                words = [label for label, there in zip(LABELS, scene.labels, strict=True) if there]
                lines, line = [], ""
                for word in words:
                    if line and len(line) + len(word) + 1 > size // 6:
                        lines.append(line)
                        line = ""
                    line = f"{line} {word}".strip()
                pen.multiline_text(
                    (left, top + head + size + 1), "\n".join([*lines, line]), (90, 90, 90), font_size=9, spacing=0
                )
    if path is not None:
        sheet.save(path)
    return sheet
