"""Scenario files: a policy, a compact series of messages, and exactly which alerts and commands must come of it.

    promise = "what holds, in a sentence"
    series = [{at = "09:00:00", every = "1s", times = 5, type = "tool_call", run = "r1", args = "a", result = "x"}]
    alerts = [{rule = "repeat", state = "open", level = 0.5, at = "09:00:02"}]
    commands = [{action = "kill", target = "run/r1"}]
    [policy]
    …

Times are `[d<day> ]HH:MM:SS[.mmm]`, counted from `start` (Monday 2026-11-23, 00:00 UTC, unless given), and mean both
when something happened and when it was appended, unless `append` tells the latter. `{n}` in a text is the number of the
repetition. What is expected is matched in part, field by field, and nothing else may come; rollups are not looked at,
and `nudges`, what agents were told, only where the file lists them.

Spend across tenants is sent on after every entry, and comes in at once.

Beside usage messages the series takes operators' orders (`kill`, `resume`, `exception`, `acknowledge`, `feedback`; a
`target` of `scope` is the scope commanded last), and steps:

    {at = "10:00:00", type = "tick"}                            # time passes to here
    {at = "10:00:00", type = "policy", policy = "raised"}       # the tables under [policies.raised] are in force
    {at = "10:00:00", type = "restart"}                         # the engine is made anew from its rows,
    {at = "10:00:00", type = "restart", policy = "raised"}      # and another policy was published meanwhile
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from models.detectors import REGISTRY
from models.effects import Effect
from models.engine import Engine
from models.rules.policy import Policy, read_policy
from models.stimuli import OperatorSeen, PolicyChanged, SpendDue, SpendSeen, Stimulus, Ticked, UsageSeen
from schemas.alert import Alert
from schemas.control import Command, Target
from schemas.internal.spend import SpendDelta
from tests.support import messages
from tests.support.messages import DAY_MS, HOUR_MS, MINUTE_MS, MONDAY_MS, SECOND_MS, USD

FOLDER = Path(__file__).parents[1] / "scenarios"
UNITS_MS = {"ms": 1, "s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
SHORT = {
    "run": "run_id", "tenant": "tenant_id", "session": "session_id", "root": "root_run_id", "parent": "parent_run_id",
    "args": "args_hash", "result": "result_hash", "prompt": "prompt_hash",
}  # fmt: skip
OPERATOR = {"kill", "resume", "exception", "acknowledge", "feedback"}

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One file, read."""

    name: str
    policy: Policy
    policies: dict[str, Policy]
    """Those that come into force later, by the name under which the series calls them."""
    start_ms: int
    series: list[Fields]
    alerts: list[Fields]
    commands: list[Fields]
    nudges: list[Fields] | None
    until_ms: int | None


@dataclass(frozen=True, slots=True)
class Played:
    """What went in, as the engine saw it, and what came out."""

    stimuli: list[Stimulus]
    effects: list[Effect]

    def alerts(self) -> list[Alert]:
        """The alerts, in order."""
        return [effect.value for effect in self.effects if isinstance(effect.value, Alert)]

    def commands(self) -> list[Command]:
        """The commands that stand, in order."""
        return [command for command in self._commands() if command.action != "nudge"]

    def nudges(self) -> list[Command]:
        """What agents were told, in order."""
        return [command for command in self._commands() if command.action == "nudge"]

    def _commands(self) -> list[Command]:
        return [effect.value for effect in self.effects if isinstance(effect.value, Command)]


def scenario_files() -> list[Path]:
    """All scenario files."""
    return sorted(FOLDER.glob("*.toml"))


def load(path: Path) -> Scenario:
    """Read a scenario file. Unknown entries are refused: a misspelt expectation is none."""
    raw = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    known = {"promise", "start", "series", "alerts", "commands", "nudges", "policy", "policies", "until"}
    if not raw.get("promise") or not raw.keys() <= known:
        raise ValueError(f"{path.name}: needs a promise, and knows no {sorted(raw.keys() - known)}")
    start = raw.get("start")
    start_ms = MONDAY_MS if start is None else round(datetime.fromisoformat(start).timestamp() * 1000)
    until = raw.get("until")
    return Scenario(
        name=path.stem,
        policy=_policy(raw["policy"]),
        policies={name: _policy(tables) for name, tables in raw.get("policies", {}).items()},
        start_ms=start_ms,
        series=raw["series"],
        alerts=raw.get("alerts", []),
        commands=raw.get("commands", []),
        nudges=raw.get("nudges"),
        until_ms=None if until is None else start_ms + clock_ms(until),
    )


def _policy(tables: Fields) -> Policy:
    """Most scenarios leave owner and workflow out because they are about something else."""
    if not tables.keys() & REGISTRY.keys():
        return read_policy(tables)
    return read_policy({"data_quality": {"name": "data-quality", "ignore": ["unattributed"]}, **tables})


def play(scenario: Scenario) -> Played:
    """Run a scenario. Answers to commands and orders about incidents are addressed as they come up."""
    player = _Player(scenario)
    for entry in _expanded(scenario):
        player.happen(entry)
    if scenario.until_ms is not None:
        player.handle(Ticked(scenario.until_ms))
    return player.played


