"""The routes for programs: /v1/predict, /v1/embed, /v1/similar, /v1/explain, /v1/model."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

import rsml
from rsml.app.engine import Engine, Kind, Served
from rsml.app.metrics import Metrics
from rsml.app.security import Limits, Roots
from rsml.data.images import ImageError
from rsml.retrieval.index import ABOUT, Index
from rsml.utils.errors import UserError

MOST_MAPS = 8
Images = list[tuple[str, Callable[[], bytes]]]
Answers = list[Any]
"""Of each image an array, or the `UserError` that it cannot be used for."""


class OneImage(BaseModel):
    """An image in a JSON request: its content, or the path of a file in a folder that the service may read."""

    model_config = ConfigDict(extra="forbid")
    name: str | None = Field(None, max_length=200, description="Comes back in the answer.")
    base64: str | None = Field(None, description="The content of an image file.")
    path: str | None = Field(None, max_length=4096, description="A file below an allowed folder.")

    @model_validator(mode="after")
    def _one_of_two(self) -> OneImage:
        if (self.base64 is None) == (self.path is None):
            raise ValueError("give either base64 or path")
        return self


class Asked(BaseModel):
    """A JSON request."""

    model_config = ConfigDict(extra="forbid")
    images: list[OneImage]


class Fault(BaseModel):
    """Why there is no answer."""

    error: str


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"images": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
            "application/json": {"schema": {"$ref": "#/components/schemas/Asked"}},
        },
    }
}
_FAULTS: dict[int | str, dict[str, Any]] = {
    400: {"model": Fault, "description": "The request cannot be read."},
    401: {"model": Fault, "description": "A token is needed."},
    409: {"model": Fault, "description": "The model or its index cannot answer this."},
    413: {"model": Fault, "description": "Too many bytes or images."},
    415: {"model": Fault, "description": "Neither multipart/form-data nor application/json."},
    422: {"model": Fault, "description": "Something in the request is wrong, or no image in it can be read."},
    429: {"model": Fault, "description": "The queue is full; see Retry-After."},
    504: {"model": Fault, "description": "Not answered in time."},
}


class Service:
    """What the routes share.

    Args:
        engine: Answers.
        limits: Of a request.
        roots: Folders that a request may name files of.
        metrics: Where images are counted.
        index: Index folder of `/v1/similar`; None is `index` in the run folder.
    """

    def __init__(
        self, engine: Engine, limits: Limits, roots: Roots, metrics: Metrics, index: str | Path | None = None
    ) -> None:
        self.engine, self.limits, self.roots, self.metrics = engine, limits, roots, metrics
        self._index_folder = index
        self._opened: tuple[Any, Index] | None = None

    async def images(self, request: Request) -> Images:
        """Names and contents of a request's images, none decoded yet."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            found = await self._uploads(request)
        elif kind == "application/json":
            try:
                asked = await run_in_threadpool(Asked.model_validate_json, await request.body())
            except ValidationError as fault:
                first = fault.errors(include_url=False, include_input=False)[0]
                where = ".".join(map(str, first["loc"])) or "the body"
                raise HTTPException(422, f"{where}: {first['msg']}") from None
            found = [self._named(number, image) for number, image in enumerate(asked.images, start=1)]
        else:
            raise HTTPException(415, "expected multipart/form-data or application/json")
        if not found:
            raise HTTPException(422, "no image in the request")
        most = min(self.limits.images, self.engine.queue)
        if len(found) > most:
            raise HTTPException(413, f"{len(found)} images, at most {most} in one request")
        return found

    async def _uploads(self, request: Request) -> Images:
        found: Images = []
        # Starlette keeps what is large in nameless temporary files.
        async with request.form(max_files=self.limits.images, max_fields=1, max_part_size=1024) as form:
            for field, value in form.multi_items():
                if not isinstance(value, UploadFile):
                    raise HTTPException(422, f"field '{field}': expected a file; options go into the address")
                name = (value.filename or f"image {len(found) + 1}")[:200]
                found.append((name, partial(bytes, await value.read())))
        return found

    def _named(self, number: int, image: OneImage) -> tuple[str, Callable[[], bytes]]:
        name = image.name or image.path or f"image {number}"
        if image.path is not None:
            path = image.path
            return name, lambda: self.roots.read(path, self.limits.body)
        text = image.base64 or ""

        def decoded() -> bytes:
            try:
                return base64.b64decode(text, validate=True)
            except binascii.Error:
                raise ImageError(name, "its base64 is damaged") from None

        return name, decoded

    async def ask(
        self, served: Served, kind: Kind, images: Images, columns: Sequence[tuple[int, ...]] | None = None
    ) -> Answers:
        """An answer or a fault for each image; a fault of one does not touch the others."""
        # Numbers for names: the log says something of files now and then, and a caller's text does not belong there.
        numbered = [(f"image {number}", read) for number, (_, read) in enumerate(images, start=1)]
        futures = self.engine.ask(kind, numbered, served=served, columns=columns)
        waiting = asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
        try:
            answers = await asyncio.wait_for(waiting, self.limits.seconds)
        except asyncio.TimeoutError:
            raise HTTPException(504, f"not answered within {self.limits.seconds:g} s") from None
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, UserError):
                raise answer
        return answers

    def reply(self, served: Served, images: Images, answers: Answers, tell: Callable[[int], dict[str, Any]]) -> Any:
        """The answer to a request: the model, and of each image what `tell` says of its row, or its fault."""
        told = []
        for row, ((name, _), answer) in enumerate(zip(images, answers, strict=True)):
            bad = isinstance(answer, Exception)
            self.metrics.images.labels("bad" if bad else "answered").inc()
            told.append({"name": name, **({"error": _reason(answer)} if bad else tell(row))})
        status = 422 if all("error" in one for one in told) else 200
        about = {"name": served.name, "fingerprint": served.fingerprint}
        faults = {"error": "no image could be read"} if status == 422 else {}
        return JSONResponse({**faults, "model": about, "images": told}, status)

    def index(self, served: Served) -> Index:
        """The archive that similar scenes come from, opened again when it has changed."""
        folder = self._index_folder or (served.run.files.index if served.run else None)
        if folder is None or not (Path(folder) / ABOUT).is_file():
            raise UserError(
                f"no index of scenes to search; make one with: rsml retrieve index {served.source.parent} "
                f"--out {folder or 'FOLDER'}"
            )
        stamp = (Path(folder) / ABOUT).stat().st_mtime_ns, served.fingerprint
        if self._opened is None or self._opened[0] != stamp:
            index = Index.open(folder)
            index.check_model(served.embedder.fingerprint, served.name)
            self._opened = stamp, index
        return self._opened[1]


