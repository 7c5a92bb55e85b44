"""Routes of the Label view: drop images, see labels, class maps and the training scenes most alike."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, File, Response, UploadFile

from rsml.app.page_workspace import Workspace, picture
from rsml.data.images import ImageError, scaled
from rsml.explain.pictures import overlay
from rsml.retrieval.index import ABOUT, Index
from rsml.tasks import task
from rsml.utils.errors import UserError


def add_routes(router: APIRouter, workspace: Workspace) -> None:
    """Adds them."""

    @router.post("/images")
    def label(files: Annotated[list[UploadFile], File()], scene: bool = False) -> list[dict[str, Any]]:
        """Labels uploads, or keeps them to be mapped; one that cannot be read is answered with its fault."""
        kept: list[dict[str, Any]] = []
        for file in files:
            short, place = workspace.new_upload(file.filename or "")
            with open(place, "wb") as target:
                shutil.copyfileobj(file.file, target, 2**20)
            kept.append({"id": short, "name": file.filename or "image"})
        return kept if scene else label_files(workspace, kept)

    @router.get("/images/{short}/picture")
    def show(short: str, side: int = 512) -> Response:
        image = workspace.pixels(short)
        return picture(scaled(image, max(16, min(side, 1024, max(image.shape[:2])))))

    @router.get("/images/{short}/map/{column}")
    def class_map(short: str, column: int, side: int = 512) -> Response:
        """The image with the class map of a label over it."""
        found = workspace.class_map(short, column)
        return picture(overlay(scaled(workspace.pixels(short), max(16, min(side, 1024))), found))

    @router.get("/images/{short}/similar")
    def similar(short: str, k: int = 12) -> dict[str, Any]:
        """The training images most alike, or that there is no index yet."""
        state = index_state(workspace)
        if state != "ready":
            return {"state": state, "images": int((workspace.samples.splits == "train").sum())}
        index = Index.open(workspace.here.files.index)
        row_of = {path: row for row, path in enumerate(workspace.samples.paths.tolist())}
        own = [row for row, path in enumerate(index.samples.paths.tolist()) if f"row-{row_of.get(path)}" == short]
        rows, values = index.search(workspace.vector(short), max(1, min(k, 60)), own=own or None)
        found = []
        for row, value in zip(rows[0].tolist(), values[0].tolist(), strict=True):
            path = str(index.samples.paths[row])
            names = [index.samples.label_names[c] for c in np.flatnonzero(index.samples.present[row])]
            found.append({"id": f"row-{row_of[path]}", "path": path, "similarity": value, "labels": names})
        return {"state": "ready", "found": found}

    @router.post("/index")
    def build_index() -> dict[str, Any]:
        """Begins to embed the training images."""
        fresh = ["--fresh"] if index_state(workspace) == "old" else []
        run = workspace.here
        command = ["retrieve", "index", str(run.folder), "--out", str(run.files.index), "--split", "train", *fresh]
        return workspace.jobs.start("index", "Index of the training images", command)


def index_state(workspace: Workspace) -> str:
    """Whether the index of the training images is "ready", "missing", or "old": of a model before this one."""
    if not (workspace.here.files.index / ABOUT).is_file():
        return "missing"
    try:
        index = Index.open(workspace.here.files.index)
    except UserError:
        return "old"
    return "ready" if index.fingerprint == workspace.served.embedder.fingerprint else "old"


def label_files(workspace: Workspace, kept: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds to each upload its scores and labels, that it is a scene to be mapped, or its fault."""
    engine, served = workspace.engine, workspace.served
    assert engine is not None
    scenes = _scenes(workspace, [str(workspace.file(one["id"])) for one in kept])
    images = [one for one in kept if str(workspace.file(one["id"])) not in scenes]
    asked = [(one["name"], workspace.file(one["id"]).read_bytes) for one in images]
    for one, answer in zip(images, engine.ask("scores", asked, served=served), strict=True):
        try:
            scores = answer.result()
        except UserError as fault:
            one["error"] = fault.reason if isinstance(fault, ImageError) else str(fault)
            workspace.file(one["id"]).unlink(missing_ok=True)
            continue
        named = task(served.scene_model.task).named(scores, served.scene_model.thresholds)
        one |= {"scores": scores.astype(float).tolist(), "named": np.asarray(named, bool).tolist()}
    for one in kept:
        one["scene"] = one not in images
    return kept


def _scenes(workspace: Workspace, files: list[str]) -> set[str]:
    """Those that are large rasters, to be mapped and not labelled as one image."""
    if not find_spec("rasterio"):
        return set()
    from rsml.mapping.scenes import native_window, without_scenes

    window, _ = native_window(workspace.model, workspace.run)
    found: set[str] = set()
    for _ in without_scenes(files, window, found.add):
        pass
    return found