class _Player:
    """An engine, its changelog, and what has come of a scenario so far."""

    def __init__(self, scenario: Scenario) -> None:
        self.played = Played([], [])
        self._scenario = scenario
        self._policy = scenario.policy
        self._engine = Engine(scenario.policy)
        self._rows: dict[bytes, bytes] = {}

    def happen(self, entry: Fields) -> None:
        """Handle one entry of the series, with all the time that passes before it."""
        match entry["type"]:
            case "tick":
                self.handle(Ticked(entry["append_ms"]))
            case "policy":
                self._policy = self._scenario.policies[entry["policy"]]
                self.handle(Ticked(entry["append_ms"]))
                self.handle(PolicyChanged(self._policy, entry["append_ms"]))
            case "restart":
                self.handle(Ticked(entry["append_ms"]))
                self._restart(
                    self._scenario.policies[entry["policy"]] if "policy" in entry else self._policy, entry["append_ms"]
                )
            case _:
                self.handle(_stimulus(entry, self._scenario, self.played))
        if self._policy.across_meters:
            self.handle(SpendDue())

    def handle(self, stimulus: Stimulus) -> None:
        """Give the engine what happens, and collect what comes of it."""
        self.played.stimuli.append(stimulus)
        self._engine.handle(stimulus)
        effects = self._engine.drain_effects()
        self.played.effects.extend(effects)
        for effect in effects:
            if isinstance(effect.value, SpendDelta):
                self.handle(SpendSeen(effect.value))

    def _restart(self, policy: Policy, at_ms: int) -> None:
        """The worker was down, and is back under the policy that is in force now, since `at_ms` if it is another."""
        for key, value in self._engine.drain_rows():
            self._rows.pop(key, None)
            if value is not None:
                self._rows[key] = value
        self._engine = Engine(policy)
        self._engine.restore(self._rows, at_ms)
        self.played.effects.extend(self._engine.drain_effects())
        if policy is not self._policy:  # for whoever plays the stimuli again: it is the same as a change on the way
            self._policy = policy
            self.played.stimuli.append(PolicyChanged(policy, at_ms))


def differences(scenario: Scenario, played: Played) -> list[str]:
    """What was expected and did not come, or came and was not expected; empty if all is as written."""
    return [
        *_compare("alerts", scenario, scenario.alerts, played.alerts()),
        *_compare("commands", scenario, scenario.commands, played.commands()),
        *(_compare("nudges", scenario, scenario.nudges, played.nudges()) if scenario.nudges is not None else ()),
    ]


def clock_ms(text: str) -> int:
    """`[d<day> ]HH:MM:SS[.mmm]` as milliseconds since the scenario's start."""
    found = re.fullmatch(r"(?:d(\d+) )?(\d\d):(\d\d):(\d\d)(?:\.(\d{3}))?", text)
    if found is None:
        raise ValueError(f"not a time: {text!r}")
    day, hour, minute, second, ms = (int(group or 0) for group in found.groups())
    return day * DAY_MS + hour * HOUR_MS + minute * MINUTE_MS + second * SECOND_MS + ms


def clock_text(at_ms: int) -> str:
    """The inverse of `clock_ms`."""
    day, rest = divmod(at_ms, DAY_MS)
    clock = f"{rest // HOUR_MS:02}:{rest // MINUTE_MS % 60:02}:{rest // SECOND_MS % 60:02}"
    ms = f".{rest % SECOND_MS:03}" if rest % SECOND_MS else ""
    return (f"d{day} " if day else "") + clock + ms


def _expanded(scenario: Scenario) -> list[Fields]:
    """Every entry of the series on its own, in the order in which the log takes them."""
    entries = [single for entry in scenario.series for single in _repeated(entry, scenario.start_ms)]
    return sorted(entries, key=lambda entry: int(entry["append_ms"]))


def _repeated(entry: Fields, start_ms: int) -> Iterator[Fields]:
    entry = dict(entry)
    at_ms = start_ms + clock_ms(entry.pop("at"))
    append = entry.pop("append", None)
    append_ms = at_ms if append is None else start_ms + clock_ms(append)
    step_ms = _span_ms(entry.pop("every", "1s"))
    for number in range(entry.pop("times", 1)):
        own = {name: _numbered(value, number) for name, value in entry.items()}
        yield {"ts_ms": at_ms + number * step_ms, **own, "append_ms": append_ms + number * step_ms}


def _numbered(value: Any, number: int) -> Any:
    return value.replace("{n}", str(number)) if isinstance(value, str) else value


