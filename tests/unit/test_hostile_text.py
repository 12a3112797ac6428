"""Whatever an alert says, and wherever in it, people get text: nobody is pinged, nothing is linked, hidden or forged.

The places are found by looking at `Alert` itself and at the evidence that the engine's rules really give, so that a new
field is covered without an edit here.
"""

import asyncio
import io
import json
import re
import types
import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

import msgspec
import pytest

from alerting.notice import Kind, Notice
from alerting.receivers.console.sender import ConsoleSender
from alerting.receivers.pagerduty.sender import MOST_OF_A_KEY, MOST_OF_A_SUMMARY, dedup_key, events
from alerting.receivers.slack import blocks as kit
from alerting.receivers.slack.blocks import escape, slack_message, thread_reply
from alerting.receivers.webhook.sender import envelope
from alerting.rendering.evidence import evidence
from alerting.rendering.foreign import MOST_OF_A_NAME, clean, name
from alerting.rendering.links import links
from alerting.rendering.render import line, plain_text, sentence, step
from schemas.alert import Alert
from schemas.codec import encode
from tests.support.notices import HOSTILE, alert
from tests.support.scenario import load, play, scenario_files

LINKS = {"Run": "https://runs.example/{tenant_id}/{run_id}", "Runbook": "https://docs.example/rules/{rule}"}
KINDS: tuple[Kind, ...] = ("incident", "digest", "flapping", "watchdog")
LIMITS = {"header": 150, "section": 3_000, "field": 2_000, "context": 3_000, "button": 75}
BUTTONS = {kit.ACKNOWLEDGE, kit.SNOOZE, kit.RESUME, kit.USEFUL, kit.NOISE, kit.PLANNED}
OUR_WORDS = re.compile(r"\*[A-Za-z0-9 $.,;:'-]+\*")
LINK = re.compile(r"<https://(runs|docs)\.example/[A-Za-z0-9%._~/-]+\|(Run|Runbook)>( · )?")
EMOJI_CODE = re.compile(r":[\w+'-]*[a-z][\w+'-]*:")
MOST_LINES = 20
"""Of the console's text: a message of twelve incidents has one line for each."""


def text_of(kind: Any, text: str) -> Any:
    """A value of a field's type made of `text`; `...` where the type holds no text of anybody's choice."""
    options = [each for each in get_args(kind) if each is not types.NoneType]
    if kind is str:
        return text
    if get_origin(kind) in (types.UnionType, Union):
        return next((found for each in options if (found := text_of(each, text)) is not ...), ...)
    if get_origin(kind) is dict:
        usual = dict.fromkeys(("tenant_id", "workflow", "environment", "project", "session", "run", "model"), text)
        return {**usual, text: text, f"{text}2": text}
    if get_origin(kind) is list:
        return [text, f"{text}2"]
    if kind in (int, float) or get_origin(kind) is Literal:
        return ...
    raise AssertionError(f"say how a field of type {kind} could be hostile")


def hostile_fields(text: str) -> dict[str, Any]:
    """Every field of an alert that can hold foreign text, holding it."""
    found = {field.name: text_of(field.type, text) for field in msgspec.structs.fields(Alert)}
    return {field: value for field, value in found.items() if value is not ...}


@cache
def evidence_keys() -> frozenset[str]:
    """What the engine's rules give as evidence, from every scenario."""
    alerts = [one for path in scenario_files() for one in play(load(path)).alerts()]
    return frozenset(key for one in alerts for key in one.evidence) | {"top_runs"}


def hostile_alerts(text: str) -> Iterator[Alert]:
    """The alert with `text` in one place after the other, in all the evidence at once, and everywhere."""
    fields = hostile_fields(text)
    for field, value in fields.items():
        yield alert(**{field: value})
    nested = [text, [text, text], {text: text}, [{"run_id": text, "cost_nanousd": 1, text: [text]}]]
    every_evidence = [dict.fromkeys(evidence_keys(), value) for value in nested]
    for value in every_evidence:
        yield alert(evidence=value)
    for value in every_evidence:
        yield alert(**{**fields, "evidence": {**value, text: text}})


def hostile_notices(text: str) -> Iterator[Notice]:
    """Every kind of notice about each such alert, alone and with others, begun and over."""
    for one in hostile_alerts(text):
        for kind in KINDS:
            yield Notice(kind, (one,), maybe_repeated=True)
        yield Notice("digest", (one,) * 12, more=37)
        for changes in ({"state": "resolved"}, {"state": "reminder", "command": "kill"}):
            yield Notice("incident", (msgspec.structs.replace(one, **changes),))


