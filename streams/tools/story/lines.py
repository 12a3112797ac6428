"""A story for a terminal of 80 columns, or as data: a JSON object a fact."""

import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, Final

from alerting.rendering.figures import timestamp
from alerting.rendering.foreign import name
from schemas.duration import format_duration
from schemas.money import format_usd
from streams.tools.inspection.terminal import WIDTH, entry
from streams.tools.story.fact import Fact, Used
from streams.tools.story.subject import Subject
from streams.tracing.span import trace_id

INDENT: Final = 35
CAUSED: Final = ("alert", "command")
"""Facts whose cause is an event: of others it is a command or an alert."""
MOST_LINES: Final = 4
MOST_GROUPS: Final = 6
"""Kinds of equal calls in a row that are told apart; beyond it only by model or tool and status."""


def story_lines(subject: Subject, facts: list[Fact], notes: Iterable[str]) -> Iterator[str]:
    """The whole story."""
    yield from entry("", _heading(subject), indent=0)
    for note in notes:
        yield from entry("", note, MOST_LINES, indent=2)
    times = {fact.id: fact.at_ms for fact in facts if fact.id}
    day = ""
    for together in told_together(facts):
        found = timestamp(together[0].at_ms) or "????-??-??T??:??:??.???"
        if found[:10] != day:
            day = found[:10]
            yield f"\n{day}, UTC"
        label = f"{found[11:23]} {_after(together[0], times):>12} {together[0].kind}"
        yield from entry(label, _text(together), MOST_LINES, indent=INDENT)


def story_data(subject: Subject, facts: Iterable[Fact], notes: Iterable[str]) -> Iterator[str]:
    """The same for machines: every fact by itself, with the trace of what it follows from, and what cannot be known."""
    facts = list(facts)
    times = {fact.id: fact.at_ms for fact in facts if fact.id}
    for fact in facts:
        yield json.dumps({
            "at_ms": fact.at_ms,
            "kind": fact.kind,
            "text": fact.text,
            "id": fact.id or None,
            "cause": fact.cause,
            "trace_id": _trace_id(subject, fact),
            "after_cause_ms": _after_ms(fact, times),
            **fact.place._asdict(),
            "data": fact.data,
        })  # fmt: skip
    for note in notes:
        yield json.dumps({"kind": "note", "text": note})


def _trace_id(subject: Subject, fact: Fact) -> str | None:
    """The trace of the event that it follows from."""
    if fact.kind not in CAUSED or fact.cause is None:
        return None
    return f"{trace_id(subject.tenant_id, fact.cause):032x}"


def told_together(facts: Iterable[Fact]) -> Iterator[list[Fact]]:
    """Facts in order; equal ones between which nothing of another kind happened as one group, at its first's place."""
    for is_alike, stretch in groupby(facts, key=lambda fact: bool(fact.alike)):
        if not is_alike:
            yield from ([fact] for fact in stretch)
            continue
        together = list(stretch)
        groups = _groups(together, None)
        yield from groups if len(groups) <= MOST_GROUPS else _groups(together, 3)


def _groups(facts: list[Fact], parts: int | None) -> list[list[Fact]]:
    found: dict[tuple[str, ...], list[Fact]] = {}
    for fact in facts:
        found.setdefault(fact.alike[:parts], []).append(fact)
    return list(found.values())


def _text(together: list[Fact]) -> str:
    first = together[0]
    used = Used()
    for fact in together:
        used = used.plus(fact.used or Used())
    if len(together) == 1:
        return f"{first.text}{_amounts(used)}"
    lasted = format_duration(max(0, together[-1].at_ms - first.at_ms))
    return f"{len(together):,} × {first.text}{_sameness(together)}, within {lasted}{_amounts(used)}"


def _sameness(together: list[Fact]) -> str:
    """Whether tools were called with the same arguments, where their hashes are known."""
    hashes = {fact.data.get("args_hash") for fact in together if fact.data.get("type") == "tool_call"}
    if not hashes or None in hashes:
        return ""
    return ", the same arguments" if len(hashes) == 1 else f", {len(hashes):,} different arguments"


def _amounts(used: Used) -> str:
    tokens = (
        f" · {used.input_tokens:,} in, {used.output_tokens:,} out" if used.input_tokens + used.output_tokens else ""
    )
    cost = f" · {format_usd(used.cost_nanousd)}" if used.cost_nanousd else ""
    unpriced = " · no price reported" if used.unpriced else ""
    return f"{cost}{tokens}{unpriced}"


def _after(fact: Fact, times: dict[str, int]) -> str:
    after_ms = _after_ms(fact, times)
    return "" if after_ms is None else f"+{format_duration(after_ms)}" if after_ms >= 0 else format_duration(after_ms)


def _after_ms(fact: Fact, times: dict[str, Any]) -> int | None:
    """How long after its cause it came, by the brokers' time of both; None where the cause is not known."""
    cause_ms: int | None = times.get(fact.cause or "")
    return None if cause_ms is None else fact.at_ms - cause_ms


def _heading(subject: Subject) -> str:
    tenant = name(subject.tenant_id, 40)
    if subject.incident_id is None:
        return f"Story of run {name(subject.run_id or '', 60)} of {tenant}"
    about = f", about run {name(subject.run_id, 60)}" if subject.run_id else ""
    return f"Story of incident {name(subject.incident_id, 60)} of {tenant}{about}"


assert INDENT < WIDTH // 2, "half of a line is for what happened"
