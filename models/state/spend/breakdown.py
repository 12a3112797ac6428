"""What the spend of an hour is broken down by: sums by name in each dimension, few names and exact sums.

Spend is counted by attribution first, a `Portion` for each, in the row of the hour's totals. Once a rollup is due, or
there are too many, the portions are folded into the sums by name, which are a row of their own: a message adds to one
portion, and no row grows with the number of names.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from models.state.rows import MAX_INTEGER, Row
from schemas.rollup import BREAKDOWNS, MOST_NAMES, OTHER, Share

MOST_PORTIONS: Final = 32
"""Attributions of one hour that are counted apart before they are folded."""
MOST_KNOWN: Final = 1_024
"""Attributions of a tenant that have a number. With one more all are forgotten, and numbered anew as they come."""
MOST_NAMES_KEPT: Final = 2 * MOST_NAMES
"""Names of one dimension whose sums are known. With one more, the cheapest half becomes `OTHER`: a name that begins
small among very many and grows later is counted by itself from then on."""

Names = tuple[str, ...]
"""An attribution, in the order of `BREAKDOWNS`."""
Sums = list[int]
"""Cost in nano-dollars, model calls, input tokens, output tokens."""
Table = dict[str, Sums]
"""Name -> what it has come to."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[dict[str, list[int]]]).decode


class Span:
    """A stretch of time between two folds of one hour's portions; told from others by being itself."""

    __slots__ = ()


class Portion:
    """What was spent under one attribution since the sums of its hour were last written."""

    __slots__ = ("calls", "cost_nanousd", "input_tokens", "model", "names", "number", "output_tokens", "span")

    def __init__(self, names: Names, number: int, span: Span) -> None:
        self.names = names
        self.number = number
        """That of the names, as `KnownNames` has it."""
        self.model = names[0]
        self.span = span
        """What tells the stretch of time it is for from others: folded portions are counted in no more."""
        self.cost_nanousd = 0
        self.calls = 0
        self.input_tokens = 0
        self.output_tokens = 0

    def sums(self) -> Sums:
        """In the order of `Sums`, none larger than a row can hold."""
        sums = [self.cost_nanousd, self.calls, self.input_tokens, self.output_tokens]
        return sums if max(sums) <= MAX_INTEGER else [min(MAX_INTEGER, one) for one in sums]


class KnownNames(Row):
    """A number for an attribution of a tenant, so that the rows of totals, which are written often, are short."""

    __slots__ = ("names", "number", "tenant_id")
    kind = "names"

    def __init__(self, tenant_id: str, number: int, names: Names) -> None:
        super().__init__()
        self.tenant_id = tenant_id
        self.number = number
        self.names = names

    def key_parts(self) -> tuple[str, ...]:
        return (self.tenant_id, str(self.number))

    def fields(self) -> tuple[Any, ...]:
        return self.names


NO_PORTION: Final = Portion(("",) * len(BREAKDOWNS), 0, Span())
"""Stands for none: no hour is in its span, and no call is of its model."""


class HourShares(Row):
    """The sums by name of one hour's totals. Kept packed between rollups, and for a day when the hour is over."""

    __slots__ = ("_packed", "_tables", "key", "tenant_id")
    kind = "shares"

    def __init__(self, tenant_id: str, key: tuple[str, ...], packed: bytes = b"") -> None:
        super().__init__()
        self.tenant_id = tenant_id
        self.key = key
        """That of the totals."""
        self._packed = packed
        self._tables: list[Table] | None = None

    def add(self, portions: Iterable[Portion]) -> None:
        """Count portions in."""
        tables = self._tables = self._unpacked()
        for portion in portions:
            sums = portion.sums()
            for table, name in zip(tables, portion.names, strict=True):
                known = table.get(name)
                if known is None:
                    table[name] = sums.copy()
                else:
                    _add(known, sums)
        for table in tables:
            if len(table) > MOST_NAMES_KEPT:
                _shrink(table)

    def published(self) -> dict[str, dict[str, Share]]:
        """Dimension -> name -> its share, as rollups.v1 tells it: those that cost most first, all others last."""
        return {dimension: _shares(table) for dimension, table in zip(BREAKDOWNS, self._unpacked(), strict=True)}

    def _unpacked(self) -> list[Table]:
        if self._tables is not None:
            return self._tables
        return _decode(self._packed) if self._packed else [{} for _ in BREAKDOWNS]

    def key_parts(self) -> tuple[str, ...]:
        return (self.tenant_id, *self.key)

    def fields(self) -> tuple[Any, ...]:
        if self._tables is not None:
            self._packed = _encode(self._tables)
            self._tables = None
        return (self._packed,)


def _add(known: Sums, sums: Sums) -> None:
    known[0] += sums[0]
    known[1] += sums[1]
    known[2] += sums[2]
    known[3] += sums[3]
    if max(known) > MAX_INTEGER:
        known[:] = [min(MAX_INTEGER, one) for one in known]


def _dearest(table: Table) -> list[str]:
    """The names, without `OTHER`, those that cost most first."""
    names = [(-sums[0], -sums[1], name) for name, sums in table.items() if name != OTHER]
    return [name for *_, name in sorted(names)]


def _shrink(table: Table) -> None:
    """Leave the dearest names by themselves; all others are one."""
    others = table.setdefault(OTHER, [0, 0, 0, 0])
    for name in _dearest(table)[MOST_NAMES:]:
        _add(others, table.pop(name))


def _shares(table: Table) -> dict[str, Share]:
    if len(table) == 1:  # of most dimensions an hour has one name
        return {name: _share(sums) for name, sums in table.items()}
    if len(table) > MOST_NAMES:
        table = {name: sums.copy() for name, sums in table.items()}
        _shrink(table)
    shares = {name: _share(table[name]) for name in _dearest(table)}
    if OTHER in table:
        shares[OTHER] = _share(table[OTHER])
    return shares


def _share(sums: Sums) -> Share:
    cost_nanousd, calls, input_tokens, output_tokens = sums
    return Share(cost_nanousd=cost_nanousd, calls=calls, input_tokens=input_tokens, output_tokens=output_tokens)
