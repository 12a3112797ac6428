"""What was stopped, how fast, and what was spent after; and what only looks as if it were."""

from collections.abc import Sequence
from typing import NamedTuple

from alerting.rendering.foreign import name
from alerting.review.page.markup import Markup, element, join
from schemas.control import Command, Target
from schemas.duration import format_duration
from schemas.run import RunRecord
from streams.console.state.book import TenantBook
from streams.console.state.forged import Forged
from streams.console.views.pieces import (
    badge,
    empty,
    key_of,
    link,
    plain_table,
    run_href,
    shown_name,
    shown_text,
    since,
    usd,
)

MOST_STOPS = 30
STOPS = ("kill", "pause", "downgrade")
WORDS = {"kill": "kill", "pause": "pause", "downgrade": "cheaper model", "resume": "may go on"}
OBEYED = {"stopped": "stopped", "paused": "paused", "downgraded": "on a cheaper model", "resumed": "went on"}
FORGED = "The engine has not signed it, and no guard with keys obeys it. Somebody may write control.v1 who should not."
UNCHECKED = "Who gave these is not checked: the console has no SPENDFUSE_ENGINE_KEY."


class Given(NamedTuple):
    """A command, whose it is, and the run it is for."""

    book: TenantBook
    command: Command
    run: RunRecord | None


def given_in(books: Sequence[TenantBook]) -> list[Given]:
    """Commands that stop, the newest first."""
    found = [
        Given(book, command, book.runs.get(command.target.id) if command.target.type == "run" else None)
        for book in books
        for command in book.commands.given.values()
        if command.action in STOPS
    ]
    return sorted(found, key=lambda one: -one.command.issued_ms)


def about(forged: Forged) -> str:
    """What a forged command would have done, in words."""
    return f"{WORDS.get(forged.action, forged.action)} of {kind_of(forged.target)} {name(forged.target.id, 60)}"


def kind_of(target: Target) -> str:
    """What a target is, in words."""
    return target.type.replace("_", " ")


def stops(given: Sequence[Given], forged: Sequence[Forged], *, is_checked: bool) -> Markup:
    """Both as one table, the newest first."""
    if not given and not forged:
        return empty("Nothing has been stopped.")
    rows = [(one.command.issued_ms, _stop(one)) for one in given[:MOST_STOPS]]
    rows += [(one.written_ms, _forged(one)) for one in forged[:MOST_STOPS]]
    rows.sort(key=lambda one: -one[0])
    heads = [
        ("What and why", ""), ("When", ""), ("Stopped within", "number"), ("Spent after", "number"),
    ]  # fmt: skip
    table = plain_table("Commands that stop, the newest first", heads, [row for _, row in rows[:MOST_STOPS]], "stops")
    return join([table, "" if is_checked else empty(UNCHECKED)])


def _stop(given: Given) -> Markup:
    command = given.command
    outcome = given.book.commands.outcome(command, given.run)
    took = "not confirmed" if outcome is None else OBEYED.get(outcome.acted, outcome.acted)
    if outcome is not None and outcome.after_ms is not None:
        took = format_duration(outcome.after_ms)
    after = "" if outcome is None or outcome.overshoot_nanousd is None else usd(outcome.overshoot_nanousd)
    return element(
        "tr",
        element(
            "th",
            badge(WORDS[command.action], command.action),
            " ",
            _target(command.tenant_id, command.target),
            element("div", shown_text(command.reason, 200), class_="sub"),
            scope="row",
        ),
        element("td", since(command.issued_ms)),
        element("td", took, class_="number" if outcome else "number waiting", data_label="Stopped within"),
        element("td", after or "–", class_="number", data_label="Spent after"),
        data_key=key_of(command.command_id),
    )


def _forged(forged: Forged) -> Markup:
    word = WORDS.get(forged.action, forged.action)
    return element(
        "tr",
        element(
            "th",
            badge(f"forged {word}", "warning"),
            " ",
            _target(forged.tenant_id, forged.target),
            element("div", FORGED, class_="sub"),
            scope="row",
        ),
        element("td", since(forged.written_ms)),
        element("td", "not obeyed", class_="number waiting", data_label="Stopped within"),
        element("td", "–", class_="number", data_label="Spent after"),
        data_key=key_of(forged.record),
    )


def _target(tenant_id: str, target: Target) -> Markup:
    shown = shown_name(target.id, 40)
    if target.type == "run":
        return link(run_href(tenant_id, target.id), shown)
    return join([f"{kind_of(target)} ", shown])
