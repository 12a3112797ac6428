"""From a press of a button to an order, and to what the person is told."""

import json
from typing import Any

import pytest

from alerting.notice import Notice
from alerting.receivers.slack import actions, blocks
from alerting.receivers.slack.actions import instead, not_ordered, ordered, read_press, reply
from alerting.receivers.slack.blocks import slack_message
from schemas.codec import decode_operator, encode
from schemas.control import Target
from schemas.errors import Undecodable
from schemas.operator import Acknowledge, Feedback, OperatorMessage, Resume, Silence
from tests.support import words
from tests.support.notices import HOSTILE, alert
from tests.support.presses import IDS, buttons, press

AT_MS = 1_795_276_800_123
NAMES = [pytest.param(name, id=key) for key, name in HOSTILE.items() if key not in ("half a pair", "nothing")]


def pressed(action_id: str, may_resume: tuple[str, ...] = ("U01ANA",), **fields: Any) -> OperatorMessage:
    found = read_press(json.dumps(press(action_id, **fields)).encode(), may_resume)
    assert found is not None
    assert not found.refused
    return found.order


@pytest.mark.parametrize(
    ("action_id", "kind", "says"),
    [
        (blocks.ACKNOWLEDGE, Acknowledge, {"incident_id": "i1", "why": "pressed Acknowledge in Slack"}),
        (blocks.SNOOZE, Silence, {"match": {"incident_id": "i1"}, "until_ms": AT_MS + 3_600_000}),
        (blocks.USEFUL, Feedback, {"incident_id": "i1", "verdict": "useful"}),
        (blocks.NOISE, Feedback, {"incident_id": "i1", "verdict": "noise"}),
        (blocks.PLANNED, Feedback, {"incident_id": "i1", "verdict": "planned"}),
        (blocks.RESUME, Resume, {"target": Target("run", "r1"), "why": "pressed Resume run in Slack"}),
    ],
)
def test_each_button_is_an_order(action_id: str, kind: type, says: dict[str, Any]) -> None:
    """Who pressed what and when stands in the order, which the readers of operator.v1 accept as it is."""
    order = pressed(action_id)
    assert type(order) is kind
    assert {name: getattr(order, name) for name in says} == says
    assert (order.tenant_id, order.ts_ms, order.who) == ("acme", AT_MS, "ana (U01ANA)")
    assert decode_operator(encode(order)) == order


def test_every_button_that_is_shown_is_understood() -> None:
    """The message and this side of it agree on ids and values, also where names are hostile."""
    for hostile in HOSTILE.values():
        name = hostile[:60].replace("\ud800", "") or "i"
        about_it: dict[str, Any] = {"tenant_id": name, "incident_id": name, "run_id": name, "command": "kill"}
        found = buttons(alert(**about_it)) | buttons(alert(**about_it, state="resolved"))
        assert found.keys() == actions.LABELS.keys() or not found
        orders = {action_id: pressed(action_id, value=value) for action_id, value in found.items()}
        for action_id, order in orders.items():
            about = {"tenant_id": name, **({"target": Target("run", name)} if action_id == blocks.RESUME else {})}
            about |= {"match": {"incident_id": name}} if action_id == blocks.SNOOZE else {}
            about |= {"incident_id": name} if hasattr(order, "incident_id") else {}
            assert {key: getattr(order, key) for key in about} == about


def test_a_press_told_twice_is_one_order_and_two_presses_are_two() -> None:
    """The id follows from the press: the same for the same, another for another press, button or person."""
    ids = [
        pressed(blocks.NOISE).message_id,
        pressed(blocks.NOISE).message_id,
        pressed(blocks.PLANNED).message_id,
        pressed(blocks.NOISE, trigger_id="1338.5.x").message_id,
        pressed(blocks.NOISE, user={"id": "U2", "name": "bob"}).message_id,
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4


@pytest.mark.parametrize(("may_resume", "refused"), [((), "nobody may"), (("U9",), "not among"), (("U01ANA",), "")])
def test_who_may_resume(may_resume: tuple[str, ...], refused: str) -> None:
    """Only those who are named may let a stopped run spend again; the others are told the command instead."""
    found = read_press(json.dumps(press(blocks.RESUME)).encode(), may_resume)
    assert found is not None
    assert refused in found.refused
    assert bool(found.refused) == bool(refused)
    assert not refused or "python -m streams resume run r1 --tenant acme" in found.refused


def test_others_may_do_the_rest() -> None:
    """Whoever sees the message may acknowledge, snooze and judge it."""
    for action_id in actions.LABELS.keys() - {blocks.RESUME}:
        assert pressed(action_id, may_resume=())


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "view_submission"},
        {"user": None},
        {"user": {"id": "<!here>"}},
        {"user": {"id": "U1\n"}},
        {"trigger_id": ""},
        {"actions": []},
        {"actions": "all"},
        {"actions": [{"action_id": blocks.NOISE, "action_ts": "soon", "value": json.dumps(IDS)}]},
        {"actions": [{"action_id": blocks.NOISE, "action_ts": "-1.5", "value": json.dumps(IDS)}]},
    ],
)
def test_what_slack_would_not_say_is_refused(fields: dict[str, Any]) -> None:
    """A payload of another kind, or with values that Slack has none of, orders nothing."""
    with pytest.raises(Undecodable):
        read_press(json.dumps(press(**fields)).encode(), ())


