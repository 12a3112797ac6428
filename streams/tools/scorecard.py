"""What a backtest comes to: who would have been paged, what would have been stopped, and what that had saved."""

from collections import Counter, defaultdict
from typing import Literal

from models.effects import Effect
from models.prices.book import PriceBook
from models.rules.policy import Policy
from schemas.alert import PAGING, Alert
from schemas.control import Command
from schemas.dead_letter import DeadLetter
from schemas.money import format_usd
from schemas.usage import LlmCall, Outcome, ToolCall, UsageMessage
from streams.tools.replay.past_runs import PastRun

Fate = Literal["counted", "duplicate", "too late", "after a kill", "saved", "held back"]
"""What became of a message. `after a kill`: counted, but its run should have been stopped. `saved` and `held back`: it
would not have been sent, because of a kill or of a pause."""
ONCE: frozenset[Fate] = frozenset({"counted", "after a kill", "saved", "held back"})
"""Fates of messages that are no repetition and not too old."""
APART: dict[str, Fate] = {"duplicates": "duplicate", "too late": "too late"}
"""What is shown beside the events, by its name."""
DATA_QUALITY = frozenset({"unpriced", "data_quality"})
"""Detectors of wrong data rather than of wrong spend."""
DETAILS_LISTED = 3


class Scorecard:
    """Follows the messages and effects of a backtest. Money is in nano-dollars."""

    def __init__(self) -> None:
        self.events: Counter[Fate] = Counter()
        self.nanousd: Counter[Fate] = Counter()
        self.refused: Counter[str] = Counter()
        """Reason -> lines that could not be read."""
        self.alerts: Counter[tuple[str, str]] = Counter()
        """Rule and severity -> alerts, without those of rules on trial."""
        self.on_trial: Counter[tuple[str, str]] = Counter()
        self.data_quality: list[str] = []
        """What was said of wrong data, tenant by tenant."""
        self.pages: Counter[str] = Counter()
        """Tenant -> alerts that would have woken somebody."""
        self.commands: Counter[tuple[str, str]] = Counter()
        self.kills: set[str] = set()
        self.false_kills: set[str] = set()
        """Commands that killed a run whose output was accepted or edited all the same."""
        self.after_kills: defaultdict[tuple[str, str], int] = defaultdict(int)
        """Tenant and workflow -> what was spent after kills, saved or not."""
        self._asides: defaultdict[str, list[str]] = defaultdict(list)
        self._prices = PriceBook()

    def policy(self, policy: Policy) -> None:
        """Another policy is in force, with prices of its own."""
        self._prices = PriceBook(policy.header)

    def message(self, message: UsageMessage, run: PastRun, fate: Fate) -> int:
        """Count a message of the log. Returns its cost."""
        self.events[fate] += 1
        if isinstance(message, Outcome) and message.outcome in ("accepted", "edited") and run.killed_by:
            self.false_kills |= run.killed_by
        if not isinstance(message, LlmCall | ToolCall):
            return 0
        cost_nanousd = self._cost(message)
        self.nanousd[fate] += cost_nanousd
        if fate in ("after a kill", "saved"):
            self.after_kills[message.tenant_id, run.workflow] += cost_nanousd
        return cost_nanousd

    def effect(self, effect: Effect) -> None:
        """Count what the engine published."""
        match effect.value:
            case Alert(state="open" | "escalated") as alert:
                self._alert(alert)
            case Command() as command:
                self.commands[command.action, command.rule] += 1
                if command.action == "kill":
                    self.kills.add(command.command_id)
            case DeadLetter(reason=reason):
                self.refused[reason] += 1
            case _:
                pass

    def aside(self, kind: str, detail: str) -> None:
        """Something about the log that the engine has no part in."""
        self._asides[kind].append(detail)

    def text(self) -> str:
        """The scorecard for people."""
        events = sum(self.events[fate] for fate in ONCE)
        spent = sum(self.nanousd[fate] for fate in ONCE)
        return "\n".join(
            [
                f"{events:,} events, {format_usd(spent)} spent, {self.refused.total():,} dead letters",
                *self._notes(),
                "",
                *_table("alerts", ("rule", "severity"), self.alerts),
                *(_table("would have", ("rule", "severity"), self.on_trial) if self.on_trial else ()),
                *_table("commands", ("action", "rule"), self.commands),
                *self._sums(),
            ]
        )

    def _alert(self, alert: Alert) -> None:
        counted = self.on_trial if alert.mode == "shadow" else self.alerts
        counted[alert.rule, alert.severity] += 1
        if alert.mode == "shadow":
            return
        if alert.severity in PAGING:
            self.pages[alert.tenant_id] += 1
        if alert.detector in DATA_QUALITY:
            self.data_quality.append(f"{alert.tenant_id}: {alert.summary}")

    def _notes(self) -> list[str]:
        """What a line of the log came to that is not among the events."""
        lines = [
            f"{name}: {self.events[fate]:,} events, {format_usd(self.nanousd[fate])} not counted"
            for name, fate in APART.items()
            if self.events[fate]
        ]
        if self.refused:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(self.refused.items()))
            lines.append(f"refused: {reasons}")
        if self.data_quality:
            lines.append(_listed("data quality", self.data_quality))
        lines += [_listed(kind, details) for kind, details in sorted(self._asides.items())]
        return lines

    def _sums(self) -> list[str]:
        after = self.nanousd["saved"] + self.nanousd["after a kill"]
        counts = {
            "pages": f"{self.pages.total()}",
            "kills": f"{len(self.kills)}",
            "false kills": f"{len(self.false_kills)}",
            "spent after the cause of a kill": format_usd(after),
        }
        sums = {
            "saved": format_usd(self.nanousd["saved"]),
            "overshoot": format_usd(self.nanousd["after a kill"]),
            "held back by pauses": format_usd(self.nanousd["held back"]),
        }
        lines = ["   ".join(f"{name}: {value}" for name, value in row.items()) for row in (counts, sums)]
        if nudges := sum(count for (action, _), count in self.commands.items() if action == "nudge"):
            lines.append(
                f"nudges: {nudges:,}   whether agents would have heeded them no log can tell: none counts as saved"
            )
        for (tenant_id, workflow), nanousd in sorted(self.after_kills.items(), key=lambda pair: (-pair[1], pair[0])):
            lines.append(f"  {tenant_id} / {workflow}: {format_usd(nanousd)}")
        return lines

    def _cost(self, call: LlmCall | ToolCall) -> int:
        if isinstance(call, ToolCall):
            return call.cost_nanousd or 0
        return self._prices.charge(call).cost_nanousd


def _listed(name: str, details: list[str]) -> str:
    """So many of a kind, and the first of them."""
    shown = "; ".join(dict.fromkeys(details[:DETAILS_LISTED]))
    more = f"; and {len(details) - DETAILS_LISTED:,} more" if len(details) > DETAILS_LISTED else ""
    return f"{name}: {len(details):,} ({shown}{more})"


def _table(title: str, names: tuple[str, str], rows: Counter[tuple[str, str]]) -> list[str]:
    if not rows:
        return [f"no {title}", ""]
    width = max(len(names[0]), *(len(first) for first, _ in rows))
    other = max(len(names[1]), *(len(second) for _, second in rows))
    lines = [f"{title:<10} {names[0]:<{width}}  {names[1]:<{other}}"]
    for (first, second), count in sorted(rows.items()):
        lines.append(f"{count:>10,} {first:<{width}}  {second:<{other}}")
    return [*lines, ""]
