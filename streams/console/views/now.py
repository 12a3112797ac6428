"""`now`: what is being spent, by whom, what is about to hit a limit, and what was stopped."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from alerting.rendering.figures import part_of
from alerting.rendering.foreign import clean, name
from alerting.review.page.markup import Markup, Piece, element, join
from schemas.control import Command
from schemas.duration import DAY_MS, format_duration
from schemas.run import RunRecord
from streams.console.state.book import Book, TenantBook
from streams.console.state.incidents import Incident, rank
from streams.console.views.pieces import (
    badge,
    bar,
    choice,
    columns_chart,
    empty,
    incident_href,
    key_of,
    level,
    lines,
    link,
    moment,
    plain_table,
    run_href,
    share_text,
    shown_name,
    shown_text,
    since,
    usd,
)
from streams.console.views.spending import PeriodSpend, Spending, spending
from streams.console.views.stops import MOST_STOPS, STOPS, WORDS, Given, about, given_in, kind_of, stops

MOST_TENANTS = 100
MOST_INCIDENTS = 30
MOST_ENDED = 6
LATELY_MS = 2 * DAY_MS


def fragments(book: Book, tenant_id: str, now_ms: int) -> dict[str, Markup]:
    """The parts of the page that change, by their places in it. The list of runs is apart: see `runs_rows`."""
    books = list(book.visible(tenant_id))
    spent = {
        one.tenant_id: spending(one.spend, book.policy, one.tenant_id, one.raised, now_ms)
        for one in books
        if one.spend.last_ms
    }
    given = given_in(books)
    opened = sorted((one for each in books for one in each.incidents.open.values() if _is_told(one)), key=rank)
    return {
        "figures": _figures(books, spent, opened, given, now_ms),
        "spend": _spend(spent),
        "incidents": _incidents(opened, of_several=len(books) > 1, in_hand=_in_hand(books)),
        "ended": _ended(books, now_ms),
        "stops": stops(given, book.forged(tenant_id), is_checked=book.checks_commands),
    }


def news(book: Book, tenant_id: str) -> dict[str, str]:
    """What is worth saying aloud when it is new, each by an id of its own."""
    said: dict[str, str] = {}
    for given in islice(given_in(list(book.visible(tenant_id))), MOST_STOPS):
        target = f"{kind_of(given.command.target)} {name(given.command.target.id, 60)}"
        said[given.command.command_id] = f"{WORDS[given.command.action].capitalize()} sent to {target}"
    for forged in book.forged(tenant_id)[:MOST_STOPS]:
        said[forged.record] = f"Forged, and obeyed by nobody: {about(forged)}"
    for one in book.visible(tenant_id):
        for incident in islice(reversed(one.incidents.open.values()), MOST_INCIDENTS):
            if _is_told(incident):
                said[incident.incident_id] = f"{incident.newest.severity}: {clean(incident.newest.summary, 200)}"
    return said


def _figures(
    books: list[TenantBook], spent: dict[str, Spending], opened: list[Incident], given: list[Given], now_ms: int
) -> Markup:
    today = [each for each in spent.values() if now_ms < each.periods[1].window.end_ms]
    last_ms = max((each.periods[1].window.start_ms for each in spent.values()), default=0)
    shown = today or [each for each in spent.values() if each.periods[1].window.start_ms == last_ms]
    day = sum(each.periods[1].spent for each in shown)
    month = sum(each.periods[2].spent for each in spent.values() if now_ms < each.periods[2].window.end_ms)
    live = sum(len(one.runs.live) for one in books)
    pages = sum(one.newest.severity in ("critical", "error") for one in opened)
    stopped = [one for one in given if one.command.action == "kill" and one.command.issued_ms > now_ms - DAY_MS]
    return join(
        [
            _figure(
                "Spent today" if today or not spent else "Spent on the last day",
                usd(day),
                f"{usd(month)} this month",
                "spend",
            ),
            _figure("Live runs", f"{live:,}", _nearest(books), "runs"),
            _figure(
                "Open incidents", f"{len(opened):,}", f"{pages:,} worth a page" if pages else "none pages", "incidents"
            ),
            _figure("Kills in 24 h", f"{len(stopped):,}", _fastest(stopped), "stops"),
        ]
    )


def _figure(label: str, value: str, more: Piece, place: str) -> Markup:
    """A figure that leads to what it sums up, further down."""
    return element(
        "div", element("dt", element("a", label, href=f"#{place}-section")), element("dd", value, class_="value"),
        element("dd", more, class_="more"),
    )  # fmt: skip


def _nearest(books: list[TenantBook]) -> str:
    shares = [run.nearest.share for one in books for run in one.runs.live.values() if run.nearest]
    near = sum(share >= 0.8 for share in shares)
    return f"{near:,} past 80% of a limit" if near else "none near a limit"


def _fastest(stopped: list[Given]) -> str:
    outcomes = [one.book.commands.outcome(one.command, one.run) for one in stopped]
    times = sorted(one.after_ms for one in outcomes if one is not None and one.after_ms is not None)
    return f"half stopped within {format_duration(times[len(times) // 2])}" if times else "nothing to stop"


def _spend(spent: dict[str, Spending]) -> Markup:
    if not spent:
        return empty(
            "No spend has been reported so far. It appears here within a second of an agent's first call: "
            "docs/connect says how to connect one."
        )
    ordered = sorted(spent.items(), key=lambda one: (not one[1].is_running, -one[1].periods[1].spent, one[0]))
    rows = [_tenant_row(tenant_id, each) for tenant_id, each in ordered[:MOST_TENANTS]]
    heads = [("Tenant", ""), ("This hour", ""), ("Today", ""), ("This month", ""), ("24 hours", "chart")]
    more = len(ordered) - MOST_TENANTS
    return join(
        [
            plain_table("Spend against limits, by tenant", heads, rows, "spend"),
            empty(f"{more:,} more tenants spend less") if more > 0 else "",
        ]
    )


def _tenant_row(tenant_id: str, each: Spending) -> Markup:
    most = "" if each.most_of_it is None else f"mostly {name(each.most_of_it[0], 30)}, {share_text(each.most_of_it[1])}"
    when = "" if each.is_running else join(["as of ", moment(each.at_ms)])
    sparks = columns_chart(each.hourly, f"The last 24 hours of {name(tenant_id, 40)}, at most {usd(max(each.hourly))}")
    return element(
        "tr",
        element(
            "th", shown_name(tenant_id), element("div", when, class_="asof") if when else "",
            element("div", element("bdi", most), class_="sub") if most and not when else "", scope="row",
        ),
        *(_period_cell(one, label) for one, label in zip(each.periods, ("Hour", "Day", "Month"), strict=True)),
        element("td", sparks, class_="chart"),
        data_key=key_of(tenant_id),
    )  # fmt: skip


def _period_cell(one: PeriodSpend, label: str) -> Markup:
    amount = element("span", usd(one.spent), class_="amount")
    leads = "" if one.leads_to is None else f"heading for {usd(one.leads_to)}"
    if one.limit is None or one.share is None:
        return element("td", lines(amount, element("span", leads, class_="sub") if leads else ""), data_label=label)
    if one.share >= 1:
        note: Piece = element("span", "over the limit", class_="over")
    elif one.reached_ms is not None:
        note = element("span", "reaches it ", moment(one.reached_ms), class_="near")
    else:
        note = element("span", leads, class_="sub")
    figures = join([amount, element("span", f" of {usd(one.limit)}", class_="sub")])
    return element("td", lines(figures, bar(one.share), note), data_label=label, class_=level(one.share))


def _is_told(incident: Incident) -> bool:
    return incident.newest.mode != "shadow"


def _in_hand(books: list[TenantBook]) -> set[str]:
    return {incident_id for one in books for incident_id in one.in_hand}


def _ended(books: list[TenantBook], now_ms: int) -> Markup:
    """What was wrong lately and is no more, the newest first."""
    found = [
        one
        for each in books
        for one in islice(reversed(each.incidents.ended.values()), MOST_ENDED)
        if _is_told(one) and one.newest.ts_ms > now_ms - LATELY_MS
    ]
    if not found:
        return join([])
    found.sort(key=lambda one: -one.newest.ts_ms)
    items = [_incident(one, of_several=len(books) > 1) for one in found[:MOST_ENDED]]
    return join([element("h3", "Ended lately"), element("ul", *items, class_="incidents ended")])


def _incidents(opened: list[Incident], *, of_several: bool, in_hand: set[str]) -> Markup:
    if not opened:
        return empty("No incident is open.")
    items = [
        _incident(one, of_several=of_several, in_hand=one.incident_id in in_hand) for one in opened[:MOST_INCIDENTS]
    ]
    more = len(opened) - MOST_INCIDENTS
    rest = empty(f"{more:,} more are open: python -m streams incidents") if more > 0 else ""
    return join([element("ul", *items, class_="incidents"), rest])


def _incident(one: Incident, *, of_several: bool, in_hand: bool = False) -> Markup:
    alert = one.newest
    whose = [shown_name(alert.tenant_id, 40)] if of_several else []
    whose += [element("span", name(alert.rule, 40)), since(one.since_ms if one.is_open else alert.ts_ms)]
    whose += [badge("in hand", "live")] if in_hand else []
    return element(
        "li",
        badge(alert.severity, alert.severity) if one.is_open else badge("ended", "quiet"),
        element(
            "div", link(incident_href(alert.tenant_id, one.incident_id), shown_text(alert.summary, 240)),
            element("div", *_dotted(whose), class_="sub"),
        ),
        data_key=key_of(one.incident_id),
    )  # fmt: skip


def _dotted(pieces: list[Markup]) -> Iterator[Piece]:
    for at, piece in enumerate(pieces):
        if at:
            yield " · "
        yield piece


def runs_rows(book: Book, tenant_id: str) -> Iterator[tuple[str, RunRecord, Command | None]]:
    """Every live run that may be seen, with what stands against it: its key in the page, and what it is."""
    for one in book.visible(tenant_id):
        active = one.commands.standing
        for run in one.runs.live.values():
            order = None
            if active:
                command = one.commands.given.get(run.order.command_id) if run.order else None
                order = command or one.commands.run_command(run.tenant_id, run.run_id)
            yield run.key, run, order


def row(run: RunRecord, command: Command | None) -> list[Any]:
    """A live run, as the page's script draws it: text as it is shown, and numbers to sort by."""
    nearest = run.nearest
    near = "" if nearest is None else f"{part_of(nearest.used, nearest.limit, nearest.unit)}, {name(nearest.rule, 40)}"
    whose = " · ".join(name(one, 30) for one in (run.workflow, run.owner) if one)
    action = command.action if command is not None and command.action in STOPS else run.order and run.order.action
    return [
        run_href(run.tenant_id, run.run_id),
        name(run.run_id, 60),
        name(run.tenant_id, 30),
        whose,
        name(run.model, 30) if run.model else "",
        usd(run.cost_nanousd),
        run.cost_nanousd,
        round(nearest.share, 4) if nearest else -1,
        near,
        WORDS.get(action or "", ""),
        run.calls,
    ]


