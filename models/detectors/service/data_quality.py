"""`data_quality`: records whose numbers cannot be right, or whose spend is nobody's."""

from typing import Annotated, Any, Final, NamedTuple

from pydantic import Field

from models.detectors.base import DataQualityDetector, register
from models.rules.finding import Finding
from models.state.data_quality import Kind, Tally
from schemas.alert import PAGING
from schemas.money import format_usd, usd_to_nanousd
from schemas.policy import RuleSettings, Severity, Usd

AtLeastOne = Annotated[int, Field(ge=1)]


class _Counted(NamedTuple):
    """A kind of which it is told how many records there were."""

    floor: str
    """The setting that says from how many on."""
    noun: str
    summary: str
    next_action: str
    usd_floor: str = ""
    """The setting that says from which amount on, however few they are."""


_COUNTED: Final[dict[Kind, _Counted]] = {
    "contradicting_tokens": _Counted(
        "contradicting_calls",
        "call",
        "{counted} today counted fewer tokens in total than in their parts: they are priced on the sum",
        "Have the producer send input_tokens with the cached ones, and output_tokens with the reasoning.",
    ),
    "not_fully_priced": _Counted(
        "not_fully_priced_calls",
        "call",
        "{counted} today had parts without a price of their own: {notes}",
        "Add [[price]] for these models to the policy, or have the producer send cost_nanousd.",
    ),
    "uncounted": _Counted(
        "uncounted_calls",
        "call",
        "{counted} to {models} today came without tokens and without a cost: they count as nothing",
        "Have the producer send input_tokens and output_tokens, or cost_nanousd; of a call that it gave up, at least "
        "its input_tokens: a provider may charge for an answer that nobody waited for.",
    ),
    "too_late": _Counted(
        "late_records",
        "record",
        "{counted} arrived more than a day late today ({usd}): in no budget",
        "Book it: python -m streams backfill --since 1d. Find out what holds the producer's events back; a clock that "
        "is wrong looks the same.",
        "late_usd",
    ),
    "backfilled": _Counted(
        "backfilled_records",
        "record",
        "{counted} of earlier days were booked today ({usd}), by backfill",
        "Nothing, if that was meant; else find out who sends events with `backfill`, and why.",
    ),
    "misplaced": _Counted(
        "misplaced_records",
        "record",
        "{counted} of today came to another partition than the tenant's ({notes}): moved there, and counted",
        "Have the producer use tenant_id as key, and Java's partitioner: in librdkafka partitioner = murmur2_random.",
    ),
    "reused_id": _Counted(
        "reused_ids",
        "call",
        "{counted} today came with an event_id that another message had ({usd}): taken for copies, in no budget",
        "Give each event an event_id of its own, such as a UUID: a number that begins anew with the process repeats.",
        "reused_ids_usd",
    ),
    "sent_again": _Counted(
        "sent_again_calls",
        "call",
        "{counted} today may be counted twice ({usd}): too late to be known by their ids, and older than what their "
        "runs had sent",
        "Find out whether the producer sent a batch again; set dedup_hours (at most 72) above the time after which it "
        "does.",
        "sent_again_usd",
    ),
}


class DataQualitySettings(RuleSettings):
    """From which amounts on each kind is told, per tenant and day (UTC)."""

    severity: Severity = "warning"
    """Of all kinds but `unattributed`, which is `info`."""
    ignore: list[Kind] = []
    """Kinds that this rule is silent about."""
    mismatch_usd: Usd = Usd(1)
    """By how much reported and computed costs differ, over the calls that are off by more than half."""
    mismatch_tokens: AtLeastOne = 1_000_000
    """Tokens of such calls, where the money is little."""
    contradicting_calls: AtLeastOne = 10
    not_fully_priced_calls: AtLeastOne = 10
    uncounted_calls: AtLeastOne = 10
    late_records: AtLeastOne = 10
    late_usd: Usd = Usd(1)
    backfilled_records: AtLeastOne = 1
    misplaced_records: AtLeastOne = 1
    reused_ids: AtLeastOne = 10
    """Calls with an `event_id` that another message had: they were taken for that one and are not counted."""
    reused_ids_usd: Usd = Usd(1)
    sent_again_calls: AtLeastOne = 10
    """Calls that came after more than `dedup_hours`, and earlier in their runs than what had come before."""
    sent_again_usd: Usd = Usd(1)
    unattributed_usd: Usd = Usd(25)
    blind_calls: AtLeastOne = 20
    """Tool calls of one workflow and day without `args_hash`."""
    blind_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The least share of the workflow's tool calls that they are: fewer leave enough to judge by."""
    unreadable_records: AtLeastOne = 1
    unreadable_page_at: AtLeastOne = 1_000
    """Records of a day that cannot be read, from which on it pages: what they have cost is counted nowhere."""


