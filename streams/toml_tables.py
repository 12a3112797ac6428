"""Files of settings in which each `[[table]]` is one thing with a name: enforcers, consoles."""

import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from schemas.errors import SettingsError

Table = TypeVar("Table", bound=BaseModel)


def read_tables(
    path: Path,
    kind: str,
    model: type[Table],
    unique: Sequence[str],
    more: Callable[[Table], Iterable[str]] = lambda _: (),
) -> list[Table]:
    """The tables `[[kind]]` of a file, each with a `name`. Raises `SettingsError` with all its faults.

    Args:
        path: the file.
        kind: what its tables are called; it holds nothing else.
        model: what each of them is.
        unique: fields that no two may have alike.
        more: further faults of one, in words.
    """
    given = _parsed(path)
    faults = [f"{name}: nobody knows this word here" for name in given if name != kind]
    found: list[Table] = []
    try:
        found = TypeAdapter(list[model]).validate_python(given.get(kind, []))  # type: ignore[valid-type]
    except ValidationError as error:
        faults += [f"{_place(given, kind, one['loc'])}: {one['msg']}" for one in error.errors()]
    if not given.get(kind):
        faults.append(f"there is no [[{kind}]] in it")
    faults += [fault for one in found for fault in more(one)]
    for field in unique:
        counts = Counter(getattr(one, field) for one in found)
        faults += [f"two {kind}s have the {field} {value}" for value, times in counts.items() if times > 1]
    if faults:
        raise SettingsError(f"{path} has faults:\n" + "\n".join(f"  - {fault}" for fault in faults))
    return found


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None


def _place(given: dict[str, Any], kind: str, loc: tuple[int | str, ...]) -> str:
    """Where a fault is, by the table's name where it has one."""
    if not loc or not isinstance(loc[0], int):
        return kind
    table = given[kind][loc[0]]
    name = table.get("name", f"number {loc[0] + 1}") if isinstance(table, dict) else f"number {loc[0] + 1}"
    return f"{kind} {name}: {'.'.join(map(str, loc[1:]))}" if loc[1:] else f"{kind} {name}"
