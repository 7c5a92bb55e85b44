"""Write the page of a run, or of several beside each other: one file that asks for nothing else."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from rsml.comparison.paired import matched
from rsml.data.images import ImageError, as_rgb, picture
from rsml.evaluation.bootstrap import paired_test
from rsml.prediction.scene_model import SceneModel, open_model
from rsml.report.drawing import data_url, line_chart, reliability_chart, ring
from rsml.report.facts import STEPS, Facts, made_with
from rsml.run import Run
from rsml.utils.errors import UserError
from rsml.utils.files import write_text

logger = logging.getLogger(__name__)
THUMBNAILS, WORST = 300, 12
LARGEST = 6_000_000
_TEMPLATES = Path(__file__).parent / "templates"


def write_page(
    folders: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    root: str | Path | None = None,
    model: SceneModel | None = None,
) -> Path:
    """Writes report.html.

    Args:
        folders: Run folders; the page is about the first, and compares the others with it.
        out: The file; None is report.html in the first run's folder.
        root: Where the images lie now, if they were moved.
        model: The first run's model, where it is open already.

    Returns:
        The file.
    """
    runs = [Facts.read(folder, root) for folder in folders]
    first = runs[0]
    compared = comparison(runs) if len(runs) > 1 else []
    out = Path(out) if out else first.run.files.page
    context = {**_context(first), "comparison": compared, "worst": _worst(first, model)}
    for most in (THUMBNAILS, THUMBNAILS // 4, 0):
        page = _render({**context, **_confusion(first, most)})
        if len(page.encode()) < LARGEST:
            break
    write_text(out, page)
    return out


def _context(facts: Facts) -> dict[str, Any]:
    best = facts.best_epoch()
    calibration, graph = facts.evaluation.get("calibration"), facts.graph()
    return {
        "name": facts.run.name,
        "part": facts.part,
        "images": len(facts.samples),
        "task": facts.samples.task,
        "noun": facts.row.noun,
        "headlines": facts.headlines(),
        "head": facts.head(),
        "made": made_with(facts.run),
        "config": facts.config(),
        "curves": [line_chart(one["title"], one["series"], one["epochs"], best) for one in facts.curves()],
        "best": best,
        "labels": facts.labels(),
        "thresholds": facts.row.thresholds,
        "shares": facts.row.shares,
        "calibration": calibration,
        "reliability": reliability_chart(calibration) if calibration else None,
        "promise": facts.evaluation.get("promise"),
        "graph": ring(graph) if graph and graph["edges"] else None,
    }


def _render(context: dict[str, Any]) -> str:
    """Fills the template; style and script are put in as they are."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters["percent"] = lambda value, digits=1: "–" if value is None else f"{100 * value:.{digits}f}"
    environment.globals["read"] = lambda name: Markup((_TEMPLATES / name).read_text("utf-8"))
    # Within a script element a "<" could end it early.
    embedded = {"steps": STEPS, "labels": context["labels"], "files": context["files"], "cells": context["cells"]}
    plain = json.dumps(embedded, separators=(",", ":")).replace("<", "\\u003c")
    return environment.get_template("report.html").render(context, data=Markup(plain))


def _confusion(facts: Facts, most: int) -> dict[str, Any]:
    """The matrix of mistakes, and the images of its cells as thumbnails as far as there is room."""
    found = facts.confusion()
    count = len(found["names"])
    matrix = [[len(found["cells"].get(f"{i}-{j}", ())) for j in range(count)] for i in range(count)]
    wrong = {cell: rows for cell, rows in found["cells"].items() if not (found["single"] and _same(cell))}
    largest = max((len(rows) for rows in wrong.values()), default=1)
    # Of every cell the first images before the second ones of any.
    order = dict.fromkeys(rows[k] for k in range(largest) for rows in wrong.values() if k < len(rows))
    files = {}
    for number, row in enumerate(order):
        thumbnail = _picture(facts, row, 112, 60) if number < most else None
        names = facts.samples.label_names
        files[row] = {"name": Path(facts.samples.paths[row]).name, "src": thumbnail,
                      "missed": [names[k] for k in np.flatnonzero(facts.truth[row] & ~facts.given[row])],
                      "wrong": [names[k] for k in np.flatnonzero(facts.given[row] & ~facts.truth[row])]}  # fmt: skip
    return {"matrix": matrix, "matrix_names": found["names"], "single": found["single"], "largest": largest,
            "files": files, "cells": wrong}  # fmt: skip