router = APIRouter(prefix="/v1", responses=_FAULTS)


@router.post("/predict", openapi_extra=_BODY, summary="Labels and calibrated scores of images")
async def predict(request: Request) -> Any:
    """Gives the numbers of `rsml predict`: each label's score, and which labels are named."""
    service: Service = request.app.state.service
    served, images = service.engine.served, await service.images(request)
    model = served.scene_model
    answers = await service.ask(served, "scores", images)

    def tell(row: int) -> dict[str, Any]:
        scores = answers[row]
        return {"labels": _named(served, scores), "scores": dict(zip(model.labels, scores.tolist(), strict=True))}

    return service.reply(served, images, answers, tell)


@router.post("/embed", openapi_extra=_BODY, summary="Embeddings of images")
async def embed(request: Request) -> Any:
    """Gives the embedding that `rsml retrieve` searches with."""
    service: Service = request.app.state.service
    served, images = service.engine.served, await service.images(request)
    answers = await service.ask(served, "embedding", images)
    return service.reply(served, images, answers, lambda row: {"embedding": answers[row].tolist()})


@router.post("/similar", openapi_extra=_BODY, summary="The scenes of an archive that are most alike")
async def similar(request: Request, k: Annotated[int, Query(ge=1, le=100)] = 10) -> Any:
    """Searches the run's index; paths are relative to the archive."""
    service: Service = request.app.state.service
    served, images = service.engine.served, await service.images(request)
    index = await run_in_threadpool(service.index, served)
    answers = await service.ask(served, "embedding", images)
    good = [row for row, answer in enumerate(answers) if not isinstance(answer, Exception)]
    found: dict[int, list[dict[str, Any]]] = {}
    if good:
        rows, values = await run_in_threadpool(index.search, np.stack([answers[row] for row in good]), k)
        for row, near, measured in zip(good, rows, values, strict=True):
            found[row] = [_scene(index, int(r), float(v)) for r, v in zip(near, measured, strict=True) if r >= 0]
    return service.reply(served, images, answers, lambda row: {"distance": index.metric, "similar": found[row]})


