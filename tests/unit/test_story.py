"""What `story` makes of facts: their order, what is told together, what belongs to whom, and what it cannot know."""

import json
from typing import Any

import pytest

from alerting.delivery.log import Delivery
from schemas.control import Target
from schemas.edge.enforcement import Enforcement, Step
from schemas.operator import Acknowledge, Kill, Resume, Silence
from schemas.signing import EngineKeys
from schemas.usage import CommandAck, LlmCall, ToolCall, UsageMessage
from streams.tools.story.chapters import alert_fact, command_facts, enforcer_facts, told_facts, usage_fact
from streams.tools.story.fact import Fact, Kind, Place
from streams.tools.story.lines import story_data, story_lines, told_together
from streams.tools.story.notes import notes
from streams.tools.story.policies import policy_facts
from streams.tools.story.records import Recorded
from streams.tools.story.sequence import in_order
from streams.tools.story.subject import Belonging, Subject, belonging, is_ordered_about, is_used_by
from tests.support.facts import NOW_MS, RUN, alert, command

SUBJECT = Subject("acme", "r1")
COMMON: dict[str, Any] = {"ts_ms": NOW_MS, "tenant_id": "acme", "run_id": "r1"}


def fact(kind: Kind, offset: int, at_ms: int, **fields: Any) -> Fact:
    """A fact in partition 0 of its kind's own topic."""
    return Fact(place=Place(kind, 0, offset), at_ms=at_ms, kind=kind, text=kind, **fields)


def at(value: Any, offset: int = 0, at_ms: int = NOW_MS) -> Recorded[Any]:
    """A value in partition 0."""
    return Recorded(Place("t", 0, offset), at_ms, value)


def call(event_id: str, **fields: Any) -> LlmCall:
    """A model call of run r1."""
    return LlmCall(**(COMMON | {"event_id": event_id, "model": "m"} | fields))


def tool(event_id: str, args_hash: str | None = "h", **fields: Any) -> ToolCall:
    """A tool call of run r1."""
    return ToolCall(**(COMMON | {"event_id": event_id, "tool": "grep", "args_hash": args_hash} | fields))


def test_a_cause_comes_before_what_follows_from_it_whatever_the_clocks_say() -> None:
    """An agent's clock is ten seconds ahead: its call still comes before the alert and the command that follow."""
    facts = [
        fact("command", 0, 5_000, id="c1", cause="e1"),
        fact("alert", 0, 5_000, id="a1", cause="e1"),
        fact("usage", 0, 1_000, id="e0"),
        fact("usage", 1, 15_000, id="e1"),
        fact("ack", 2, 6_000, id="k1", cause="c1"),
        fact("told", 0, 5_100, id="d1", cause="a1"),
    ]
    assert [one.id for one in in_order(facts)] == ["e0", "e1", "a1", "c1", "d1", "k1"]


def test_a_partition_keeps_its_order_and_a_record_stands_once() -> None:
    """Offsets decide within a partition, also where a producer's time goes back; a record given twice is one fact."""
    facts = [fact("usage", offset, at_ms, id=f"e{offset}") for offset, at_ms in ((0, 9), (1, 3), (2, 5), (1, 3))]
    assert [one.id for one in in_order(facts)] == ["e0", "e1", "e2"]


def test_causes_that_nobody_has_or_that_go_in_circles_hold_nothing_up() -> None:
    """Every fact is told, whatever it names as its cause."""
    facts = [
        fact("alert", 0, 1, id="a", cause="gone"),
        fact("command", 0, 2, id="b", cause="c"),
        fact("ack", 0, 3, id="c", cause="b"),
    ]
    assert {one.id for one in in_order(facts)} == {"a", "b", "c"}


def test_equal_calls_in_a_row_are_one_line_with_their_sums() -> None:
    """Calls between two other facts are told by model or tool; the same arguments and their cost are said."""
    usage: list[UsageMessage] = [
        *(tool(f"t{number}") for number in range(3)),
        *(call(f"m{number}", cost_nanousd=10**9, input_tokens=1_000, output_tokens=5) for number in range(2)),
        call("m9", status="error"),
    ]
    facts = [usage_fact(at(one, number, NOW_MS + 100 * number), "r1") for number, one in enumerate(usage)]
    lines = " ".join(" ".join(story_lines(SUBJECT, facts, ())).split())
    assert "3 × tool grep, the same arguments, within 200 ms" in lines
    assert "2 × call of m, within 100 ms · $2.00 · 2,000 in, 10 out" in lines
    assert "call of m: error · no price reported" in lines
    assert len(list(story_data(SUBJECT, facts, ()))) == len(usage), "machines get every fact"


