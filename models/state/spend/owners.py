"""Who spent what in a scope that several owners share: a part of its row from the second owner on."""

from collections.abc import Mapping
from typing import Any, Final

from schemas.policy import Period

MOST_OWNERS: Final = 50
OTHER_OWNERS: Final = "others"


class OwnerShares:
    """Running totals by owner; what was spent in a period is the difference to the totals at its beginning."""

    __slots__ = ("_before", "totals")

    def __init__(self, totals: dict[str, int], before: dict[Period, dict[str, int]]) -> None:
        """As `fields` has it."""
        self.totals = totals
        self._before = before

    @classmethod
    def of_one(cls, owner: str, spent: Mapping[Period, int]) -> "OwnerShares":
        """Of a scope in which one owner alone has spent so much in the running periods."""
        most = max(spent.values(), default=0)
        before = {period: {owner: most - nanousd} for period, nanousd in spent.items()}
        return cls({owner: most} if spent else {}, before)

    def add(self, owner: str, nanousd: int) -> None:
        """Book spend. Beyond 50 owners the rest are one."""
        if owner not in self.totals and len(self.totals) >= MOST_OWNERS:
            owner = OTHER_OWNERS
        self.totals[owner] = self.totals.get(owner, 0) + nanousd

    def exclude(self, period: Period, owner: str, nanousd: int) -> None:
        """Spend that `add` has booked belongs to an earlier period than the running one."""
        if owner not in self.totals:
            owner = OTHER_OWNERS
        before = self._before.setdefault(period, {})
        before[owner] = before.get(owner, 0) + nanousd

    def begin(self, period: Period) -> None:
        """A period begins: nobody has spent anything in it yet."""
        self._before[period] = dict(self.totals)

    def of(self, period: Period) -> dict[str, int]:
        """Owner -> nano-dollars spent in the running period, the largest first; who spent nothing is left out."""
        before = self._before.get(period, {})
        spent = {owner: total - before.get(owner, 0) for owner, total in self.totals.items()}
        return dict(sorted(((o, n) for o, n in spent.items() if n > 0), key=lambda pair: (-pair[1], pair[0])))

    def fields(self) -> tuple[Any, ...]:
        """In the constructor's order."""
        return (self.totals, self._before)