def _span_ms(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(ms|[smhd])", text).groups()  # type: ignore[union-attr]  # else it fails loudly
    return int(number) * UNITS_MS[unit]


def _stimulus(entry: Fields, scenario: Scenario, played: Played) -> Stimulus:
    fields = {SHORT.get(name, name): value for name, value in entry.items()}
    kind, ts_ms, append_ms = fields.pop("type"), fields.pop("ts_ms"), fields.pop("append_ms")
    if kind in OPERATOR:
        if "until" in fields:
            fields["until_ms"] = scenario.start_ms + clock_ms(fields.pop("until"))
        return OperatorSeen(_operator(kind, ts_ms, fields, played), append_ms)
    if "started" in fields:
        fields["started_ms"] = scenario.start_ms + clock_ms(fields.pop("started"))
    if "usd" in fields:
        fields["cost_nanousd"] = int(Decimal(fields.pop("usd")) * USD)
    if "cap_usd" in fields:
        fields["cap_nanousd"] = int(Decimal(fields.pop("cap_usd")) * USD)
    if fields.pop("unpriced", False):
        fields["cost_nanousd"] = None
    if kind == "command_ack":
        target = fields.pop("of")
        given = played.nudges() if fields.get("acted") == "delivered" else played.commands()
        fields["command_id"] = [one for one in given if _target(one) == target][-1].command_id
    return UsageSeen(getattr(messages, kind)(ts_ms, **fields), append_ms)


def _operator(kind: str, ts_ms: int, fields: Fields, played: Played) -> Any:
    tenant_id = fields.get("tenant_id", "acme")
    match kind:
        case "kill":
            return messages.kill(ts_ms, _named(fields, played), tenant_id, until_ms=fields.get("until_ms"))
        case "resume":
            target = _named(fields, played)
            limit_nanousd = int(Decimal(fields["limit_usd"]) * USD) if "limit_usd" in fields else None
            terms = {"limit_nanousd": limit_nanousd, "until_ms": fields.get("until_ms")}
            return messages.resume(ts_ms, target.type, target.id, tenant_id, **terms)
        case "acknowledge":
            return messages.acknowledge(ts_ms, _incident(fields, played), tenant_id)
        case "feedback":
            return messages.feedback(ts_ms, _incident(fields, played), fields["verdict"], tenant_id)
        case _:
            limit_nanousd = int(Decimal(fields["usd"]) * USD)
            until_ms = ts_ms + _span_ms(fields["lasts"])
            return messages.limit_exception(ts_ms, fields["rule"], fields["scope"], limit_nanousd, until_ms, tenant_id)


def _named(fields: Fields, played: Played) -> Target:
    """The target of an order. A scope's id is the engine's own: it is the one commanded last."""
    target_type, _, target_id = fields["target"].partition("/")
    if target_type == "scope":
        return [command.target for command in played.commands() if command.target.type == "scope"][-1]
    return Target(target_type, target_id)


def _incident(fields: Fields, played: Played) -> str:
    """The rule's latest incident, or that of the alert with the number `alert`, from 0."""
    if "alert" in fields:
        return played.alerts()[fields["alert"]].incident_id
    return [alert for alert in played.alerts() if alert.rule == fields["rule"]][-1].incident_id


def _target(command: Command) -> str:
    return f"{command.target.type}/{command.target.id}"


def _compare(what: str, scenario: Scenario, expected: list[Fields], actual: list[Any]) -> list[str]:
    seen = [_seen(value, scenario.start_ms) for value in actual]
    wrong = [
        f"{what}[{index}]: expected {dict(want)}, came { ({name: got.get(name) for name in want}) }"
        for index, (want, got) in enumerate(zip(expected, seen, strict=False))
        if any(not _same(value, got.get(name)) for name, value in want.items())
    ]
    wrong += [f"{what}: did not come: {dict(want)}" for want in expected[len(seen) :]]
    wrong += [f"{what}: not expected: {_short(got)}" for got in seen[len(expected) :]]
    return wrong


def _seen(value: Alert | Command, start_ms: int) -> Fields:
    """A message as a flat table: nested names with dots, and the short forms that scenario files use."""
    fields: Fields = {}
    for name, item in msgspec.to_builtins(value).items():
        fields[name] = item
        if isinstance(item, dict):
            fields |= {f"{name}.{key}": inner for key, inner in item.items()}
    if isinstance(value, Command):
        fields |= {"target": _target(value), "at": clock_text(value.cause_ts_ms - start_ms)}
        fields |= {"issued": clock_text(value.issued_ms - start_ms), "expires": clock_text(value.expires_ms - start_ms)}
        return fields
    fields["at"] = clock_text(value.ts_ms - start_ms)
    for name in ("value", "limit", "baseline"):
        amount = fields[name]
        fields[f"{name}_usd"] = None if amount is None else Decimal(amount) / USD
    for name in ("window_start_ms", "window_end_ms"):
        fields[name.removesuffix("_ms")] = None if fields[name] is None else clock_text(fields[name] - start_ms)
    return fields


def _same(want: Any, got: Any) -> bool:
    if isinstance(want, Decimal) and isinstance(got, int | float | Decimal):
        return want == Decimal(str(got))
    return bool(want == got)


def _short(seen: Fields) -> Fields:
    names = (
        "at", "rule", "state", "level", "severity", "mode", "value_usd", "limit_usd", "value", "limit", "run_id",
        "scope", "action", "target", "issued", "expires", "window_start", "window_end", "evidence.late", "summary",
    )  # fmt: skip
    return {name: seen[name] for name in names if seen.get(name) is not None}
