"""What a tenant's data had wrong today, counted by kind. Part of the tenant's row."""

from typing import Any, Final, Literal, get_args

from schemas.duration import DAY_MS

Kind = Literal[
    "unpriced", "price_mismatch", "contradicting_tokens", "not_fully_priced", "uncounted", "too_late", "backfilled",
    "misplaced", "unattributed", "unreadable", "blind", "reused_id", "sent_again",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)
MOST_EXAMPLES: Final = 5
MOST: Final = (1 << 62) - 1
"""Saturation bound of the amounts: a row holds 64-bit integers."""


class Tally:
    """One kind of fault on one day (UTC): how many records, what they cost, and a few of them by name."""

    __slots__ = (
        "computed_nanousd", "cost_nanousd", "day_ms", "models", "next_records", "notes", "of_records", "off_nanousd",
        "records", "runs", "stamp", "tokens",
    )  # fmt: skip

    def __init__(self, day_ms: int) -> None:
        self.day_ms = day_ms
        self.records = 0
        self.of_records = 0
        """How many there were in all, where the share matters: known to whoever counts them, and no part of the row."""
        self.cost_nanousd = 0
        self.computed_nanousd = 0
        """What the records would have cost by the price tables."""
        self.off_nanousd = 0
        """By how much reported and computed costs differed, summed over the records."""
        self.tokens = 0
        self.models: list[str] = []
        self.runs: list[str] = []
        self.notes: list[str] = []
        """What was missing or wrong, in words."""
        self.stamp = 0
        """Of the policy whose rules have all found something."""
        self.next_records = 0
        """At how many records they are asked again, for today's figures."""

    def add(
        self,
        *,
        cost_nanousd: int = 0,
        computed_nanousd: int = 0,
        tokens: int = 0,
        model: str | None = None,
        run_id: str | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        """Count one record."""
        self.records += 1
        self.cost_nanousd += cost_nanousd
        self.computed_nanousd += computed_nanousd
        self.off_nanousd += abs(cost_nanousd - computed_nanousd)
        self.tokens += tokens
        if max(self.off_nanousd, self.cost_nanousd, self.computed_nanousd, self.tokens) > MOST:
            self._saturate()
        if len(self.runs) < MOST_EXAMPLES or len(self.models) < MOST_EXAMPLES:
            _exemplify(self.models, model)
            _exemplify(self.runs, run_id)
        for note in notes:
            _exemplify(self.notes, note)

    def _saturate(self) -> None:
        self.cost_nanousd = min(self.cost_nanousd, MOST)
        self.computed_nanousd = min(self.computed_nanousd, MOST)
        self.off_nanousd = min(self.off_nanousd, MOST)
        self.tokens = min(self.tokens, MOST)

    def is_due(self, stamp: int) -> bool:
        """Whether the rules of the policy with that stamp are to be asked."""
        return stamp != self.stamp or self.records >= self.next_records

    def judged(self, stamp: int) -> None:
        """All of the policy's rules have found something: they are asked again when there is an eighth more."""
        self.stamp = stamp
        self.next_records = self.records + max(self.records // 8, 1)

    def fields(self) -> tuple[Any, ...]:
        """The tally as plain values, in the order in which `read` takes them."""
        return (
            self.day_ms, self.records, self.cost_nanousd, self.computed_nanousd, self.off_nanousd, self.tokens,
            tuple(self.models), tuple(self.runs), tuple(self.notes), self.stamp, self.next_records,
        )  # fmt: skip

    @classmethod
    def read(cls, fields: Any) -> "Tally":
        """A tally as its row holds it."""
        tally = cls(fields[0])
        (
            _, tally.records, tally.cost_nanousd, tally.computed_nanousd, tally.off_nanousd, tally.tokens,
            models, runs, notes, tally.stamp, tally.next_records,
        ) = fields  # fmt: skip
        tally.models, tally.runs, tally.notes = list(models), list(runs), list(notes)
        return tally


class DataQuality:
    """A tenant's tallies of the running day, one a kind."""

    __slots__ = ("_tallies",)

    def __init__(self) -> None:
        self._tallies: dict[Kind, Tally] = {}

    def tally(self, kind: Kind, at_ms: int) -> Tally:
        """The kind's tally to count a record of that time in: a later day starts anew, an earlier one is over."""
        day_ms = at_ms - at_ms % DAY_MS
        tally = self._tallies.get(kind)
        if tally is None or tally.day_ms < day_ms:
            tally = self._tallies[kind] = Tally(day_ms)
        return tally

    def fields(self) -> tuple[Any, ...]:
        """All tallies as plain values, in the order of the kinds."""
        return tuple((kind, self._tallies[kind].fields()) for kind in KINDS if kind in self._tallies)

    @classmethod
    def read(cls, fields: Any) -> "DataQuality":
        """The tallies as the tenant's row holds them."""
        quality = cls()
        quality._tallies = {kind: Tally.read(tally) for kind, tally in fields}
        return quality


def _exemplify(examples: list[str], value: str | None) -> None:
    if value is not None and len(examples) < MOST_EXAMPLES and value not in examples:
        examples.append(value)
