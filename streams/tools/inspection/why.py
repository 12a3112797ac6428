"""`why`: in ten lines of a terminal why a run was stopped, on whose order, and how it may go on."""

import sys
from typing import Final, NamedTuple

from alerting.rendering.course import done
from alerting.rendering.figures import amount, clock, part_of
from alerting.rendering.foreign import name
from models.commands.orders import OPERATOR
from schemas.alert import Alert
from schemas.control import Command
from schemas.operator import Kill
from streams.clock import wall_ms
from streams.settings import Settings
from streams.tools.inspection.run_facts import RunFacts, run_facts
from streams.tools.inspection.terminal import WIDTH, clipped, entry, shell_word
from streams.tools.order import holds
from streams.tools.orders.target import STANDS, WORDS, shown

MOST_LINES: Final = 10
MOST_OPEN: Final = 3
"""How many of a run's open incidents are named."""
_OPTIONS = {kind: f"--{word}" for word, kind in WORDS.items()}
_NAME = 32
"""Characters of an id in a heading."""


def run_why(settings: Settings, run: str, tenant_id: str | None) -> int:
    """Say why a run was stopped, or that it is not. Raises `SettingsError` for an unknown one, or `BrokerError`."""
    now_ms = wall_ms()
    facts = run_facts(settings, run, tenant_id, now_ms)
    print("\n".join(why_lines(facts, now_ms)))
    for one in facts.unknown:
        print(f"not looked at: {one}", file=sys.stderr)
    return 0


class Entry(NamedTuple):
    """A fact, and what it is called."""

    label: str
    text: str
    most_lines: int = 2
    """Of a terminal."""


class Why(NamedTuple):
    """What is known of why a run is stopped, or is not."""

    state: str
    """Follows the name of the run: `is killed.`"""
    entries: list[Entry]
    resumable: Command | None = None
    """What stands against it."""


def why(facts: RunFacts, now_ms: int) -> Why:
    """What is known of a run."""
    command = facts.command
    if command is not None and holds(command, now_ms):
        return _stopped(facts, command)
    if command is not None:
        return _not_any_more(facts, command)
    return _never(facts)


def why_lines(facts: RunFacts, now_ms: int) -> list[str]:
    """What is known of a run, in at most `MOST_LINES` lines of `WIDTH` characters.

    A command that must be typed is written whole, also where an id makes it longer.
    """
    found = why(facts, now_ms)
    # The command at the end has its ids whole.
    lines = _heading(facts, found.state, 2 if found.resumable is None else 1)
    for one in found.entries:
        lines += entry(one.label, one.text, one.most_lines)
    return lines if found.resumable is None else [*lines, *_go_on(found.resumable)]


def _stopped(facts: RunFacts, command: Command) -> Why:
    with_all = "" if command.target.type == "run" else f", as all of {clipped(shown(command.target), _NAME)}"
    entries = [
        *_reason(facts, command),
        Entry("since", f"{clock(command.issued_ms)}, until {clock(command.expires_ms)}"),
        Entry("now", _now(facts, command)),
    ]
    return Why(f"{STANDS[command.action]}{with_all}.", entries, command)


def _not_any_more(facts: RunFacts, command: Command) -> Why:
    if command.action != "resume":
        ended = f"{command.action} ended by itself on {clock(command.expires_ms)}."
        return Why("is not stopped any more.", [*_reason(facts, command), Entry("now", f"The {ended}")])
    before = next((one for one in reversed(facts.alerts) if one.command or one.state == "resolved"), None)
    entries = [
        Entry("why", command.reason),
        Entry("since", clock(command.issued_ms)),
        *([Entry("before", f"{name(before.rule)}: {before.summary}")] if before else []),
        *_incidents(facts),
    ]
    return Why("is not stopped any more: it may go on.", entries)