def test_many_kinds_of_calls_are_told_by_tool() -> None:
    """Twenty calls with twenty arguments are one line that says so; what happens in between parts them."""
    facts = [usage_fact(at(tool(f"t{number}", f"h{number}"), number), "r1") for number in range(20)]
    facts.insert(10, alert_fact(at(alert())))
    assert [len(group) for group in told_together(facts)] == [10, 1, 10]
    assert "10 different arguments" in " ".join(" ".join(story_lines(SUBJECT, facts, ())).split())


def test_no_line_is_wider_than_a_terminal_and_foreign_text_is_harmless() -> None:
    """Ids, rules and reasons of any length and with any characters in them."""
    hostile = "x\x1b[31m" + "é" * 500
    facts = [
        usage_fact(at(call("e1", model="\x1b]0;" + "m" * 200)), "r1"),
        alert_fact(at(alert(rule=hostile, summary=hostile), 1)),
        *command_facts([at(command(target=Target("run", hostile), reason=hostile))], None),
    ]
    lines = list(story_lines(Subject("t" * 128, hostile), facts, [hostile]))
    assert max(map(len, "\n".join(lines).splitlines())) <= 80
    assert "\x1b" not in "".join(lines)


def test_nothing_of_another_tenant_belongs() -> None:
    """Its run has the same id, its alert the same incident id, its order the same target."""
    foreign = [at(alert(tenant_id="umbrella")), at(alert("i2", tenant_id="umbrella"))]
    commands = [at(command(tenant_id="umbrella"))]
    known = belonging(SUBJECT, [at(alert()), *foreign], [at(command()), *commands], [at(call("e1"))])
    assert {one.value.tenant_id for one in known.alerts} == {one.value.tenant_id for one in known.commands} == {"acme"}
    assert not is_used_by(call("e2", tenant_id="umbrella"), SUBJECT, known)
    kill = Kill(message_id="m", ts_ms=NOW_MS, tenant_id="umbrella", who="eve", why="y", target=RUN)
    assert not is_ordered_about(kill, SUBJECT, known)


def test_what_reaches_a_run_widely_belongs_while_the_run_goes_on() -> None:
    """A pause of its session during the run does; one of the tenant that had ended before, or came a week later, or one
    of another session, does not.
    """
    usage = [at(call("e1", session_id="s1")), at(call("e2"), 1, NOW_MS + 1_000)]
    session = command("pause", Target("session", "s1"), command_id="during", issued_ms=NOW_MS + 500)
    other = command("pause", Target("session", "s2"), command_id="other", issued_ms=NOW_MS + 500)
    tenant = Target("tenant", "acme")
    before = command("pause", tenant, command_id="before", issued_ms=NOW_MS - 9_000, expires_ms=NOW_MS - 5_000)
    later = command("pause", tenant, command_id="later", issued_ms=NOW_MS + 7 * 24 * 3_600_000)
    known = belonging(SUBJECT, (), [at(one) for one in (session, other, before, later)], usage)
    assert known.command_ids == {"during"}


def test_an_incident_has_its_commands_what_lifted_them_and_the_answers_of_all() -> None:
    """The pause of a scope, the operator's resume of it, and acks by several runs; no earlier command to it."""
    scope = Target("scope", "acme/docs")
    commands = [
        command("pause", scope, command_id="old", seq=1, incident_id="i0"),
        command("pause", scope, command_id="c2", seq=2),
        command("resume", scope, command_id="c3", seq=3, incident_id="op"),
    ]
    subject = Subject("acme", None, "i1")
    known = belonging(subject, [at(alert(run_id=None, cause_event_id="e1"))], [at(one) for one in commands], ())
    assert known.command_ids == {"c2", "c3"}
    ack = CommandAck(**(COMMON | {"event_id": "k1", "command_id": "c2", "acted": "paused"}))
    stray = CommandAck(**(COMMON | {"event_id": "k2", "command_id": "old", "acted": "paused"}))
    messages: list[UsageMessage] = [ack, stray, call("e1"), call("e2")]
    assert [one.event_id for one in messages if is_used_by(one, subject, known)] == ["k1", "e1"]
    orders: dict[str, Any] = {"message_id": "m", "ts_ms": NOW_MS, "tenant_id": "acme", "who": "ana", "why": "y"}
    assert is_ordered_about(Resume(**orders, target=scope), subject, known)
    assert is_ordered_about(Acknowledge(**orders, incident_id="i1"), subject, known)
    assert not is_ordered_about(Acknowledge(**orders, incident_id="i2"), subject, known)
    assert is_ordered_about(Silence(**orders, match={"rule": "run-cost"}, until_ms=NOW_MS + 1), subject, known)
    assert not is_ordered_about(Silence(**orders, match={"rule": "run-cost"}, until_ms=NOW_MS), subject, known)


