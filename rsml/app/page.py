"""The page: its files, what it must know first, its jobs, and the routers of its four views."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles

from rsml.app import page_correct, page_label, page_map, page_runs
from rsml.app.page_workspace import Workspace
from rsml.tasks import task

STATIC = Path(__file__).parent / "static"


def add_page(app: FastAPI, workspace: Workspace) -> None:
    """Gives a server the page.

    Args:
        app: The server, with its security in place.
        workspace: What the page works on.
    """
    router = APIRouter(prefix="/page")

    @router.get("/state")
    def state() -> dict[str, Any]:
        """What the page must know before it shows anything."""
        if workspace.run is None:
            return {"run": None, "root": str(workspace.root)}
        model, row = workspace.model, task(workspace.model.task)
        return {
            "run": workspace.run.name, "root": str(workspace.root), "task": model.task, "noun": row.noun,
            "labels": list(model.labels), "thresholds": model.thresholds.tolist() if row.thresholds else None,
            "one_class": row.one_class, "shares": row.shares, "colours": workspace.colours(),
        }  # fmt: skip

    @router.get("/jobs")
    def jobs() -> list[dict[str, Any]]:
        return [page_runs.with_epochs(job, workspace.root) for job in workspace.jobs.all()]

    @router.post("/jobs/{number}/{action}")
    def act(number: str, action: str) -> dict[str, Any]:
        if action == "cancel":
            return workspace.jobs.cancel(number)
        if action == "resume":
            return workspace.jobs.resume(number)
        workspace.jobs.forget(number)
        return {}

    for view in (page_label, page_runs, page_correct, page_map):
        view.add_routes(router, workspace)
    app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    @app.get("/", include_in_schema=False)
    def index() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get("/favicon.ico", include_in_schema=False)
    def icon() -> RedirectResponse:
        return RedirectResponse("/static/icon.svg")
