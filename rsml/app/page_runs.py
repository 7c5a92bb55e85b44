"""Routes of the Runs view: all runs, their curves as they grow, comparisons, reports, and a clean stop."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import signal
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse

from rsml.app.page_workspace import Workspace
from rsml.run import Run
from rsml.utils.errors import UserError
from rsml.utils.files import HOST
from rsml.utils.locks import holder

# The report is one file with its script and style inside; it may run them, and reach nothing else, not even this page.
_REPORT = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
)


def add_routes(router: APIRouter, workspace: Workspace) -> None:
    """Adds them."""

    def named(name: str) -> Run:
        run = Run(workspace.root / name)
        if name in ("", ".", "..") or Path(name).name != name or not run.files.config.is_file():
            raise UserError(f"{name}: no such run in {workspace.root}/; look at the list of runs")
        return run

    @router.get("/runs")
    def runs() -> list[dict[str, Any]]:
        folders = [file.parent for file in workspace.root.glob("*/config.json")]
        return sorted((about(Run(folder)) for folder in folders), key=lambda run: -run["changed"])

    @router.get("/runs/{name}/history")
    def history(name: str) -> dict[str, Any]:
        job = next((one for one in workspace.jobs.all() if one.get("run") == name), None)
        if job is not None and not (workspace.root / name / "config.json").is_file():
            # Just begun from this page, or refused before it had a folder.
            state = "starting" if job["state"] == "running" else "stopped"
            return {**about(Run(workspace.root / name)), "state": state, "history": [], "last": job["last"]}
        run = named(name)
        return {**about(run), "history": rows_of(run)}

    @router.get("/runs/{name}/report")
    def report(name: str) -> FileResponse:
        file = named(name).files.page
        if not file.is_file():
            raise UserError(f"{name}: has no report yet; write it with `rsml report {named(name).folder}`")
        return FileResponse(file, headers={"Content-Security-Policy": _REPORT, "Cache-Control": "no-cache"})

    @router.post("/runs/{name}/stop")
    def stop(name: str) -> dict[str, Any]:
        """Interrupts a training as Ctrl-C does: all epochs that are finished are kept."""
        run = named(name)
        held = holder(run.folder)
        if held is None or held.get("work") != "training":
            raise UserError(f"{name}: is not being trained now; reload the list of runs")
        if held.get("host") != HOST:
            raise UserError(f"{name}: is trained on {held.get('host')}; stop it there, with Ctrl-C")
        with contextlib.suppress(ProcessLookupError):
            os.kill(held["pid"], signal.SIGINT)
        return about(run)

    @router.post("/runs/{name}/go-on")
    def go_on(name: str) -> dict[str, Any]:
        """Trains on where a run has stopped."""
        run = named(name)
        command = ["train", "--config", str(run.files.config), "--out", str(workspace.root)]
        return workspace.jobs.start("train", f"Training of {name}", command, run=name)

    @router.get("/compare")
    def compare(runs: str) -> list[dict[str, Any]]:
        """Measures of some runs beside each other, and the paired differences of all others from the first."""
        from rsml.report.facts import Facts
        from rsml.report.page import comparison

        names = [name for name in runs.split(",") if name]
        if len(names) < 2:
            raise UserError("a comparison needs two runs or more; mark them in the list")
        return comparison([Facts.read(named(name).folder) for name in names])


def about(run: Run) -> dict[str, Any]:
    """One line of the list of runs; read from its files alone, without opening a model."""
    config, metrics = _json(run.files.config), _json(run.files.metrics)
    part = next((name for name in ("test", "valid") if name in metrics), None)
    measured = metrics.get(part, {}) if part else {}
    held = holder(run.folder)
    epochs = rows_of(run)
    state = "training" if held and held.get("work") == "training" else "done" if part else "stopped"
    ends = measured.get("intervals", {}).get("metrics", {})
    headline = _headline(measured.get("task") or _json(run.files.origin).get("task"), measured.get("metrics", {}))
    files = run.files.config, run.files.history, run.files.metrics
    return {
        "name": run.name, "state": state, "part": part, "epoch": len(epochs),
        "epochs": config.get("training", {}).get("epochs"), "backbone": config.get("model", {}).get("backbone"),
        "method": " + ".join(one.get("kind", "?") for one in config.get("methods", [])) or "plain",
        "source": config.get("data", {}).get("source"), "corrected": bool(config.get("data", {}).get("corrections")),
        "metrics": [{"name": title, "value": value, "interval": ends.get(key)} for key, title, value in headline],
        "changed": max((file.stat().st_mtime for file in files if file.is_file()), default=0),
        "report": run.files.page.is_file(), "pid": held.get("pid") if held else None,
    }  # fmt: skip


def rows_of(run: Run) -> list[dict[str, float | None]]:
    """The epochs so far; NaN, which JSON does not know, becomes None."""
    if not run.files.history.is_file():
        return []
    with open(run.files.history, encoding="utf-8", newline="") as file:
        return [{name: _number(text) for name, text in row.items()} for row in csv.DictReader(file)]


def with_epochs(job: dict[str, Any], root: Path) -> dict[str, Any]:
    """A job, a training's with its epochs for progress."""
    if job["kind"] != "train":
        return job
    run = about(Run(root / job["run"]))
    return {**job, "progress": {"title": "training", "unit": "epochs", "done": run["epoch"], "total": run["epochs"]}}


def _headline(task_name: str | None, metrics: dict[str, Any]) -> list[tuple[str, str, float]]:
    from rsml.tasks import TASKS

    row = TASKS.get(task_name or "")
    names = row.headline if row else tuple(metrics)[:3]
    titles = {name: title for title, name in row.titles} if row else {}
    return [
        (n, titles.get(n, n.replace("_", " ").replace("f1", "F1")), metrics[n])
        for n in names
        if metrics.get(n) is not None
    ]


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