def test_who_signed_a_command_is_checked_where_the_key_is_known() -> None:
    """By the engine, on an operator's word, by somebody else, by nobody; without the key here it is only a claim."""
    keys = EngineKeys(b"k" * 32)
    one = command()
    signed = tuple(keys.command_headers(one, b"value", "operator"))

    def said(headers: Any, known: EngineKeys | None = keys) -> str:
        [found] = command_facts([Recorded(Place("control.v1", 0, 0), NOW_MS, one, headers, b"value")], known)
        return str(found.data["signed_by"])

    assert said(signed) == "signed by the engine on an operator's word"
    assert said(tuple(EngineKeys(b"x" * 32).command_headers(one, b"value", "engine"))) == (
        "with a signature that is not the engine's"
    )
    assert said(()) == "unsigned"
    assert said(signed, None) == "signed by the engine on an operator's word, which nobody can check here"


def test_what_was_written_again_is_one_command() -> None:
    """Commands are written again at intervals; deliveries as often as their state changes: the last one counts."""
    [found] = command_facts([at(command(), offset) for offset in range(3)], None)
    assert (found.place.offset, found.data["repeats"]) == (0, 2)
    fields: dict[str, Any] = {
        "alert": alert(),
        "receiver": "hook",
        "news": "first",
        "group": (),
        "due_ms": 0,
        "at_ms": 0,
    }
    pending, sent = Delivery(status="pending", **fields), Delivery(status="sent", attempts=2, **fields)
    [told] = told_facts([at(pending), at(sent, 1)])
    assert told.text == "hook: has taken `opened run-cost` at attempt 2"


def test_an_enforcers_steps_are_those_of_the_storys_commands() -> None:
    """The newest record of an enforcer has them all, and each stands at its own time; a step for another command, and
    one of another tenant's key, do not belong.
    """
    steps = (
        Step(state="closing", at_ms=NOW_MS, reason="It spent $5.01.", command_id="c1"),
        Step(state="closed", at_ms=NOW_MS + 40, reason="It spent $5.01.", command_id="c1"),
        Step(state="opening", at_ms=NOW_MS + 90, reason="resumed", command_id="other"),
    )

    def done(count: int, tenant_id: str = "acme", enforcer: str = "e") -> Enforcement:
        return Enforcement(enforcer=enforcer, provider="openrouter", key="k", tenant_id=tenant_id, steps=steps[:count])

    records = [at(done(1)), at(done(3), 1), at(done(3, "umbrella", "f"), 2)]
    found = in_order(enforcer_facts(records, {"c1"}, "acme"))
    assert [(one.text, one.at_ms, one.place.offset) for one in found] == [
        ("e is closing openrouter k: It spent $5.01.", NOW_MS, 1),
        ("e has closed openrouter k: It spent $5.01.", NOW_MS + 40, 1),
    ]
    assert {one.cause for one in found} == {"c1"}


def test_it_says_what_it_cannot_know() -> None:
    """A beginning that retention took, a command that compaction took, an alert nobody was told of, and the policy."""
    named = alert(evidence={"command_id": "gone"})
    known = Belonging([at(named)], [at(command())])
    facts = [alert_fact(at(named))]
    said = " ".join(notes(known, facts, {"usage.v1": NOW_MS, "operator.v1": None}, 2))
    for words in (
        "usage.v1 begins at Mon 23 Nov 2026, 00:00:00 UTC: what it held before is gone.",
        "operator.v1 is empty now",
        "1 of this story's commands are gone from it",
        "deliveries.v1 knows nothing of 1 of the alerts",
        "policy.v1 does not say which policy was in force when it began; its alerts name v1.",
        "2 records of usage.v1 were sent again",
    ):
        assert words in said


@pytest.mark.parametrize(
    ("appended_ms", "versions"),
    [((10, 50), ["one", "two"]), ((10, 150), ["one"]), ((60, 70), ["one", "two"]), ((10, 20), ["two"])],
)
def test_the_policy_at_the_beginning_and_those_published_meanwhile(
    appended_ms: tuple[int, int], versions: list[str]
) -> None:
    """Of a story from 30 to 100."""
    records = [
        at(json.dumps({"version": version}).encode(), offset, at_ms)
        for offset, (version, at_ms) in enumerate(zip(("one", "two"), appended_ms, strict=True))
    ]
    found = in_order(policy_facts(records, 30, 100))
    assert [one.data["version"] for one in found] == versions
