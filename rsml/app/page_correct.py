"""Routes of the Correct view: a queue of images whose labels deserve a look, and the journal of what was decided."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from rsml.app.journal import Conflict
from rsml.app.page_queue import Kind, ranked, scores_of
from rsml.app.page_workspace import Workspace
from rsml.data.corrections import with_corrections
from rsml.run import Run
from rsml.utils.errors import UserError
from rsml.utils.files import write_text

LEASE = 120.0
"""Seconds for which an image that one tab shows is kept from the others."""


class Given(BaseModel):
    """A decision as the page sends it."""

    row: int = Field(ge=0)
    labels: list[str] | None = None
    seen: str = Field("", max_length=64)
    note: str = Field("", max_length=2000)
    by: str = Field("", max_length=80)


def add_routes(router: APIRouter, workspace: Workspace) -> None:
    """Adds them."""
    shown: dict[int, tuple[str, float]] = {}

    def path_of(row: int) -> str:
        if row >= len(workspace.samples):
            raise UserError(f"image {row}: the run has {len(workspace.samples)}, counted from 0")
        return str(workspace.samples.paths[row])

    def item(row: int, scores: Any, why: str = "") -> dict[str, Any]:
        samples, path = workspace.samples, path_of(row)
        decisions = workspace.journal.decisions()
        now = decisions.current().get(path)
        own = [samples.label_names[column] for column in np.flatnonzero(samples.present[row])]
        known = scores is not None and not np.isnan(scores).any()
        return {
            "row": row, "id": f"row-{row}", "path": path, "split": str(samples.splits[row]), "original": own,
            "labels": own if now is None or now.labels is None else list(now.labels), "why": why,
            "note": now.note if now else "", "decided": now is not None, "seen": decisions.versions.get(path, ""),
            "scores": dict(zip(samples.label_names, scores.tolist(), strict=True)) if known else None,
        }  # fmt: skip

    @router.get("/queue")
    def queue(kind: Kind = "suspects", tab: str = "", other: str = "") -> dict[str, Any]:
        """The next image of a queue that nobody has decided about or looks at just now."""
        if workspace.samples.task == "proportions":
            raise UserError("the labels of this run are shares of land cover, which cannot be corrected one by one")
        scores = scores_of(workspace, workspace.here)
        if scores is None and kind != "random":
            return {"needs": ["this run"], "images": len(workspace.samples)}
        against = None
        if kind == "disagreements":
            if not other:
                return {"needs": [], "choose": True}
            against = scores_of(workspace, Run.open(workspace.root / Path(other).name))
            if against is None:
                return {"needs": [other], "images": len(workspace.samples)}
        order, why = ranked(workspace, kind, scores, against)
        decided, now = workspace.journal.decisions().current(), time.monotonic()
        left = [row for row in order.tolist() if workspace.samples.paths[row] not in decided]
        for row in left:
            who, until = shown.get(row, ("", 0.0))
            if who in ("", tab) or until < now:
                shown.update({row: (tab, now + LEASE)})
                own = None if scores is None else scores[row]
                return {"item": item(row, own, why(row)), "left": len(left), "all": len(order)}
        return {"item": None, "left": len(left), "all": len(order)}

    @router.get("/queue/{row}")
    def one(row: int) -> dict[str, Any]:
        path_of(row)
        scores = scores_of(workspace, workspace.here)
        return item(row, None if scores is None else scores[row])

    @router.post("/queue/scores")
    def score(run: str = "") -> dict[str, Any]:
        """Begins to score all images of the run, by itself or by another run."""
        chosen = Run.open(workspace.root / Path(run).name) if run else workspace.here
        images = workspace.folder / "images.txt"
        write_text(images, "".join(f"{os.path.abspath(file)}\n" for file in workspace.samples.files.tolist()))
        out = workspace.folder / f"scores-{chosen.name}.csv"
        command = ["predict", str(chosen.folder), f"@{images}", "--whole", "--out", str(out)]
        return workspace.jobs.start("scores", f"Scores of all images by {chosen.name}", command)

    @router.post("/corrections")
    def decide(given: Given) -> Any:
        path = path_of(given.row)
        unknown = set(given.labels or ()) - set(workspace.samples.label_names)
        if unknown:
            raise UserError(f"label '{min(unknown)}': the data have no such label")
        if workspace.samples.task == "single-label" and given.labels is not None and len(given.labels) != 1:
            raise UserError(f"{path}: expected one label, found {len(given.labels)}; choose one")
        try:
            workspace.journal.append(path, given.labels, seen=given.seen, note=given.note, by=given.by)
        except Conflict as conflict:
            return JSONResponse({"error": str(conflict), "conflict": one(given.row)}, 409)
        return one(given.row)

    @router.post("/corrections/undo")
    def undo(given: Given) -> Any:
        try:
            workspace.journal.undo(path_of(given.row), seen=given.seen, by=given.by)
        except Conflict as conflict:
            return JSONResponse({"error": str(conflict), "conflict": one(given.row)}, 409)
        return one(given.row)

    @router.get("/corrections")
    def summary() -> dict[str, Any]:
        """How much was decided, and the last of it."""
        decisions, samples = workspace.journal.decisions().current(), workspace.samples
        row_of = {path: row for row, path in enumerate(samples.paths.tolist())}
        looked = {path: one for path, one in decisions.items() if one.labels is not None and path in row_of}
        own = {path: {samples.label_names[c] for c in np.flatnonzero(samples.present[row_of[path]])} for path in looked}
        changed = sum(set(one.labels or ()) != own[path] for path, one in looked.items())
        return {"decided": len(looked), "changed": changed, "skipped": len(decisions) - len(looked),
                "journal": str(workspace.journal.file), "name": _free_name(workspace)}  # fmt: skip

    @router.get("/corrections.csv")
    def export(what: Literal["all", "changed"] = "all") -> Response:
        """The run's table with the corrected labels, as rsml reads it."""
        before = workspace.samples
        after = with_corrections(before, workspace.journal.file) if workspace.journal.file.is_file() else before
        if what == "changed":
            after = after.select((after.labels != before.labels).any(axis=1))
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["path", "scene", "split", *after.label_names])
        for number, file in enumerate(after.files.tolist()):
            rows.writerow([os.path.abspath(file), after.scenes[number], after.splits[number], *after.labels[number]])
        headers = {"Content-Disposition": 'attachment; filename="corrected.csv"'}
        return Response(text.getvalue().encode("utf-8", "surrogateescape"), media_type="text/csv", headers=headers)

    @router.post("/corrections/train")
    def train(name: str) -> dict[str, Any]:
        """Trains again with what was decided so far."""
        run = workspace.here
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,80}", name) or (workspace.root / name).exists():
            raise UserError(f"{name}: expected the name of a new run: letters, digits, - and _; choose another")
        if not workspace.journal.decisions().current():
            raise UserError("nothing is corrected yet, so there is nothing to train again with")
        # A copy: decisions that come while it is trained must not change its labels half-way.
        frozen = workspace.folder / "corrections" / f"{name}.jsonl"
        frozen.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(workspace.journal.file, frozen)
        command = ["train", "--config", str(run.files.config), "--labels-from", str(frozen), "--name", name]
        return workspace.jobs.start("train", f"Training of {name}", [*command, "--out", str(workspace.root)], run=name)


def _free_name(workspace: Workspace) -> str:
    number = 1
    while (workspace.root / f"{workspace.here.name}-corrected-{number}").exists():
        number += 1
    return f"{workspace.here.name}-corrected-{number}"
