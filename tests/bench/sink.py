"""How fast a sink fills a store: everything waits on the topic, and a process of its own writes it."""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

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
    filled: dict[str, list[Filled]] = {"DuckDB": []}
    with bench_broker() as bootstrap, fresh_topics(bootstrap) as prefix, tempfile.TemporaryDirectory() as folder:
        start_ms = int(time.time() * 1000) - SPAN_S * 1000
        load = UsageLoad(Shape(start_ms, events / SPAN_S, RUNS, TENANTS))
        total = fill(bootstrap, prefix, load.opening()) + fill(bootstrap, prefix, load.events(events))
        variables = {"SPENDFUSE_KAFKA_BOOTSTRAP": bootstrap, "SPENDFUSE_PREFIX": prefix}
        binaries = postgres_binaries()
        for number in range(rounds):
            filled["DuckDB"].append(_fill(f"duckdb:///{folder}/{number}.duckdb", variables, total))
        if binaries is None:
            part.notes = ["Postgres was not measured: its binaries are not here"]
        else:
            with PostgresServer(binaries) as server:
                filled["Postgres"] = [_fill(server.new_database(), variables, total) for _ in range(rounds)]
    for name, found in filled.items():
        part.add(f"events into {name}", "events/s", [one.rate for one in found])
        part.add(f"CPU of a sink into {name}", "s a million", [one.cpu_s / total * 1_000_000 for one in found])
    part.notes = [*part.notes, broker_note(), "starts of the process included; Postgres without fsync"]
    return part


class Filled(NamedTuple):
    """One store filled."""

    rate: float
    """Events a second, from the start of the process to its end."""
    cpu_s: float
    """What the process used, its start included; not its database server's."""


def _fill(address: str, variables: dict[str, str], total: int) -> Filled:
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "streams", "sink", "--to", address, "--once"]
    subprocess.run(command, env=os.environ | variables, cwd=Path(__file__).parents[2], check=True)
    took_s, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    store = open_store(address)
    [(found,)] = store.query("select count(*) from events")
    store.close()
    assert found == total, f"{found} of {total} events in {store.name}"
    cpu_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Filled(total / took_s, cpu_s)
