"""The page between a button and its order: what is meant, what it would meet, and why."""

from collections.abc import Mapping
from typing import Final

from alerting.rendering.foreign import name
from alerting.review.page.markup import Markup, Piece, element
from streams.console.views.frame import hidden_token
from streams.console.views.pieces import choice, shown_text

TITLES: Final = {
    "kill": "Kill", "resume": "Let go on", "ack": "Take in hand", "snooze": "Snooze", "feedback": "Give feedback",
}  # fmt: skip
HEADINGS: Final = {
    "kill": ("Kill", ""), "resume": ("Let", "go on"), "ack": ("Take", "in hand"), "snooze": ("Snooze", ""),
    "feedback": ("Give feedback on", ""),
}  # fmt: skip
"""What stands before and after the name of what is meant."""
WITHOUT_WHY: Final = {"ack": "seen on the live page"}
"""Verbs that go without a reason, for hands that are full, and what stands for it then."""
EFFECTS: Final = {
    "kill": "It is told to stop before its next call, and stays stopped until somebody lets it go on.",
    "resume": "What stands against it is lifted. Without terms it has one more allowance of the limit that stopped it.",
    "ack": "You act on this incident: nobody is reminded of it any more.",
    "snooze": "Nobody is notified of this incident for a while. Runs are still stopped.",
    "feedback": "The weekly review counts what you make of it. Noise and planned end its reminders as well.",
}
ABOUT: Final = ("run", "session", "tree", "workflow", "incident")
NEED_KEY: Final = (
    "Orders cannot be given here: the console has no key to sign them with. Start it with SPENDFUSE_OPERATOR_KEY set "
    "to the operators' key, as alerting has it for Slack's buttons."
)


def order_form(
    verb: str, given: Mapping[str, str], tenant_id: str, back: str, form: str, *, met: list[str], fault: str = ""
) -> Markup:
    """The form of an order, with what it would meet and what is wrong with it."""
    target = next(((kind, given[kind]) for kind in ABOUT if given.get(kind)), ("", ""))
    fields: list[Piece] = [
        hidden_token(form),
        element("input", type="hidden", name="tenant", value=tenant_id),
        element("input", type="hidden", name=target[0], value=target[1]),
        *_terms(verb, given),
        element("label", "Why (optional)" if verb in WITHOUT_WHY else "Why", for_="why"),
        element("p", "For those who wonder later; it is kept with the name of your key.", class_="note",
                id="why-note"),
        element("input", type="text", name="why", id="why", required=None if verb in WITHOUT_WHY else "",
                maxlength="1024", autofocus="",
                value=given.get("why", ""), aria_describedby="why-note", autocomplete="off"),
        element("div", element("button", TITLES[verb], type="submit", class_="danger" if verb == "kill" else None),
                element("a", "Not now", href=back, class_="button plain"), class_="actions"),
    ]  # fmt: skip
    return element(
        "div",
        element("h1", *_heading(verb, *target)),
        element("p", EFFECTS[verb]),
        *(element("p", shown_text(one, 600), class_="met") for one in met),
        element("p", fault, role="alert", class_="fault") if fault else "",
        element("form", *fields, method="post", action=f"/order/{verb}", data_once=""),
        class_="order",
    )


def _heading(verb: str, kind: str, target_id: str) -> list[Piece]:
    """The verb and whom it is about. An incident's id says nothing to anybody: what it is about stands below."""
    before, after = HEADINGS[verb]
    whom: Piece = "this incident"
    if kind != "incident":
        whom = element("span", f"{'run tree' if kind == 'tree' else kind} ", element("bdi", name(target_id, 60)))
    return [before, " ", whom, f" {after}" if after else ""]


def _terms(verb: str, given: Mapping[str, str]) -> list[Piece]:
    """What is asked besides why."""
    match verb:
        case "resume":
            return [
                *_text("limit_usd", "Up to, in dollars in all (optional)", given, "12.50"),
                *_text("span", "Or for how long (optional)", given, "2h"),
            ]
        case "kill":
            return _text("span", "For how long (optional: until somebody resumes it)", given, "2h")
        case "snooze":
            return _text("span", "For how long", {"span": given.get("span") or "1h"}, "1h")
        case "feedback":
            chosen = given.get("verdict", "useful")
            options = [choice("verdict", each, each, checked=each == chosen) for each in ("useful", "noise", "planned")]
            return [element("fieldset", element("legend", "It was"), *options)]
        case _:
            return []


def _text(field: str, label: str, given: Mapping[str, str], example: str) -> list[Piece]:
    return [
        element("label", label, for_=field),
        element("input", type="text", name=field, id=field, value=given.get(field, ""), placeholder=example,
                autocomplete="off"),
    ]  # fmt: skip
