"""Who spent what in a scope that several owners share. A row of its own, made when a second owner comes."""

from collections.abc import Mapping
from typing import Any, Final

from models.state.rows import Row
from schemas.policy import Period

MOST_OWNERS: Final = 50
OTHER_OWNERS: Final = "others"


class OwnerShares(Row):
    """Running totals by owner; what was spent in a period is the difference to the totals at its beginning."""

    __slots__ = ("_before", "scope_key", "tenant_id", "totals")
    kind = "owners"

    def __init__(
        self, tenant_id: str, scope_key: tuple[str, ...], first: str = "", spent: Mapping[Period, int] | None = None
    ) -> None:
        """`spent` is what the first owner alone has spent in the running periods."""
        super().__init__()
        self.tenant_id = tenant_id
        self.scope_key = scope_key
        most = max((spent or {}).values(), default=0)
        self.totals: dict[str, int] = {first: most} if spent else {}
        self._before: dict[Period, dict[str, int]] = {
            period: {first: most - nanousd} for period, nanousd in (spent or {}).items()
        }

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

    def key_parts(self) -> tuple[str, ...]:
        return (self.tenant_id, *self.scope_key)

    def fields(self) -> tuple[Any, ...]:
        return (self.totals, self._before)

    def read(self, fields: tuple[Any, ...]) -> None:
        """Take over what the row holds."""
        self.totals, self._before = fields