def shape(found: dict[str, Markup]) -> Markup:
    """The page with its parts in their places."""
    return join(
        [
            element("h1", "Now", class_="unseen"),
            element("dl", found["figures"], id="figures", class_="figures"),
            _section("Spend", "spend", found, "Against limits, and where it leads"),
            element(
                "div",
                _section("Open incidents", "incidents", found, "", element("div", found["ended"], id="ended")),
                _section("Stopped", "stops", found, ""),
                class_="pair",
            ),
            _runs_section(),
        ]
    )


def _section(title: str, place: str, found: dict[str, Markup], note: str, *more: Markup) -> Markup:
    return element(
        "section",
        element("h2", title, element("span", f" {note}", class_="sub") if note else ""),
        element("div", found[place], id=place),
        *more,
        id=f"{place}-section", tabindex="-1",
    )  # fmt: skip


def _runs_section() -> Markup:
    """The list of live runs, which the page's script fills: only those rows are there that can be seen."""
    heads = (("Run", "what"), ("Whose", "whose-run"), ("Model", "model"), ("Calls", "number calls-n"),
             ("Cost", "number"), ("Nearest limit", "near-limit"))  # fmt: skip
    head = element("tr", *(element("th", label, scope="col", class_=kind) for label, kind in heads))
    return element(
        "section",
        element("h2", "Live runs", element("span", "", class_="sub", id="runs-count")),
        element(
            "div",
            element("label", "Find a live run", for_="find"),
            element("input", type="search", id="find", autocomplete="off", spellcheck="false",
                    placeholder="run, workflow, owner"),
            element(
                "fieldset", element("legend", "In order of", class_="unseen"),
                choice("order", "cost", "by cost", checked=True),
                choice("order", "near", "nearest to a limit", checked=False),
            ),
            class_="tools",
        ),
        element(
            "div",
            element("table", element("caption", "Live runs", class_="unseen"), element("thead", head),
                    element("tbody", id="runs"), class_="runs"),
            class_="scroll tall", id="runs-scroll", tabindex="0", role="region", aria_label="Live runs",
        ),
        element("noscript", "The list of live runs needs JavaScript."),
        id="runs-section", tabindex="-1",
    )  # fmt: skip
