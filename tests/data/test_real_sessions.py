"""The rules about loops, with their defaults, over real sessions of agents; half of them chose no threshold."""

from collections import Counter
from collections.abc import Iterable
from functools import cache

import pytest

from models.engine import Engine
from models.rules.policy import default_policy
from schemas.alert import Alert
from tests.support.agent_sessions import FOLDER, WHY_SKIPPED, Session, agent_sessions, in_choosing_half

pytestmark = [pytest.mark.data, pytest.mark.skipif(not FOLDER.is_dir(), reason=WHY_SKIPPED)]

LOOPS = {"repeat", "cycle", "retry_storm", "error_streak", "no_progress", "refused_finish"}
PAGES = ("critical", "error")


@cache
def alerts_of_all() -> list[tuple[Session, list[Alert]]]:
    """What the engine says of loops in each session under the default policy; a session is one run."""
    return [(session, list(alerts(session))) for session in agent_sessions()]


def alerts(session: Session) -> Iterable[Alert]:
    engine, clock_ms = Engine(default_policy()), 0
    for call in session.calls:
        clock_ms = max(clock_ms, call.ts_ms)
        engine.usage(call, clock_ms)
    found = (effect.value for effect in engine.drain_effects())
    return [one for one in found if isinstance(one, Alert) and one.detector in LOOPS and one.state != "resolved"]


def is_paged(found: list[Alert]) -> bool:
    return any(alert.severity in PAGES for alert in found)


def kind(session: Session) -> str:
    """What a person said of it, or that nobody has read it."""
    if session.label is None:
        return "not read"
    if session.label.is_call_loop:
        return "call loop"
    return "refused finish" if session.label.is_refused_finish else session.label.judgement


def test_what_is_told_of_real_sessions(capsys: pytest.CaptureFixture[str]) -> None:
    """At most one page per 1,000 healthy sessions, and none on what a person called work or waiting; nine of ten
    refused finishes are paged, and nine of ten call loops told. Of the latter these files have two: one is paged, the
    other are four equal calls, as many as somebody at work makes elsewhere. The halves are printed apart.
    """
    table: dict[tuple[str, str], Counter[str]] = {}
    rules: Counter[str] = Counter()
    for session, found in alerts_of_all():
        half = "chosen on" if in_choosing_half(session.session_id) else "kept back"
        for part in (half, "all"):
            row = table.setdefault((kind(session), part), Counter())
            row.update(sessions=1, paged=is_paged(found), told=bool(found))
        told = {(alert.detector, "page" if alert.severity in PAGES else "notice") for alert in found}
        rules.update(f"{kind(session)}: {rule} {level}" for rule, level in told)
    with capsys.disabled():
        print("\n  session          half       number  paged  told")
        for (name, part), row in sorted(table.items()):
            print(f"  {name:16} {part:9} {row['sessions']:7} {row['paged']:6} {row['told']:5}")
        for line, count in sorted(rules.items()):
            print(f"  {count:4}  {line}")
    everything = {name: row for (name, part), row in table.items() if part == "all"}
    healthy = [found for session, found in alerts_of_all() if session.is_healthy]
    assert sum(map(is_paged, healthy)) <= len(healthy) / 1000
    assert everything["working"]["paged"] == everything.get("waiting", Counter())["paged"] == 0
    loops, refused = everything["call loop"], everything["refused finish"]
    assert loops["told"] >= 0.9 * loops["sessions"]
    assert loops["paged"] >= 0.5 * loops["sessions"]
    assert refused["paged"] >= 0.9 * refused["sessions"]


def test_attended_coding_agents_are_hardly_ever_told_of() -> None:
    """One in a hundred, and none is paged."""
    attended = [found for session, found in alerts_of_all() if session.source == "entire_cli"]
    assert len(attended) > 100
    assert sum(map(bool, attended)) <= len(attended) / 100
    assert not any(map(is_paged, attended))