def _never(facts: RunFacts) -> Why:
    held = next((one for one in reversed(facts.alerts) if _is_held(one, facts.key.run_id)), None)
    if held is not None:
        entries = [
            Entry("why", held.summary),
            Entry("rule", name(str(held.evidence.get("held_rule", "")))),
            Entry("do", held.next_action),
        ]
        return Why("is not stopped yet: its kill is held back.", entries)
    return Why("is not stopped: nothing stands against it.", _incidents(facts))


def _reason(facts: RunFacts, command: Command) -> list[Entry]:
    """Why, the figure against its limit, and whose order it was."""
    if command.rule == OPERATOR:
        who, _, reason = command.reason.partition(": ")
        return [Entry("why", reason), Entry("by", f"{who}, an operator", 1)]
    alert = _cause(facts, command)
    entries = [Entry("why", command.reason)]
    if alert is not None:
        entries.append(Entry("figure", _figure(alert), 1))
    version = "" if alert is None else f", policy {name(alert.policy_version, 40)}"
    return [*entries, Entry("by", f"the rule {name(command.rule, 40)}{version}", 1)]


def _figure(alert: Alert) -> str:
    if alert.limit is None:
        return amount(alert.value, alert.unit)
    return part_of(alert.value, alert.limit, alert.unit)


def _cause(facts: RunFacts, command: Command) -> Alert | None:
    """The alert of the moment when it was stopped; the newest of its incident where that is gone."""
    of_incident = [one for one in facts.alerts if one.incident_id == command.incident_id]
    with_command = [one for one in of_incident if one.state != "resolved" and one.ts_ms <= command.issued_ms]
    return next(reversed(with_command or of_incident), None)


def _now(facts: RunFacts, command: Command) -> str:
    """What has become of the command, and of what operators have ordered since."""
    later = [one for one in facts.orders if one.record.appended_ms > command.issued_ms]
    if later and (order := later[-1].order) is not None:
        verb = "kill" if isinstance(order, Kill) else "resume"
        if later[-1].status == "refused":
            return f"A {verb} of {clock(later[-1].record.appended_ms)} was refused: {later[-1].refused}."
        return f"{name(order.who)} has ordered a {verb} since; the worker has not come to it."
    answered = [one for one in facts.alerts if one.evidence.get("command_id") == command.command_id]
    outcome = next((text for one in reversed(answered) if (text := done(one))), "")
    if outcome:
        return outcome
    if command.target.type in ("workflow", "tenant", "scope"):
        return f"The {command.action} stands for what starts there, too."
    return f"The {command.action} was sent; nobody has confirmed it so far."


def _go_on(command: Command) -> list[str]:
    """What to type to let it go on."""
    target = command.target
    option = "--all" if target.type == "tenant" else f"{_OPTIONS[target.type]} {shell_word(target.id)}"
    words = [f"python -m streams resume {option}", f'--tenant {shell_word(command.tenant_id)} --why "…"']
    one_line = f"go on   {' '.join(words)}"
    return [one_line] if len(one_line) <= WIDTH else [f"go on   {words[0]} \\", f"          {words[1]}"]


def _incidents(facts: RunFacts) -> list[Entry]:
    """The run's open incidents."""
    newest = {one.incident_id: one for one in facts.alerts if one.run_id == facts.key.run_id}
    opened = [one for one in newest.values() if one.state != "resolved"]
    entries = [Entry("open", f"{name(one.rule)}: {one.summary}", 1) for one in opened[-MOST_OPEN:]]
    return entries or [Entry("", "No incident about it is open.")]


def _is_held(alert: Alert, run_id: str) -> bool:
    return alert.evidence.get("held_target") == f"run/{run_id}" and alert.state != "resolved"


def _heading(facts: RunFacts, text: str, most_lines: int = 2) -> list[str]:
    """Which run, and how it stands: not cut off because of an id as long as those that the SDK makes."""
    run, tenant = clipped(name(facts.key.run_id), _NAME), clipped(name(facts.key.tenant_id), 20)
    return entry("", f"Run {run} of {tenant} {text}", most_lines, indent=0)
