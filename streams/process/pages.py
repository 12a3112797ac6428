"""The pages of a process: /metrics for Prometheus, /healthz for whoever starts it again."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from streams.process.http import HttpServer, HttpThread
from streams.settings import Settings

HealthCheck = Callable[[], str | None]
"""None, or one sentence about what is wrong."""


def pages(settings: Settings, registry: CollectorRegistry, healthy: HealthCheck) -> AbstractContextManager[object]:
    """Serves them while it is entered, on the port that the settings name; without one it does nothing."""
    if not settings.metrics_port:
        return nullcontext()

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    async def health(_: web.Request) -> web.Response:
        fault = healthy()
        return web.Response(text=f"{fault or 'ok'}\n", status=503 if fault else 200)

    routes = [web.get("/metrics", metrics), web.get("/healthz", health)]
    return HttpThread(HttpServer(routes, settings.metrics_host, settings.metrics_port, "SPENDFUSE_METRICS_PORT"))
