"""The page of the policy, and trials of a changed one."""

from typing import Any

from aiohttp import web

from alerting.review.page.markup import Markup, element
from models.rules.policy import Policy, read_policy_toml
from models.rules.policy_findings import findings
from schemas.duration import DAY_MS
from schemas.errors import PolicyError
from schemas.internal.spend import ALL_TENANTS
from streams.clock import wall_ms
from streams.console.live import Streams
from streams.console.pages.visits import NOT_HERE, Visits, html, problem, text_form
from streams.console.sessions import Session
from streams.console.state.book import Book
from streams.console.trial.outcome import Asked
from streams.console.trial.trials import Trial, Trials
from streams.console.views import policy as view
from streams.console.views.frame import document
from streams.service_alert import known_rules

MOST_FAULTS = 20
TOO_MANY = "Other policies are being tried just now. Send it again in a minute."
PLACEHOLDER = "# The rules of a policy file, to be tried on your own runs: see docs/policy.md\n"


class Policies:
    """What is in force, and what another one would have come to."""

    def __init__(self, book: Book, trials: Trials, streams: Streams, visits: Visits) -> None:
        self._book, self._trials, self._streams, self._visits = book, trials, streams, visits

    def routes(self) -> list[web.AbstractRouteDef]:
        """The page, the form's answer, a trial and its changes."""
        return [
            self._visits.page("/policy", self._show, "policy"),
            self._visits.posted("/policy/trial", self._try, "policy trial"),
            self._visits.page("/policy/trial", self._trial, "policy trial"),
            self._visits.page("/live/policy", self._live, "policy trial, live"),
        ]

    async def _show(self, request: web.Request, session: Session) -> web.StreamResponse:
        del request
        return self._page(session)

    async def _try(self, request: web.Request, session: Session) -> web.StreamResponse:
        form = text_form(await request.post())
        text, days = form.get("policy", ""), _days(form.get("days", ""))
        try:
            proposed = read_policy_toml(text)
        except PolicyError as error:
            more = f"; and {len(error.faults) - MOST_FAULTS} more" if len(error.faults) > MOST_FAULTS else ""
            return self._page(session, text, days, fault="; ".join(error.faults[:MOST_FAULTS]) + more, status=422)
        with self._book.lock:
            in_force = self._book.policy
        now_ms = wall_ms()
        tenant_id = None if session.tenant_id == ALL_TENANTS else session.tenant_id
        asked = Asked(
            tenant_id=tenant_id, since_ms=now_ms - days * DAY_MS, until_ms=now_ms,
            in_force=in_force.to_json().decode(), proposed=text,
        )  # fmt: skip
        trial_id = self._trials.start(session.key.key_id, asked, days)
        if trial_id is None:
            return self._page(session, text, days, fault=TOO_MANY, notes=_notes(proposed), status=503)
        return web.HTTPSeeOther(f"/policy/trial?id={trial_id}")

    async def _trial(self, request: web.Request, session: Session) -> web.StreamResponse:
        trial_id = request.query.get("id", "")
        trial = self._trials.find(trial_id, session.key.key_id)
        if trial is None:
            return problem("Not found", NOT_HERE, 404, session, self._visits.form_token(session))
        return self._page(session, trial.asked.proposed, trial.days, trial=trial, live=f"/live/policy?id={trial_id}")

    async def _live(self, request: web.Request, session: Session) -> web.StreamResponse:
        trial = self._trials.find(request.query.get("id", ""), session.key.key_id)
        if trial is None:
            return web.Response(status=404)
        return await self._streams.serve(request, TrialLive(trial), lambda: self._visits.still_allowed(request))

    def _page(
        self, session: Session, text: str | None = None, days: int = view.DAYS[0], *, fault: str = "",
        notes: tuple[str, ...] = (), trial: Trial | None = None, live: str = "", status: int = 200,
    ) -> web.Response:  # fmt: skip
        with self._book.lock:
            policy, since_ms = self._book.policy, self._book.policy_since_ms
        sees_all = session.tenant_id == ALL_TENANTS
        if text is None:
            text = view.toml_of(policy) if sees_all and policy.source else PLACEHOLDER
        token = self._visits.form_token(session)
        found = [] if trial is None else [
            element("section", element("h2", "What it would have come to"),
                    element("div", *view.trial_parts(trial).values(), id="trial", aria_live="polite")),
        ]  # fmt: skip
        main = Markup(
            element("h1", "Policy")
            + "".join(found)
            + element("section", element("h2", "Try a changed one"),
                      view.form(text, days, token, fault=fault, notes=notes))
            + element("section", element("h2", "In force"),
                      element("div", view.in_force(policy, since_ms, session.tenant_id, sees_all=sees_all)))
        )  # fmt: skip
        return html(document("Policy", main, session, here="/policy", live=live, form=token), status)


class TrialLive:
    """The page of a trial."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    def version(self) -> object:
        """Rises as it goes on."""
        return self._trial.version

    def parts(self) -> dict[str, Markup]:
        """How far it is, or what it came to."""
        return view.trial_parts(self._trial)

    def rows(self) -> dict[str, Any] | None:
        """There are none."""
        return None

    def news(self) -> list[str]:
        """Its page says by itself what is new."""
        return []


def _days(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and int(text) in view.DAYS else view.DAYS[0]


def _notes(policy: Policy) -> tuple[str, ...]:
    """What in a policy is hardly meant."""
    return tuple(findings(policy, wall_ms(), known_rules(policy)))
