"""Opening a store by its address."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from schemas.errors import SettingsError
from streams.sinks.stores.base import Store

HOW: Final = (
    "write duckdb:///FOLDER/FILE.duckdb, postgresql://USER@HOST/DATABASE, clickhouse://USER@HOST:8123/DATABASE, or "
    "bigquery://PROJECT/DATASET"
)


def open_store(address: str) -> Store:
    """The store that an address names; it connects when first used.

    Raises:
        SettingsError: it names none, or the library for it is not installed.
    """
    scheme = urlsplit(address).scheme
    try:
        opener = _OPENERS[scheme]
    except KeyError:
        raise SettingsError(f"there is no store {scheme or address}; {HOW}") from None
    try:
        return opener(address)
    except ImportError as error:
        extra = {"postgresql": "postgres", "chdb": "clickhouse"}.get(scheme, scheme)
        raise SettingsError(
            f"a store at {scheme}:// needs a library that is not installed ({error.name}). In the checkout: "
            f"python -m pip install '.[sink-{extra}]'"
        ) from None


def _duckdb(address: str) -> Store:
    path = address.removeprefix("duckdb://").removeprefix("/")
    if not path:
        raise SettingsError(f"{address} names no file; {HOW}")
    store: Store = import_module(f"{__name__}.duckdb_file").DuckDbFile(Path(path))
    return store


def _postgres(address: str) -> Store:
    store: Store = import_module(f"{__name__}.postgres").Postgres(address)
    return store


def _clickhouse(address: str) -> Store:
    store: Store = import_module(f"{__name__}.clickhouse").of_address(address)
    return store


def _bigquery(address: str) -> Store:
    store: Store = import_module(f"{__name__}.bigquery").of_address(address)
    return store


_OPENERS: Final[dict[str, Callable[[str], Store]]] = {
    "duckdb": _duckdb, "postgresql": _postgres, "postgres": _postgres, "clickhouse": _clickhouse, "chdb": _clickhouse,
    "bigquery": _bigquery,
}  # fmt: skip