@router.post("/explain", openapi_extra=_BODY, summary="Where in an image a label's score comes from")
async def explain(
    request: Request,
    label: Annotated[list[str], Query(description="Labels; without any, those that are named.")] = [],  # noqa: B006
) -> Any:
    """Gives Grad-CAM maps, rows from the top, each from 0 to 1."""
    service: Service = request.app.state.service
    served, images = service.engine.served, await service.images(request)
    labels = served.scene_model.labels
    if len(label) > MOST_MAPS:
        raise HTTPException(413, f"{len(label)} labels, at most {MOST_MAPS} in one request")
    maps = await run_in_threadpool(lambda: served.class_maps)
    given = tuple(maps.columns(label)) if label else None
    scores = await service.ask(served, "scores", images)
    good = [row for row, answer in enumerate(scores) if not isinstance(answer, Exception)]
    columns = {row: given or _that_matter(served, scores[row]) for row in good}
    made: Answers = list(scores)
    explained = await service.ask(served, "maps", [images[row] for row in good], [columns[row] for row in good])
    for row, answer in zip(good, explained, strict=True):
        made[row] = answer

    def tell(row: int) -> dict[str, Any]:
        shown = [
            {"label": labels[column], "score": float(scores[row][column]), "map": np.round(one, 4).tolist()}
            for column, one in zip(columns[row], made[row].astype(float), strict=True)
        ]
        return {"layer": maps.after, "maps": shown}

    return service.reply(served, images, made, tell)


@router.get("/model", summary="What the model is and what its numbers mean")
async def model(request: Request) -> Any:
    """Gives labels, thresholds, calibration, and a fingerprint that changes with any of them and with any weight."""
    service: Service = request.app.state.service
    served, limits = service.engine.served, service.limits
    scene_model = served.scene_model
    reading = {key: value for key, value in scene_model.reading.items() if key != "cache"}
    return JSONResponse(
        {
            "name": served.name,
            "fingerprint": served.fingerprint,
            "task": scene_model.task,
            "labels": list(scene_model.labels),
            "thresholds": dict(zip(scene_model.labels, scene_model.thresholds.tolist(), strict=True)),
            "calibration": served.calibration,
            "promise": served.promise,
            "reading": reading,
            "views": scene_model.views,
            "limits": {"bytes": limits.body, "pixels": limits.pixels, "images": limits.images},
            "version": rsml.__version__,
        }
    )


def _named(served: Served, scores: Any) -> list[str]:
    decided = served.scene_model.decide(scores)
    return [name for name, there in zip(served.scene_model.labels, decided, strict=True) if there]


def _that_matter(served: Served, scores: Any) -> tuple[int, ...]:
    """Columns of the labels that are named, the surest first; the likeliest where none is."""
    order = np.argsort(-scores, kind="stable")
    named = [int(column) for column in order if served.scene_model.decide(scores)[column]]
    return tuple(named[:MOST_MAPS] or [int(order[0])])


def _scene(index: Index, row: int, value: float) -> dict[str, Any]:
    samples = index.samples
    labels = [name for name, there in zip(samples.label_names, samples.present[row], strict=True) if there]
    return {"path": str(samples.paths[row]), "row": row, "value": value, "labels": labels}


def _reason(fault: Any) -> str:
    return fault.reason if isinstance(fault, ImageError) else str(fault)
