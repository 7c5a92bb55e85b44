"""Routes of the Label view: drop images, see labels, class maps and the training scenes most alike."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, File, Response, UploadFile

from rsml.app.page_workspace import Workspace, picture, rgb
from rsml.data.images import ImageError
from rsml.retrieval.index import ABOUT, Index
from rsml.tasks import task
from rsml.utils.errors import UserError


def add_routes(router: APIRouter, workspace: Workspace) -> None:
    """Adds them."""

    @router.post("/images")
    def label(files: Annotated[list[UploadFile], File()]) -> list[dict[str, Any]]:
        """Labels uploads; one that cannot be read is answered with its fault, beside the others."""
        kept: list[dict[str, Any]] = []
        for file in files:
            short, place = workspace.new_upload(file.filename or "")
            with open(place, "wb") as target:
                shutil.copyfileobj(file.file, target, 2**20)
            kept.append({"id": short, "name": file.filename or "image"})
        return label_files(workspace, kept)

    @router.get("/images/{short}/picture")
    def show(short: str, side: int = 512) -> Response:
        return picture(rgb(workspace.pixels(short)), max(16, min(side, 2048)))

    @router.get("/images/{short}/map/{column}")
    def class_map(short: str, column: int, side: int = 512) -> Response:
        """The image with the class map of a label over it."""
        from rsml.explain.pictures import overlay

        maps = workspace.class_maps(short)
        if not 0 <= column < len(maps):
            raise UserError(f"label {column}: the model has {len(maps)}, counted from 0")
        small = np.asarray(picture_array(rgb(workspace.pixels(short)), max(16, min(side, 1024))))
        return picture(overlay(small, maps[column]), 1024)

    @router.get("/images/{short}/similar")
    def similar(short: str, k: int = 12) -> dict[str, Any]:
        """The training images most alike, or that there is no index yet."""
        state = index_state(workspace)
        if state != "ready":
            return {"state": state, "images": int((workspace.samples.splits == "train").sum())}
        index = Index.open(workspace.index)
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
        run = str(workspace.here.folder)
        command = ["retrieve", "index", run, "--out", str(workspace.index), "--split", "train", *fresh]
        return workspace.jobs.start("index", "Index of the training images", command)


def index_state(workspace: Workspace) -> str:
    """Whether the index of the training images is "ready", "missing", or "old": of a model before this one."""
    if not (workspace.index / ABOUT).is_file():
        return "missing"
    try:
        index = Index.open(workspace.index)
    except UserError:
        return "old"
    return "ready" if index.fingerprint == workspace.embedder.fingerprint else "old"


def label_files(workspace: Workspace, kept: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds to each upload its scores and labels, that it is a scene to be mapped, or its fault."""
    model, bad = workspace.model, list[ImageError]()
    by_file = {str(workspace.file(one["id"])): one for one in kept}
    scenes = _scenes(workspace, by_file)
    images = [file for file in by_file if file not in scenes]
    with workspace.turn:
        for file, scores in model.stream(images, bad):
            named = task(model.task).named(scores, model.thresholds)
            by_file[file] |= {"scores": scores.astype(float).tolist(), "named": np.asarray(named, bool).tolist()}
    for fault in bad:
        one = by_file[str(fault.path)]
        one["error"] = fault.reason
        workspace.file(one["id"]).unlink(missing_ok=True)
    for file in scenes:
        by_file[file]["scene"] = True
    return kept


def _scenes(workspace: Workspace, files: dict[str, Any]) -> set[str]:
    """Those that are large rasters, to be mapped and not labelled as one image."""
    if not find_spec("rasterio"):
        return set()
    from rsml.mapping.scenes import native_window, without_scenes

    window, _ = native_window(workspace.model, workspace.run)
    found: set[str] = set()
    for _ in without_scenes(files, window, found.add):
        pass
    return found


def picture_array(image: np.ndarray, side: int) -> Any:
    """Pixels made small enough to be drawn over."""
    from PIL import Image

    shown = Image.fromarray(np.ascontiguousarray(image))
    scale = side / max(shown.size)
    return shown.resize((max(1, round(shown.width * scale)), max(1, round(shown.height * scale))))
