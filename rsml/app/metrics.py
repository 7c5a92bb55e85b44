"""What the service counts and times, as Prometheus reads it."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rsml.app.engine import Engine

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The numbers of one application; `/metrics` prints them.

    Args:
        engine: Whose queue, batches and model are told too, if there is one.
    """

    def __init__(self, engine: Engine | None = None) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter("rsml_requests", "Requests answered.", ["route", "status"], registry=self.registry)
        self.seconds = Histogram(
            "rsml_request_seconds", "From request to answer.", ["route"], registry=self.registry, buckets=_SECONDS
        )
        self.images = Counter("rsml_images", "Images asked about.", ["outcome"], registry=self.registry)
        if engine is not None:
            self._of(engine)

    def _of(self, engine: Engine) -> None:
        sizes = Histogram(
            "rsml_batch_images", "Images a batch.", ["kind"], registry=self.registry, buckets=sorted(engine.sizes)
        )
        seconds = Histogram(
            "rsml_batch_seconds", "Time of a batch.", ["kind"], registry=self.registry, buckets=_SECONDS
        )

        def on_batch(kind: str, images: int, took: float) -> None:
            sizes.labels(kind).observe(images)
            seconds.labels(kind).observe(took)

        engine.on_batch = on_batch
        for name, says, value in (
            ("rsml_images_in_work", "Images accepted and not yet answered.", lambda: engine.in_work),
            ("rsml_queue_places", "Images in work at most.", lambda: engine.queue),
            ("rsml_model_swaps", "New models put into force since the start.", lambda: engine.swaps),
            ("rsml_model_swaps_failed", "New models that could not be loaded.", lambda: engine.failed_swaps),
        ):
            Gauge(name, says, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """All of it in the text format of Prometheus."""
        return generate_latest(self.registry)


class Measured:
    """ASGI middleware that counts and times every answer by route, unknown paths together.

    Args:
        app: What is measured.
        metrics: Where it is counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begun, status = time.monotonic(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, status).inc()
            self.metrics.seconds.labels(route).observe(time.monotonic() - begun)
