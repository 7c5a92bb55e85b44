"""The page: what it must know first, its jobs, and the routers of its four views."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse, RedirectResponse

from rsml.app import page_correct, page_label, page_runs
from rsml.app.page_workspace import Workspace
from rsml.tasks import task

STATIC = Path(__file__).parent / "static"


def page_router(workspace: Workspace) -> APIRouter:
    """The routes of the page, for `create_app`; its files, `STATIC`, are mounted at /static.

    Args:
        workspace: What the page works on.
    """
    pages, router = APIRouter(include_in_schema=False), APIRouter(prefix="/page")

    @router.get("/state")
    def state() -> dict[str, Any]:
        """What the page must know before it shows anything."""
        if workspace.engine is None:
            return {"run": None, "root": str(workspace.root), "labels": []}
        model, row = workspace.model, task(workspace.model.task)
        return {
            "run": workspace.run.name if workspace.run else None, "root": str(workspace.root), "task": model.task,
            "labels": list(model.labels), "thresholds": model.thresholds.tolist() if row.thresholds else None,
            "one_class": row.one_class, "shares": row.shares, "colours": workspace.colours(),
            "model": workspace.served.fingerprint, "maps": find_spec("rasterio") is not None,
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

    for view in (page_label, page_runs, page_correct):
        view.add_routes(router, workspace)
    if find_spec("rasterio"):
        from rsml.app import page_map

        page_map.add_routes(router, workspace)

    @pages.get("/")
    def index() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    @pages.get("/favicon.ico")
    def icon() -> RedirectResponse:
        return RedirectResponse("/static/icon.svg")

    pages.include_router(router)
    return pages