@pytest.mark.parametrize("payload", [b"", b"null", b"[]", b"{", b"\xff", b'{"a":' + b"[" * 100_000])
def test_no_json_is_refused(payload: bytes) -> None:
    """Whatever the bytes, the answer is the one error that is caught."""
    with pytest.raises(Undecodable):
        read_press(payload, ())


@pytest.mark.parametrize("value", ["", "{}", "[]", '{"tenant_id":"","incident_id":"i"}', '{"tenant_id":1}', "x" * 999])
def test_a_button_about_nothing_is_refused(value: str) -> None:
    """Ids that are missing, empty or no text name nobody."""
    with pytest.raises(Undecodable):
        read_press(json.dumps(press(blocks.NOISE, value)).encode(), ())


@pytest.mark.parametrize(
    ("about", "target", "label"),
    [
        ({"run_id": "r1"}, Target("run", "r1"), "Resume run"),
        ({"run_id": None, "scope": {"tenant_id": "acme", "session": "s1"}}, Target("session", "s1"), "Resume session"),
        ({"run_id": None, "scope": {"tenant_id": "acme", "run_tree": "t"}}, Target("run_tree", "t"), "Resume run tree"),
        ({"run_id": "r1", "scope": {"tenant_id": "acme", "session": "s1"}}, Target("run", "r1"), "Resume run"),
        ({"run_id": None}, None, ""),
        ({"run_id": "r1", "command": None}, None, ""),
        ({"run_id": "r1", "command": "resume"}, None, ""),
    ],
)
def test_the_button_names_what_it_resumes_and_does_it(about: dict[str, Any], target: Target | None, label: str) -> None:
    """A run, a session or a run tree: the label, the confirmation and the order are about the same; else no button."""
    found = alert(**{"command": "kill", **about})
    elements = slack_message(Notice("incident", (found,)), {}).blocks[-2]["elements"]
    resumes = [one for one in elements if one["action_id"] == blocks.RESUME]
    assert [one["text"]["text"] for one in resumes] == ([label] if label else [])
    if target is not None:
        order = pressed(blocks.RESUME, value=resumes[0]["value"])
        assert isinstance(order, Resume)
        assert (order.target, order.why) == (target, f"pressed {label} in Slack")
        assert label.removeprefix("Resume ") in resumes[0]["confirm"]["title"]["text"]
        assert "$50.00 more" in resumes[0]["confirm"]["text"]["text"]


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({}, "may go on, and spend again, with one more allowance of the limit that stopped it."),
        ({"limit_nanousd": 10 * 10**9}, "up to $10.00 in all."),
        ({"limit_nanousd": 10 * 10**9, "until_ms": AT_MS}, "up to $10.00 in all, until "),
        ({"until_ms": AT_MS}, "may go on, and spend again, until "),
    ],
)
def test_the_reply_says_the_terms(terms: dict[str, Any], says: str) -> None:
    """Whoever lets something go on reads up to what, and until when."""
    common: dict[str, Any] = {"message_id": "m", "ts_ms": AT_MS, "tenant_id": "acme", "who": "ana", "why": "w"}
    assert says in ordered(Resume(**common, target=Target("session", "s1"), **terms))


def test_a_resume_of_no_run_is_refused() -> None:
    """It would lift something else, or nothing."""
    with pytest.raises(Undecodable):
        read_press(json.dumps(press(blocks.RESUME, '{"tenant_id":"acme","incident_id":"i"}')).encode(), ("U01ANA",))


def test_another_apps_button_is_left_alone() -> None:
    """A link, or the button of another message of the same app, is no order and no fault."""
    assert read_press(json.dumps(press("open_dashboard")).encode(), ()) is None


@pytest.mark.parametrize("hostile", NAMES)
def test_hostile_names_are_text(hostile: str) -> None:
    """In a user's name or in ids, mentions, markup and invisible characters reach nobody as anything but text."""
    value = json.dumps({"tenant_id": hostile[:120], "incident_id": hostile[:120], "run_id": hostile[:120]})
    found = read_press(json.dumps(press(blocks.RESUME, value, user={"id": "U1", "name": hostile})).encode(), ())
    assert found is not None
    assert len(found.order.who) <= 256
    for text in (found.refused, ordered(found.order), not_ordered(found.order)):
        shown = reply(text)
        assert shown["blocks"][0]["text"]["type"] == "plain_text"
        assert not {"<", ">"} & set(shown["text"])
        assert shown["text"].isprintable(), repr(shown["text"])
        assert len(shown["blocks"][0]["text"]["text"]) <= 3_000
        assert (shown["response_type"], shown["replace_original"]) == ("ephemeral", False)


@pytest.mark.parametrize("action_id", sorted(actions.LABELS))
def test_the_command_instead_gives_the_same_order(action_id: str) -> None:
    """What people are told to type means what the button means, with names that a shell would take apart."""
    value = json.dumps({"tenant_id": "a b;c", "incident_id": "$(id)", "run_id": "it's"})
    order = pressed(action_id, value=value)
    command = instead(order).partition(": ")[2]
    assert command.startswith("python -m streams ")
    typed = words.order(command.removeprefix("python -m streams "), "ana", order.ts_ms)
    same = ("tenant_id", "ts_ms", "target", "incident_id", "verdict", "match", "until_ms")
    assert type(typed) is type(order)
    assert [getattr(typed, name, None) for name in same] == [getattr(order, name, None) for name in same]