def strings(value: Any) -> Iterator[str]:
    """Every string within, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (one for item in value.items() for part in item for one in strings(part))
    elif isinstance(value, list):
        yield from (one for part in value for one in strings(part))


def unsafe(text: str) -> list[str]:
    """Characters that are not seen, or that move or stack on what is."""
    if text.isascii():
        return [one for one in text if not one.isprintable()]
    marks = "".join("m" if unicodedata.category(one) in ("Mn", "Me") else "." for one in text)
    hidden = [one for one in text if not one.isprintable() or one in "\u3164\u2800\ufe0f\ufe01\u180b\U000e0101"]
    return hidden + (["stacked marks"] if "mmm" in marks else [])


def text_objects(block: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The text objects of a block with the name of their limit."""
    if "text" in block:
        yield block["type"], block["text"]
    yield from (("field", one) for one in block.get("fields", ()))
    if block["type"] == "context":
        yield from (("context", one) for one in block["elements"])
    if block["type"] == "actions":
        yield from (("button", one["text"]) for one in block["elements"])


def check_slack(blocks: list[dict[str, Any]], text: str) -> None:
    """Slack takes the message, and shows everything foreign as it is."""
    assert 0 < len(blocks) <= 50
    assert len(text) + len(json.dumps(blocks, ensure_ascii=False)) < 8_000
    assert_literal(text)
    assert not EMOJI_CODE.search(text)
    for block in blocks:
        assert len(block.get("fields", ())) <= 10
        assert len(block.get("elements", ())) <= 10
        for place, shown in text_objects(block):
            assert 0 < len(shown["text"]) <= LIMITS[place]
            if shown["type"] == "mrkdwn":
                assert OUR_WORDS.fullmatch(shown["text"]) or not LINK.sub("", shown["text"])
            else:
                assert_literal(shown["text"])
                assert shown["emoji"] is False
    for button in (one for block in blocks if block["type"] == "actions" for one in block["elements"]):
        assert button["action_id"] in BUTTONS
        assert len(button["value"]) <= 2_000
        assert button["value"].isascii()
        assert not set(button["value"]) & set("<>&")


def assert_literal(text: str) -> None:
    """No mention and no link can be read from it, and nothing is hidden in it."""
    assert "<" not in text
    assert ">" not in text
    assert all(part.startswith(("amp;", "lt;", "gt;")) for part in text.split("&")[1:])
    assert not unsafe(text.replace("\n", ""))


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_it_is_only_text_in_slack(hostile: str) -> None:
    """In whichever field it stands, it pings nobody, links nowhere, hides nothing and breaks no limit of Slack's."""
    for one in hostile_notices(hostile):
        for short in (False, True):
            message = slack_message(one, LINKS, short=short)
            check_slack(message.blocks, message.text)
        reply = thread_reply(one)
        check_slack(reply.blocks, reply.text)


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_it_is_only_text_for_pagerduty(hostile: str) -> None:
    """Summary and key keep their limits, links lead where the operator's templates do, and no string hides anything."""
    for one in hostile_notices(hostile):
        for event in events("d1", one, (), LINKS):
            assert 0 < len(event.dedup_key) <= MOST_OF_A_KEY
            assert event.dedup_key.isascii()
            assert event.dedup_key.isprintable()
            shown = [part for text in strings(event.properties) for part in text.split("\n")]
            assert not [text for text in shown if unsafe(text)]
            for link in event.properties.get("links", ()):
                assert re.fullmatch(r"https://(runs|docs)\.example/[A-Za-z0-9%._~/-]+", link["href"])
            if event.action == "trigger":
                assert 0 < len(event.properties["payload"]["summary"]) <= MOST_OF_A_SUMMARY
                assert len(json.dumps(event.properties)) < 100_000


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_it_does_not_drive_a_terminal(hostile: str) -> None:
    """No control character is left, and no line can be forged: the lines are ours, and few."""
    for one in hostile_notices(hostile):
        out = io.StringIO()
        asyncio.run(ConsoleSender(out).send("d1", one))
        lines = out.getvalue().splitlines()
        assert len(lines) <= MOST_LINES
        assert lines == [lines[0], *(f"    {text}" for text in plain_text(one).split("\n")[1:])]
        assert not [text for text in lines if unsafe(text)]
        assert not [text for text in lines if text.strip().startswith(("INFO", "RESOLVED  forged", "CRITICAL  forged"))]
        assert not unsafe(sentence(one))
        assert not unsafe(step(one))


ARRIVING = {label: text for label, text in HOSTILE.items() if label != "half a pair"}


@pytest.mark.parametrize("hostile", ARRIVING.values(), ids=ARRIVING)
def test_it_is_data_in_a_webhook(hostile: str) -> None:
    """The envelope's own words are ours, its text is clean, and the alerts come out as they went in."""
    for one in hostile_notices(hostile):
        body = json.loads(msgspec.json.encode(envelope("d1", one)))
        assert set(body) <= {"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data"}
        assert body["type"] == f"spendfuse.{one.kind}.{one.alert.state}.v1"
        assert not [text for text in body["data"]["text"].split("\n") if unsafe(text)]
        assert msgspec.convert(body["data"]["alerts"], tuple[Alert, ...]) == one.alerts


