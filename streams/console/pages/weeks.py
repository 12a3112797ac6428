"""The page of the week: the weekly review, as it is sent, in a frame of its own."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from aiohttp import web

from alerting.review.page.markup import element
from alerting.review.week import Week, week_before, week_named, week_of
from models.rules.policy import Policy
from schemas.duration import MINUTE_MS
from schemas.errors import SpendfuseError
from schemas.internal.spend import ALL_TENANTS
from streams.clock import monotonic_ms, wall_ms
from streams.console.pages.visits import HEADERS, Visits, html, problem
from streams.console.sessions import Session
from streams.console.state.book import Book
from streams.console.views.frame import document
from streams.settings import Settings

KEEP_MS: Final = MINUTE_MS
MOST_KEPT: Final = 20
WEEKS_SHOWN: Final = 5
FRAME_HEADERS: Final = {
    **HEADERS,
    # The review is one file with its style in it. It has no script, and is shown here alone.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; "
        "sandbox"
    ),
    "X-Frame-Options": "SAMEORIGIN",
}


class Weeks:
    """The review of a week, for whoever reads: their own tenant's, or everybody's."""

    def __init__(self, settings: Settings, book: Book, visits: Visits) -> None:
        self._settings, self._book, self._visits = settings, book, visits
        self._made: dict[tuple[str, str], tuple[int, str]] = {}
        """Tenant and week -> when it was made, and the page."""
        self._making = asyncio.Lock()

    def routes(self) -> list[web.AbstractRouteDef]:
        """The page, and the review in it."""
        return [
            self._visits.page("/week", self._show, "week"),
            self._visits.page("/week/review", self._review, "week, review"),
        ]

    async def _show(self, request: web.Request, session: Session) -> web.StreamResponse:
        weeks = self._weeks()
        chosen = chosen_week(weeks, request.query.get("week"), wall_ms()).label
        links = [
            element("a", name_of(place, week), href=f"/week?week={week.label}", class_="button plain",
                    aria_current="page" if week.label == chosen else None)
            for place, week in enumerate(weeks)
        ]  # fmt: skip
        review = f"/week/review?week={chosen}"
        main = element(
            "div",
            element("h1", "Week", class_="unseen"),
            element("nav", *links, aria_label="Weeks", class_="weeks"),
            element("iframe", title=f"Review of week {chosen}", src=review),
            element("p", element("a", "The review alone, to print or to keep", href=review), class_="note"),
        )
        form = self._visits.form_token(session)
        return html(document("Week", main, session, here="/week", form=form))

    async def _review(self, request: web.Request, session: Session) -> web.StreamResponse:
        label = request.query.get("week", "")
        if label not in {week.label for week in self._weeks()}:
            return problem("Not found", "There is no review of such a week here.", 404, None)
        key = (session.tenant_id, label)
        async with self._making:  # one at a time: drawing takes a second of a core
            made = self._made.get(key)
            if made is None or monotonic_ms() - made[0] > KEEP_MS:
                try:
                    text = await asyncio.to_thread(self._make, *key)
                except SpendfuseError as error:
                    return web.Response(text=f"No review: {error}", status=503, headers=FRAME_HEADERS)
                made = self._made[key] = (monotonic_ms(), text)
                while len(self._made) > MOST_KEPT:
                    del self._made[next(iter(self._made))]
        response = html(made[1])
        response.headers.update(FRAME_HEADERS)
        return response

    def _make(self, tenant_id: str, label: str) -> str:
        from alerting.review.page.page import page  # noqa: PLC0415 - what draws takes a second to load
        from streams.tools.weekly import read_review  # noqa: PLC0415

        policy = self._policy()
        whose = None if tenant_id == ALL_TENANTS else tenant_id
        return page(read_review(self._settings, week_named(label, policy.header.timezone), policy, tenant_id=whose))

    def _weeks(self) -> list[Week]:
        """The running week and those before it, the newest first."""
        weeks = [week_of(self._policy().header.timezone, wall_ms())]
        while len(weeks) < WEEKS_SHOWN:
            weeks.append(week_before(weeks[-1]))
        return weeks

    def _policy(self) -> Policy:
        with self._book.lock:
            return self._book.policy


def chosen_week(weeks: Sequence[Week], label: str | None, now_ms: int) -> Week:
    """The week that was asked for; else the running one, but on a Monday, when there is nothing in it, the last."""
    found = next((week for week in weeks if week.label == label), None)
    return found or weeks[1 if weeks[0].day_of(now_ms) == 0 else 0]


def name_of(place: int, week: Week) -> str:
    """What a week is called that lies so many weeks back."""
    if place < 2:
        return ("This week", "Last week")[place]
    zone = ZoneInfo(week.timezone)
    first, last = (datetime.fromtimestamp(at_ms / 1000, zone) for at_ms in (week.start_ms, week.end_ms - 1))
    begin = f"{first.day}" if first.month == last.month else f"{first.day} {first:%b}"
    return f"{begin} – {last.day} {last:%b}"
