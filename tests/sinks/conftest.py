"""Every store that this machine can have; one that it cannot is skipped by its name."""

import importlib.util
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.sinks.stores import open_store
from streams.sinks.stores.base import Store
from tests.support.stores import BigQueryEmulator, PostgresServer

STORES = ("duckdb", "postgres", "clickhouse", "bigquery")
_NEEDS = {"clickhouse": ("clickhouse_connect", "chdb"), "bigquery": ("google.cloud.bigquery", "bqemulator")}


def _is_here(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@pytest.fixture(scope="session")
def bigquery() -> Iterator[BigQueryEmulator]:
    """An emulator of these tests' own."""
    with BigQueryEmulator() as emulator:
        yield emulator


@pytest.fixture(params=STORES)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty store."""
    name = str(request.param)
    missing = [library for library in _NEEDS.get(name, ()) if not _is_here(library)]
    if missing:
        pytest.skip(f"{name}: {', '.join(missing)} not installed; `make sink-tests` has an environment with it")
    match name:
        case "duckdb":
            return f"duckdb:///{tmp_path}/events.duckdb"
        case "clickhouse":
            return f"chdb://{tmp_path}/clickhouse"
        case "bigquery":
            emulator: BigQueryEmulator = request.getfixturevalue("bigquery")
            return emulator.address(f"sink_{uuid.uuid4().hex[:12]}")
    postgres: PostgresServer = request.getfixturevalue("postgres")
    return postgres.new_database()


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    """An empty store, with its tables."""
    found = open_store(address)
    found.prepare("cluster/prefix.")
    yield found
    found.close()