def test_half_a_pair_and_words_outside_their_list_cannot_arrive() -> None:
    """What the tests above leave out never gets past the reading of alerts.v1."""
    read = msgspec.json.Decoder(Alert).decode
    with pytest.raises(UnicodeEncodeError):
        encode(alert(run_id=HOSTILE["half a pair"]))
    with pytest.raises(msgspec.DecodeError):
        read(encode(alert()).replace(b'"run-7"', b'"\\ud800"', 1))
    for field in ("state", "severity", "mode", "command"):
        with pytest.raises(msgspec.ValidationError):
            read(json.dumps({**msgspec.to_builtins(alert()), field: "<!channel>"}))


LONG = "x" * 127
TWINS = {
    "alike for 10,000 characters": ("x" * 10_000, "x" * 9_999 + "y"),
    "alike for as long as an id may be": (LONG + "a", LONG + "b"),
    "long of entities": ("<" * 127 + "a", "<" * 127 + "b"),
    "told apart by what is not seen": ("run\u200b7", "run\u200c7"),
    "one with what is not seen": ("run-7\ufe0f", "run-7"),
    "one with white space": ("run  7", "run 7"),
    "told apart by marks on marks": ("Z" + "\u0301" * 5, "Z" + "\u0301" * 6),
    "one is how the other is shown": ("y" * 10_000, name("y" * 10_000)),
    "the second of two, as shown": ("run\u200b7", name("run\u200b7")),
}


@pytest.mark.parametrize(("one", "other"), TWINS.values(), ids=TWINS)
def test_different_runs_never_look_or_read_the_same(one: str, other: str) -> None:
    """Cut or cleaned, two runs stay two: for the eye, in a button, in a link, in evidence, in a line of a digest."""
    views = [views_of_run(run_id) for run_id in (one, other)]
    for place, shown in views[0].items():
        assert shown is None or shown != views[1][place], place
    assert None not in (views[0]["fields"], views[0]["console"], views[0]["page"], views[0]["line"])


def views_of_run(run_id: str) -> dict[str, Any]:
    """Everything by which somebody or something could take one run for another; None where it is not said at all."""
    told = Notice("incident", (alert(run_id=run_id, command="kill"),))
    blocks = slack_message(told, LINKS).blocks
    buttons = [one for block in blocks if block["type"] == "actions" for one in block["elements"]]
    fields = [one["text"] for block in blocks for one in block.get("fields", ()) if one["text"].startswith("Run: ")]
    page = events("d1", told, (), LINKS)[0].properties
    return {
        "fields": fields[0],
        "button": next((one["value"] for one in buttons if one["action_id"] == kit.RESUME), None),
        "console": plain_text(told),
        "page": page["payload"]["custom_details"]["Run"],
        "link": next((address for label, address in links(told.alerts, LINKS) if label == "Run"), None),
        "evidence": evidence(alert(evidence={"top_runs": [{"run_id": run_id, "cost_nanousd": 1}]})),
        "line": line(told.alert),
    }


def test_different_incidents_never_have_the_same_page() -> None:
    """Nor do long incident ids, which are hashed whole."""
    assert dedup_key(alert(incident_id="x" * 300)) != dedup_key(alert(incident_id="x" * 301))
    assert dedup_key(alert(incident_id="a b")) != dedup_key(alert(incident_id="a  b"))


def test_a_button_names_its_run_whole_or_there_is_none() -> None:
    """An id as long as the contract allows is carried whole; one that does not fit takes the buttons with it."""
    whole = views_of_run("ü" * 128)["button"]
    assert json.loads(whole)["target_id"] == "ü" * 128
    assert views_of_run("x" * 10_000)["button"] is None


def test_what_is_cut_is_seen_to_be_cut() -> None:
    """A long name says how long it was; a short one is left alone, and so is one in another script."""
    cut = clean("x" * 10_000, 50)
    assert len(cut) <= 50
    assert cut.endswith("… (10,000 characters)")
    for kept in ("search team", "Zoë, 東京, مرحبا", "a" * MOST_OF_A_NAME):
        assert clean(kept) == name(kept) == kept


def test_escaping_never_cuts_an_entity() -> None:
    """Whatever the room, what is left is whole characters and whole entities."""
    for most in range(1, 40):
        shown = escape("a<b>&c" * 10, most)
        assert len(shown) <= most
        assert_literal(shown)
    assert escape("a < b & c", 100) == "a &lt; b &amp; c"


def test_links_keep_foreign_values_in_their_place() -> None:
    """A value cannot leave its part of the address, and a template without its value is left out."""
    [(_, address)] = links([alert(tenant_id="../x?y#z|>", rule="..")], {"a": "https://runs.example/{tenant_id}/{rule}"})
    assert address == "https://runs.example/..%2Fx%3Fy%23z%7C%3E/%2E%2E"
    assert not links([alert(run_id=None)], {"Run": "https://runs.example/{run_id}"})
    assert not links([alert()], {"Run": "javascript:alert(1)"})
