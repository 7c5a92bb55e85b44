"""One application for the service and the page: guarded, measured, drained.

How routes are added: write an `APIRouter` and give it to `create_app(engine, routers=[...])`, or include it in what
that returns. A route finds what it needs in `request.app.state`: `engine` (None where no model was opened), `service`
(see `rsml.app.service.Service`), `limits`, `roots`, `metrics`. Raise `UserError` (409) or `HTTPException`; both become
`{"error": one line}`. Static files are `mounts`. What must end before the process does goes into `closing`.
Routes that take large uploads are named in `Limits.uploads`. All answers carry `security.HEADERS`, whatever the route.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

import rsml
from rsml.app import service
from rsml.app.engine import Engine, Full
from rsml.app.metrics import Measured, Metrics
from rsml.app.security import HEADERS, LOOPBACK, Guard, Limits, Roots
from rsml.utils.errors import UserError


def create_app(
    engine: Engine | None,
    *,
    limits: Limits | None = None,
    token: str | None = None,
    hosts: Iterable[str] | None = LOOPBACK,
    roots: Sequence[str | Path] = (),
    index: str | Path | None = None,
    routers: Sequence[APIRouter] = (),
    mounts: Mapping[str, ASGIApp] | None = None,
    closing: Sequence[Callable[[], None]] = (),
) -> FastAPI:
    """Makes the application.

    Args:
        engine: Answers the routes of the service, and is closed with the application; without it there are none.
        limits: See `Limits`.
        token: See `Guard`, as for `hosts`.
        hosts: Names it answers for.
        roots: Folders whose files a request may name.
        index: Index folder of `/v1/similar`; None is `index` in the run folder.
        routers: More routes.
        mounts: Applications, such as static files, by the beginning of their path.
        closing: Called at the end, first to last, before the engine is closed.
    """
    limits = limits or Limits()
    metrics = Metrics(engine)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        for close in [*closing, *([engine.close] if engine else [])]:
            await run_in_threadpool(close)

    app = FastAPI(
        title="rsml",
        description="Labels, embeddings, similar scenes and class maps of remote-sensing images.",
        version=rsml.__version__,
        docs_url=None,  # its scripts come from a CDN
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.engine, app.state.limits, app.state.metrics = engine, limits, metrics
    app.state.roots = Roots(roots)
    app.state.service = service.Service(engine, limits, app.state.roots, metrics, index) if engine else None
    app.include_router(_about)
    for router in [*([service.router] if engine else []), *routers]:
        app.include_router(router)
    for path, mounted in (mounts or {}).items():
        app.mount(path, mounted)
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    app.add_middleware(Guard, limits=limits, token=token, hosts=hosts)
    app.add_middleware(Measured, metrics=metrics)
    _describe(app)
    return app


_about = APIRouter()


@_about.get("/healthz", summary="Whether the service lives")
async def healthz(request: Request) -> Response:
    """Needs no token."""
    engine = request.app.state.engine
    alive = engine is None or engine.alive
    return JSONResponse({"status": "ok" if alive else "ending"}, 200 if alive else 503)


@_about.get("/metrics", summary="Counts and times in the text format of Prometheus")
async def metrics(request: Request) -> Response:
    """Gives requests, batches, the queue, the model, memory and processor time."""
    return Response(request.app.state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _describe(app: FastAPI) -> None:
    """Adds to the OpenAPI document what bodies are made of: routes read them by themselves."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        document = plain()
        made = service.Asked.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(made.pop("$defs"), Asked=made)
        return document

    app.openapi = described  # type: ignore[method-assign]


async def _full(_: Request, fault: Exception) -> Response:
    seconds = fault.retry_after if isinstance(fault, Full) else 1
    return JSONResponse({"error": str(fault)}, 429, {"retry-after": str(seconds)})


async def _user(_: Request, fault: Exception) -> Response:
    return JSONResponse({"error": str(fault)}, 409)


async def _http(_: Request, fault: Exception) -> Response:
    status, headers = (fault.status_code, fault.headers) if isinstance(fault, HTTPException) else (500, None)
    return JSONResponse({"error": getattr(fault, "detail", "")}, status, headers)


async def _invalid(_: Request, fault: Exception) -> Response:
    first = fault.errors()[0] if isinstance(fault, RequestValidationError) else {"loc": (), "msg": str(fault)}
    return JSONResponse({"error": f"{'.'.join(map(str, first['loc']))}: {first['msg']}"}, 422)


async def _unexpected(_: Request, __: Exception) -> Response:
    # The traceback is in the log; a caller learns nothing of the inside.
    # Outside of the guard, so that the headers are set here.
    return JSONResponse({"error": "an internal fault, which the service's log names"}, 500, HEADERS)


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it


_HANDLERS: dict[Any, Any] = {
    Full: _full,
    UserError: _user,
    HTTPException: _http,
    RequestValidationError: _invalid,
    ClientDisconnect: _gone,
    Exception: _unexpected,
}
