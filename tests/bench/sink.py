"""How fast a sink fills a store: everything waits on the topic, and a process of its own writes it."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from streams.sinks.stores import open_store
from tests.bench.broker import bench_broker, broker_note, fill, fresh_topics
from tests.bench.load import Shape, UsageLoad
from tests.bench.report import Part
from tests.support.stores import PostgresServer, postgres_binaries

TENANTS = 200
SPAN_S = 600
RUNS = 5_000


def measure(events: int, rounds: int) -> Part:
    """Fill an empty DuckDB file and an empty Postgres database again and again with as many events."""
    part = Part("sink", f"{events:,} events into a store")
    rates: dict[str, list[float]] = {"DuckDB": []}
    with bench_broker() as bootstrap, fresh_topics(bootstrap) as prefix, tempfile.TemporaryDirectory() as folder:
        start_ms = int(time.time() * 1000) - SPAN_S * 1000
        load = UsageLoad(Shape(start_ms, events / SPAN_S, RUNS, TENANTS))
        total = fill(bootstrap, prefix, load.opening()) + fill(bootstrap, prefix, load.events(events))
        variables = {"SPENDFUSE_KAFKA_BOOTSTRAP": bootstrap, "SPENDFUSE_PREFIX": prefix}
        binaries = postgres_binaries()
        for number in range(rounds):
            rates["DuckDB"].append(_fill(f"duckdb:///{folder}/{number}.duckdb", variables, total))
        if binaries is None:
            part.notes = ["Postgres was not measured: its binaries are not here"]
        else:
            with PostgresServer(binaries) as server:
                rates["Postgres"] = [_fill(server.new_database(), variables, total) for _ in range(rounds)]
    for name, found in rates.items():
        part.add(f"events into {name}", "events/s", found)
    part.notes = [*part.notes, broker_note(), "starts of the process included; Postgres without fsync"]
    return part


def _fill(address: str, variables: dict[str, str], total: int) -> float:
    """Events a second, from the start of the process to its end."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "streams", "sink", "--to", address, "--once"]
    subprocess.run(command, env=os.environ | variables, cwd=Path(__file__).parents[2], check=True)
    took_s = time.perf_counter() - begun
    store = open_store(address)
    [(found,)] = store.query("select count(*) from events")
    store.close()
    assert found == total, f"{found} of {total} events in {store.name}"
    return total / took_s
