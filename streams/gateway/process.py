"""`python -m streams gateway` from start to end."""

import asyncio
import logging
import math
import os
from pathlib import Path
from typing import Final

from streams.edge.key_ring import KeyRing
from streams.gateway.app import Gateway
from streams.gateway.bodies import MOST_BYTES
from streams.gateway.delivery import Delivery
from streams.gateway.guards.desk import GuardDesk
from streams.gateway.metrics import GatewayMetrics
from streams.gateway.signers import Signers
from streams.gateway.spool import Spool
from streams.kafka.admin import existing_topics
from streams.process.broker_watch import BrokerWatch
from streams.process.http import HttpServer, Serving, server_tls
from streams.process.logs import fields
from streams.process.service import claimed_settings, watched
from streams.settings import PREFIX, Settings
from streams.tracing.exporting import tracing
from streams.tracing.guarding import GuardTraces

log = logging.getLogger("spendfuse.gateway")

NEEDED: Final = ("usage.v1", "usage.dlq.v1", "keys.v1", "control.v1")
MOST_CONNECTIONS: Final = 2_000
END_S: Final = 10.0


def run_gateway() -> int:
    """Serve until told to end; returns the exit code. Raises `SpendfuseError` with what to do."""
    with claimed_settings("gateway") as settings, tracing("gateway") as tracer:
        existing_topics(settings, NEEDED)
        metrics = GatewayMetrics()
        broker = BrokerWatch(settings)
        spool = Spool(_spool_folder(settings), settings.spool_mb << 20)
        metrics.spool_bytes.set_function(lambda: spool.size_bytes)
        metrics.spool_limit_bytes.set(settings.spool_mb << 20)
        serving, traces, keys = Serving(), GuardTraces(tracer), KeyRing(settings)
        try:
            with (
                watched(settings, metrics, broker, lambda: serving.beat_ms, lambda: serving.fault() or keys.fault),
                keys,
                GuardDesk(settings, traces) as desk,
                Delivery(settings, spool, metrics) as delivery,
            ):
                metrics.keys.set_function(lambda: len(keys))
                metrics.unfollowed_topics.set_function(lambda: keys.fault is not None)
                metrics.blind.set_function(lambda: desk.is_blind)
                signers = Signers(settings.helicone_secrets, keys)
                gateway = Gateway(keys, signers, desk, delivery, metrics, traces, settings.console_url)
                metrics.body_bytes.set_function(lambda: gateway.bodies.bytes)
                asyncio.run(_serve(settings, gateway, serving))
        finally:
            spool.close()
    return 0


async def _serve(settings: Settings, gateway: Gateway, serving: Serving) -> None:
    host, port = settings.gateway_host, settings.gateway_port
    tls = server_tls(settings.gateway_tls_certificate, settings.gateway_tls_key, "GATEWAY_TLS")
    server = HttpServer(
        gateway.routes(), host, port, f"{PREFIX}GATEWAY_PORT",
        most_bytes=MOST_BYTES, most_connections=MOST_CONNECTIONS, longest_s=math.inf, tls=tls, end_s=END_S,
    )  # fmt: skip
    async with serving.until_told(server) as end:
        log.info("taking usage", extra=fields(host=host, port=port, tls=settings.gateway_tls_certificate is not None))
        await end.wait()
        gateway.end()


def _spool_folder(settings: Settings) -> Path:
    if settings.spool_folder is not None:
        return settings.spool_folder
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return state / "spendfuse" / f"spool-{settings.gateway_port}"
