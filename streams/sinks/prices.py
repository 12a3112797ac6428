"""What a call was charged: the engine's own price book, under the policy in force when the call was appended."""

from bisect import bisect_right
from typing import Final

from models.engine import AHEAD_MS, TOO_LATE_MS
from models.prices.book import Charge, PriceBook
from models.stimuli import PolicyChanged
from schemas.money import usd_to_nanousd
from schemas.policy import PolicyHeader
from schemas.usage import LlmCall, ToolCall, UsageMessage
from streams.clock import wall_ms
from streams.process.policies import Policies
from streams.reconcile.days import day_of
from streams.settings import Settings
from streams.sinks.tables import Row

NOTHING: Final = Charge(0, "")
TOO_LATE: Final = Charge(0, "too late to count")
LAST_DAY: Final = "9999-12-31"


class PolicyPrices:
    """Price books by time, as policy.v1 tells them. Before its first policy the settings' file counts, unless
    compaction has taken what was there: then the oldest that is left.
    """

    def __init__(self, settings: Settings, policies: Policies) -> None:
        self._policies = policies
        self._has_published = False
        """Whether policy.v1 has said anything yet."""
        self._since_ms = [0]
        header = settings.file_policy().header
        self._books = [PriceBook(header)]
        self._news = [(0, header)]

    def refresh(self) -> None:
        """Read every policy that was appended until now. Raises `BrokerError`."""
        for changed in self._policies.until_now():
            self._add(changed)

    def take_news(self) -> list[tuple[int, PolicyHeader]]:
        """Policies that were not asked for yet, each with since when it is in force."""
        news, self._news = self._news, []
        return news

    def charge(self, message: UsageMessage, append_ms: int) -> Charge:
        """What a message is charged. One that came too late to count is charged nothing, as the engine has it."""
        if is_too_late(message, append_ms):
            return TOO_LATE
        if isinstance(message, LlmCall):
            return self._books[bisect_right(self._since_ms, append_ms) - 1].charge(message)
        if isinstance(message, ToolCall) and message.cost_nanousd is not None:
            return Charge(message.cost_nanousd, "reported")
        return NOTHING

    def _add(self, changed: PolicyChanged) -> None:
        header = changed.policy.header
        since_ms = max(changed.at_ms, self._since_ms[-1])
        if not self._has_published and self._policies.oldest_offset:
            self._since_ms, self._books, self._news = [], [], []
            since_ms = 0
        self._has_published = True
        self._since_ms.append(since_ms)
        self._books.append(PriceBook(header))
        self._news.append((since_ms, header))


def is_too_late(message: UsageMessage, append_ms: int) -> bool:
    """Whether the engine counts it nowhere."""
    return append_ms - counted_ms(message, append_ms) > TOO_LATE_MS and not message.backfill


def counted_ms(message: UsageMessage, append_ms: int) -> int:
    """When it counts as having happened: a clock that is far ahead is not believed."""
    return min(message.ts_ms, append_ms + AHEAD_MS)


def policy_row(policy_ms: int, header: PolicyHeader) -> Row:
    """A row of `policies`."""
    return policy_ms, header.version, header.timezone, wall_ms()


def contract_rows(policy_ms: int, header: PolicyHeader) -> list[Row]:
    """A policy's rows of `contracts`. A tenant's contract ends where its next one starts."""
    rows: list[Row] = []
    by_tenant: dict[str, str] = {}
    for one in sorted(header.contract, key=lambda one: one.starts_ms, reverse=True):
        starts = day_of(one.starts_ms)
        ends = by_tenant.get(one.tenant, LAST_DAY)
        rows.append((policy_ms, header.version, one.tenant, starts, ends, one.watched, usd_to_nanousd(one.watched_usd)))
        by_tenant[one.tenant] = starts
    return rows
