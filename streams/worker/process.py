"""`python -m streams worker` from start to end."""

import logging

from models.baselines.page_hinkley import load_page_hinkley
from streams.process.broker_watch import BrokerWatch
from streams.process.metrics import Metrics
from streams.process.service import claimed_settings, watched
from streams.process.watchdog import when_told_to_end
from streams.tracing.exporting import tracing
from streams.worker.worker import Worker

log = logging.getLogger("spendfuse")


def run_worker() -> int:
    """Work until told to end; returns the exit code. Raises `SpendfuseError` with what to do."""
    with claimed_settings("worker") as settings, tracing("worker") as tracer:
        if settings.engine_key is None:
            log.warning("SPENDFUSE_ENGINE_KEY is not set: commands go out unsigned, and guards with keys ignore them")
        load_page_hinkley()
        metrics = Metrics()
        broker = BrokerWatch(settings)
        worker = Worker(settings, metrics, broker, tracer)
        when_told_to_end(worker.stop)
        with watched(settings, metrics, broker, lambda: worker.beat_ms, worker.fault):
            worker.run()
    return 0