@register
class DataQuality(DataQualityDetector[DataQualitySettings]):
    """Fires when enough of a tenant's records of a day cannot be right: costs far from the computed ones, counts that
    contradict each other, parts without a price, calls without tokens and cost, records more than a day late, or booked
    after that, in a wrong partition or that cannot be read, with the id of another one or perhaps sent again too late
    to be known, spend without owner or workflow; and, once a workflow and day, when most of its tool calls have no
    hashes to see a loop by.
    """

    name = "data_quality"
    settings_class = DataQualitySettings
    defaults = ({"name": "data-quality"},)
    always_on = True
    kinds = ("price_mismatch", *_COUNTED, "unattributed", "unreadable", "blind")

    def judge(self, kind: Kind, tally: Tally, *, out_of_reach: bool) -> Finding | None:
        if kind in self.settings.ignore or not self._enough(kind, tally):
            return None
        match kind:
            case "price_mismatch":
                return self._price_mismatch(tally)
            case "unattributed":
                return self._unattributed(tally)
            case "unreadable":
                return self._unreadable(tally)
            case "blind":
                return self._blind(tally)
            case _:
                return self._counted(_COUNTED[kind], tally)

    def _enough(self, kind: Kind, tally: Tally) -> bool:
        mine = self.settings
        match kind:
            case "price_mismatch":
                return tally.off_nanousd >= usd_to_nanousd(mine.mismatch_usd) or tally.tokens >= mine.mismatch_tokens
            case "unattributed":
                return tally.cost_nanousd >= max(usd_to_nanousd(mine.unattributed_usd), 1)
            case "unreadable":
                return tally.records >= mine.unreadable_records
            case "blind":
                return tally.records >= max(mine.blind_calls, mine.blind_share * tally.of_records)
            case _:
                fault = _COUNTED[kind]
                if fault.usd_floor and tally.cost_nanousd >= max(usd_to_nanousd(getattr(mine, fault.usd_floor)), 1):
                    return True
                return tally.records >= int(getattr(mine, fault.floor))

    def _price_mismatch(self, tally: Tally) -> Finding:
        reported, computed = format_usd(tally.cost_nanousd), format_usd(tally.computed_nanousd)
        return Finding(
            level=level_of(self.settings.severity),
            severity=self.settings.severity,
            value=tally.off_nanousd,
            unit="nanousd",
            baseline=tally.computed_nanousd,
            evidence={"reported_nanousd": tally.cost_nanousd, **evidence_of(tally)},
            summary=(
                f"{counted(tally.records, 'call')} today {'was' if tally.records == 1 else 'were'} reported to cost "
                f"{reported}, by the price tables {computed}"
            ),
            next_action=(
                "Correct the source's prices; where the tables are wrong, add [[price]] to the policy. "
                "prefer_computed_price = true charges the computed price."
            ),
        )

    def _unattributed(self, tally: Tally) -> Finding:
        return Finding(
            level=level_of("info"),
            severity="info",
            value=tally.cost_nanousd,
            unit="nanousd",
            limit=usd_to_nanousd(self.settings.unattributed_usd),
            evidence=evidence_of(tally),
            summary=f"{format_usd(tally.cost_nanousd)} today were spent by runs that name no "
            f"{' or no '.join(tally.notes)}",
            next_action="Have these producers send workflow and owner with run_started.",
        )

    def _unreadable(self, tally: Tally) -> Finding:
        pages = tally.records >= self.settings.unreadable_page_at
        severity: Severity = "error" if pages and self.settings.severity not in PAGING else self.settings.severity
        return Finding(
            level=level_of(severity),
            severity=severity,
            value=tally.records,
            unit="records",
            evidence={"records": tally.records, "reasons": list(tally.notes)},
            summary=f"{counted(tally.records, 'record')} under this tenant's key could not be read today: what they "
            "cost is counted nowhere",
            next_action="Have the producer send what schemas/json describes, and send those events again: "
            "docs/runbooks/dead-letters.md",
        )

    def _blind(self, tally: Tally) -> Finding:
        return Finding(
            level=level_of(self.settings.severity),
            severity=self.settings.severity,
            value=tally.records,
            unit="calls",
            evidence={
                "of_tool_calls": tally.of_records,
                "without_args_hash": tally.records,
                "share": round(tally.records / tally.of_records, 3),
                "runs": list(tally.runs),
            },
            summary=f"{tally.records:,} of {counted(tally.of_records, 'tool call')} today came without args_hash: a "
            "loop of these cannot be seen",
            next_action="Have the producer send args_hash with every tool_call, of {} for a tool that takes none; the "
            "client makes it of run.tool_call(name, args=…).",
        )

    def _counted(self, fault: _Counted, tally: Tally) -> Finding:
        return Finding(
            level=level_of(self.settings.severity),
            severity=self.settings.severity,
            value=tally.records,
            unit=f"{fault.noun}s",
            evidence=evidence_of(tally),
            summary=fault.summary.format(
                counted=counted(tally.records, fault.noun),
                usd=format_usd(tally.cost_nanousd),
                models=", ".join(tally.models),
                notes=", ".join(tally.notes),
            ),
            next_action=fault.next_action,
        )


def level_of(severity: Severity) -> float:
    """A notice, or sure enough to page."""
    return 1.0 if severity in PAGING else 0.5


def counted(number: int, noun: str) -> str:
    """A number of things in words.

    >>> counted(1, "call"), counted(12_000, "call")
    ('1 call', '12,000 calls')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def evidence_of(tally: Tally) -> dict[str, Any]:
    """A tally as an alert shows it, without what it has nothing of."""
    evidence = {
        "records": tally.records,
        "cost_nanousd": tally.cost_nanousd,
        "computed_nanousd": tally.computed_nanousd,
        "tokens": tally.tokens,
        "models": list(tally.models),
        "runs": list(tally.runs),
        "missing": list(tally.notes),
    }
    return {name: value for name, value in evidence.items() if value}