def _same(cell: str) -> bool:
    row, _, column = cell.partition("-")
    return row == column


def _picture(facts: Facts, row: int, side: int, quality: int = 72) -> str | None:
    try:
        return data_url(picture(facts.samples.files[row], **facts.choices), side, quality)
    except (ImageError, OSError):
        return None


def _worst(facts: Facts, model: SceneModel | None) -> list[dict[str, Any]]:
    """The surest mistakes with the class map of the label that was wrong; without maps where there can be none."""
    mistakes = facts.mistakes(WORST)
    names, shown = facts.samples.label_names, []
    labels: list[Any] = [one.missed if one.predicted is None else one.predicted for one in mistakes]
    maps = _maps(facts, [mistake.image for mistake in mistakes], labels, model) if mistakes else {}
    for place, (mistake, label) in enumerate(zip(mistakes, labels, strict=True)):
        shown.append({
            "name": Path(facts.samples.paths[mistake.image]).name,
            "kind": "missed" if mistake.predicted is None else "wrongly named",
            "label": names[label],
            "true": None if mistake.predicted is None or mistake.missed is None else names[mistake.missed],
            "score": mistake.score,
            "src": _picture(facts, mistake.image, 176),
            "map": maps.get(place),
        })  # fmt: skip
    return shown


def _maps(facts: Facts, rows: list[int], labels: list[int], model: SceneModel | None) -> dict[int, str]:
    """Of each image the map of one label."""
    from rsml.data.pipeline import evaluation_dataset
    from rsml.explain.class_maps import ClassMaps
    from rsml.explain.pictures import overlay

    try:
        model = model or open_model(facts.run.folder)[0]
        explain = ClassMaps(model.model)
        files = facts.samples.files[rows].tolist()
        names = [facts.samples.label_names[label] for label in labels]
        found: dict[int, str] = {}
        for images, about in evaluation_dataset(files, batch_size=8, **model.reading):
            places, shown = about["index"].numpy(), images.numpy()
            for place, image in zip(places, shown, strict=True):
                ((one,),) = explain(image[None], [names[place]])
                found[int(place)] = data_url(overlay(as_rgb(image), one), 176)
        return found
    except (UserError, OSError) as error:
        logger.info("report: no class maps (%s)", " ".join(str(error).split()))
        return {}


def comparison(runs: Sequence[Facts]) -> list[dict[str, Any]]:
    """Each run's first metrics, and for all but the first the paired difference from it."""
    first, table = runs[0].scored(), []
    truth = first.labels.argmax(axis=1) if runs[0].row.one_class else first.labels
    for facts in runs:
        scored = first if facts is runs[0] else matched(first, facts.scored())
        for name in facts.row.headline:
            ends = facts.evaluation.get("intervals", {}).get("metrics", {}).get(name)
            row: dict[str, Any] = {"run": facts.run.name, "metric": facts.title(name), "interval": ends}
            row["value"] = facts.evaluation["metrics"][name]
            if scored is not first:
                test = paired_test(
                    name, truth, scored.scores, first.scores, threshold_a=scored.thresholds,
                    threshold_b=first.thresholds, task=first.task,
                )  # fmt: skip
                row |= {"difference": test.difference.value, "ends": [test.difference.low, test.difference.high],
                        "p": test.p_value}  # fmt: skip
            table.append(row)
    return sorted(table, key=lambda row: row["metric"])


def open_page(run: Run, model: SceneModel | None = None) -> Path | None:
    """Writes a run's page at the end of its training; a fault of the page is a line in the log, not the run's end."""
    try:
        return write_page([run.folder], model=model)
    except Exception as error:
        logger.warning("report.html could not be written: %s: %s", type(error).__name__, " ".join(str(error).split()))
        return None
