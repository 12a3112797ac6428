"""The live page in Chromium, against a real broker, worker, gateway and console."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from alerting.delivery.log import Delivery
from infra.kafka.local import LocalKafka
from models.rules.policy import read_policy_toml
from schemas.codec import encode
from schemas.duration import HOUR_MS
from schemas.internal.spend import ALL_TENANTS
from streams.clock import wall_ms
from streams.kafka.client import Admin
from streams.kafka.topics import apply
from streams.settings import Settings
from streams.tools.access_keys import run_revoke
from tests.support.console_process import ConsoleProcess, page_key
from tests.support.console_world import USD, World, alert_of, calls_of, kill_of, ordered, rollup_of, run_record
from tests.support.gateway_process import GatewayProcess
from tests.support.kafka import RealKafka, TopicSpace, delete_topics, fresh_prefix, wait_until
from tests.support.worker_process import WorkerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = pytest.mark.kafka

POLICY = """
version = "browser-1"
[[budget]]
name = "tenant-hourly"
period = "hour"
limit_usd = 25.0
[[cap]]
name = "run-cost"
limit_usd = 5.0
at_limit = "kill"
mode = "enforce"
[[repeat]]
name = "same-call-again"
mode = "enforce"
"""
MANY = 5_000
VIEWS = ("/", "/run?tenant=acme&run=acme-docs", "/incident?tenant=acme&incident=inc-acme-docs", "/policy", "/week",
         "/order/resume?tenant=acme&run=acme-docs")  # fmt: skip


class Stage:
    """A console over a world of topics, and keys for it."""

    def __init__(self, topics: TopicSpace, console: ConsoleProcess, world: World) -> None:
        self.topics, self.console, self.world = topics, console, world
        self.operator = page_key(topics, "acme", "read", "operate")
        self.everybody = page_key(topics, ALL_TENANTS, "read")

    def opened(self, context: "BrowserContext", path: str = "/", key: str | None = None) -> "Page":
        """A page, by somebody who has logged in."""
        page = context.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.goto(f"{self.console.url}{path}")
        if page.locator("#key").count():
            page.fill("#key", key or self.operator)
            page.keyboard.press("Enter")
            page.wait_for_url(f"{self.console.url}{path}")
        page.faults = faults
        return page


def topics_of(bootstrap: str) -> TopicSpace:
    """All topics under a prefix of their own."""
    topics = TopicSpace(bootstrap, fresh_prefix(), 4)
    apply(Admin(Settings(kafka_bootstrap=bootstrap)), topics.prefix, topics.partitions, replication=1)
    return topics


def furnished(topics: TopicSpace) -> World:
    """A world with something in every place of the page."""
    world = World(topics.bootstrap, topics.prefix)
    world.policy(read_policy_toml(POLICY).to_json())
    hour_ms = wall_ms() // HOUR_MS * HOUR_MS
    for back in range(30):
        for tenant_id, cost in (("acme", 21 * USD), ("globex", 4 * USD)):
            world.rollups(rollup_of(tenant_id, cost, hour_ms - back * HOUR_MS, ts_ms=wall_ms() - back * HOUR_MS))
    run, kill = run_record("acme-docs", cost_nanousd=5 * USD, session_id="s-1"), kill_of("acme-docs")
    world.usage(calls_of("acme-docs", 13))
    world.runs(ordered(run, kill, kill.issued_ms + 120))
    world.commands(kill)
    alert = alert_of("acme-docs")
    world.alerts(alert)
    world.deliveries(
        *(
            Delivery(alert=alert, receiver=receiver, status="sent", news="first", group=(), due_ms=0, at_ms=alert.ts_ms)
            for receiver in ("oncall-of-the-platform-team", "team")
        )
    )
    return world


@pytest.fixture(scope="module")
def stage(browser: "Browser", kafka: RealKafka) -> Iterator[Stage]:
    """One for the tests that write little."""
    del browser  # without one there is nothing to set up for
    topics = topics_of(kafka.bootstrap)
    world = furnished(topics)
    with ConsoleProcess(topics.bootstrap, topics.prefix) as console:
        console.wait_ready()
        yield Stage(topics, console, world)
        assert console.stop() == 0, console.tail()
    delete_topics(topics.bootstrap, topics.prefix)


def test_a_kill_shows_by_itself_and_its_run_explains_it(
    context: "BrowserContext", kafka: RealKafka, tmp_path: Path
) -> None:
    """An agent's calls go in at the gateway; the worker's kill appears on an open page without a reload, is said to
    those who listen, and leads to the run's page: every call with its cost, the repeated ones marked, and why. The
    order that lets it go on is given there, obeyed by the worker, and shown. Who opens the gateway's address in a
    browser comes to the page.
    """
    topics = topics_of(kafka.bootstrap)
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    key = page_key(topics, "acme", "ingest")
    with (
        WorkerProcess(topics.bootstrap, topics.prefix, policy) as worker,
        ConsoleProcess(topics.bootstrap, topics.prefix, POLICY=policy) as console,
        GatewayProcess(topics.bootstrap, topics.prefix, tmp_path / "spool", CONSOLE_URL=console.url) as gateway,
    ):
        console.wait_ready()
        gateway.wait_ready()
        page = Stage(topics, console, World(topics.bootstrap, topics.prefix)).opened(context)
        page.get_by_text("Nothing has been stopped.").wait_for()
        page.evaluate("window.here = true")
        calls = [json.loads(encode(one)) for one in calls_of("stuck", 5)]
        for call in calls:
            assert gateway.post("/v1/events", json.dumps(call).encode(), key)[0] == 200
        worker.wait_said("command")
        page.locator("#stops").get_by_text("stuck", exact=True).wait_for()
        assert page.evaluate("window.here"), "it was not loaded anew"
        page.locator("#said").get_by_text("stuck").wait_for(state="attached")
        page.locator("#stops").get_by_role("link", name="stuck").click()
        page.get_by_role("heading", name="This run is killed.").wait_for()
        page.get_by_text("5× the same").wait_for()
        assert "search_docs was called 5 times in a row" in page.inner_text("#why")
        assert page.locator("#calls tr.model").count() == 5
        page.get_by_role("link", name="Let it go on…").click()
        page.get_by_label("Why").fill("it was wanted")
        page.get_by_role("button", name="Let go on").click()
        page.get_by_role("link", name="Back, and see what becomes of it").click()
        page.get_by_role("heading", name="This run is not stopped any more: it may go on.").wait_for()
        assert "it was wanted" in page.inner_text("#why")
        assert not page.faults, page.faults
        page.goto(f"http://127.0.0.1:{gateway.gateway_port}/")
        page.locator("#stops").get_by_text("stuck", exact=True).wait_for()
    delete_topics(topics.bootstrap, topics.prefix)


def test_thousands_of_runs_are_a_list_of_which_few_are_drawn(stage: Stage, context: "BrowserContext") -> None:
    """5,000 live runs: some tens of rows are in the page wherever it is scrolled, each says its place, a run that
    changes is another within the page, and what is sought for is found.
    """
    stage.world.many_runs(MANY, "acme")
    page = stage.opened(context)
    page.locator("#runs-count").get_by_text(f"{MANY + 1:,}").wait_for()
    rows = page.locator("#runs tr:not(.spacer)")
    assert rows.count() < 80
    page.evaluate("const box = document.getElementById('runs-scroll'); box.scrollTop = box.scrollHeight")
    page.locator(f"#runs tr[aria-rowindex='{MANY + 2}']").wait_for()
    assert rows.count() < 80
    page.get_by_label("Find").fill("coding-agent-00007")
    stage.world.runs(run_record("acme-coding-agent-00007", cost_nanousd=123 * USD))
    page.locator("#runs").get_by_text("$123.00").wait_for()
    assert rows.count() == 1
    page.get_by_label("Find").fill("")
    page.locator("#runs tr[aria-rowindex='2']").get_by_text("$123.00").wait_for()
    page.get_by_label("nearest to a limit").check()
    page.locator("#runs tr[aria-rowindex='2'] .near-limit").wait_for()
    assert not page.faults, page.faults


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_stands_in_anybodys_way(stage: Stage, browser: "Browser", axe: str, scheme: Any) -> None:
    """Axe finds nothing serious or critical on any view, in light and in dark."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme, bypass_csp=True)
    for path in (*VIEWS, "/login"):
        page = stage.opened(context, path) if path != "/login" else context.new_page()
        if path == "/login":
            page.goto(f"{stage.console.url}/login")
        page.wait_for_timeout(700)  # until the first changes are in
        page.evaluate(axe)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        serious = [
            (one["id"], one["help"], [node["target"] for node in one["nodes"]][:5])
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
        ]
        assert not serious, (path, serious)
        page.close()
    context.close()


def test_the_page_is_read_by_keyboard(stage: Stage, context: "BrowserContext") -> None:
    """The first key leads past the navigation; every link and button is reached in order, and shows that it is; an
    order is given without a mouse.
    """
    page = stage.opened(context)
    page.locator("#runs a").first.wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the page"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    reached = []
    for _ in range(16):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim() || document.activeElement.id"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", [one[:60] for one in reached]
    assert "The run has cost $5.03 of its $5.00 cap" in reached
    assert "find" in reached
    assert page.evaluate("!!document.activeElement.closest('#runs')"), "the list of runs is reached as well"
    page.goto(f"{stage.console.url}/incident?tenant=acme&incident=inc-acme-docs")
    page.get_by_role("link", name="Take in hand…").focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Take this incident in hand").wait_for()
    assert page.evaluate("document.activeElement.id") == "why"
    page.keyboard.type("I look at it")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Ordered").wait_for()
    page.keyboard.press("Enter")
    page.locator("#orders").get_by_text("I look at it").wait_for()


def test_it_fits_a_phone(stage: Stage, browser: "Browser") -> None:
    """At a width of 360 no view is wider than the screen."""
    context = browser.new_context(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    for path in VIEWS:
        page = stage.opened(context, path)
        page.wait_for_timeout(500)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
        if path == "/policy":
            page.fill("#policy", f"{POLICY}[[context_growth]]\nname = 'context-that-has-grown-far'\n")
            page.get_by_role("button", name="Try it beside the one in force").click()
            page.locator("#trial table").first.wait_for(timeout=120_000)
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, "a trial's outcome"
        page.close()
    context.close()


def test_hostile_names_are_text_in_a_browser(stage: Stage, context: "BrowserContext") -> None:
    """No name of a run, workflow, owner or rule becomes markup, wherever it comes from: page, changes or rows."""
    page = stage.opened(context)
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    stage.world.runs(run_record(evil[:60], workflow=evil, owner=evil, model=evil, cost_nanousd=900 * USD))
    stage.world.alerts(alert_of(None, alert_id="evil", incident_id="inc-evil", rule=evil, summary=evil, owner=evil))
    page.locator("#runs").get_by_text("$900.00").wait_for()
    page.locator("#incidents").get_by_text("<script>").wait_for()
    page.locator("#incidents").get_by_text("<script>").click()
    page.get_by_role("heading", name=re.compile("<script>")).wait_for()
    assert not dialogs
    assert not page.locator("main img, main script").count()


def test_a_link_from_a_chat_leads_to_the_incident(stage: Stage, context: "BrowserContext") -> None:
    """Somebody who is logged in and follows a link from another site is at the incident, not at the login; somebody who
    is not logs in, and is there then.
    """
    path = "/incident?tenant=acme&incident=inc-acme-docs"
    chat = f'<a href="{stage.console.url}{path.replace("&", "&amp;")}">Open on the live page</a>'
    context.route("http://chat.example/", lambda route: route.fulfill(body=chat, content_type="text/html"))
    page = context.new_page()
    page.goto("http://chat.example/")
    page.get_by_role("link").click()
    page.fill("#key", stage.operator)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="The run has cost $5.03 of its $5.00 cap").wait_for()
    page.goto("http://chat.example/")
    page.get_by_role("link").click()
    page.get_by_role("heading", name="The run has cost $5.03 of its $5.00 cap").wait_for()
    assert page.url == f"{stage.console.url}{path}"


def test_a_revoked_key_leaves_the_page(stage: Stage, context: "BrowserContext") -> None:
    """An open page goes back to the login within seconds, and shows nothing any more."""
    key = page_key(stage.topics, "acme", "read")
    page = stage.opened(context, "/", key)
    page.locator("#live").get_by_text("live", exact=True).wait_for()
    assert run_revoke(Settings(kafka_bootstrap=stage.topics.bootstrap, prefix=stage.topics.prefix,
                               operator_name="ana"), key) == 0  # fmt: skip
    page.wait_for_url(re.compile("/login"))


def test_neither_the_key_nor_others_are_in_anything_the_browser_gets(stage: Stage, context: "BrowserContext") -> None:
    """Every answer that the browser gets over all views, and what it stores, holds neither the key nor another tenant's
    name.
    """
    bodies: list[tuple[str, str]] = []
    page = context.new_page()
    page.on("response", lambda answer: bodies.append((answer.url, _text(answer))))
    page.goto(f"{stage.console.url}/login")
    page.fill("#key", stage.operator)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{stage.console.url}/")
    for path in VIEWS:
        page.goto(f"{stage.console.url}{path}")
        page.wait_for_timeout(400)
        bodies.append((path, page.content()))
    secret = stage.operator.rsplit("_", 1)[1]
    stored = page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])")
    assert secret not in stored
    assert "spendfuse_session" not in stored, "no script reads the cookie"
    assert len(bodies) > 10
    for where, text in bodies:
        assert secret not in text, where
        assert "globex" not in text, where


def _text(answer: Any) -> str:
    if "event-stream" in answer.headers.get("content-type", "") or answer.status in (204, 303):
        return ""
    try:
        return str(answer.text())
    except Exception:  # it was left before it came
        return ""


def test_it_says_that_it_is_not_live_and_goes_on_by_itself(context: "BrowserContext", own_kafka: LocalKafka) -> None:
    """While the console is away, and while no broker answers, the page says since when; then it goes on without being
    loaded anew, and without another login.
    """
    topics = topics_of(own_kafka.bootstrap)
    world = furnished(topics)
    with ConsoleProcess(topics.bootstrap, topics.prefix) as console:
        console.wait_ready()
        stage = Stage(topics, console, world)
        page = stage.opened(context)
        page.evaluate("window.here = true")
        page.locator("#live").get_by_text("live", exact=True).wait_for()
        console.stop()
        page.get_by_text("the console does not answer").wait_for()
        with ConsoleProcess(topics.bootstrap, topics.prefix, port=console.console_port) as again:
            again.wait_ready()
            page.locator("#live").get_by_text("live", exact=True).wait_for()
            world.runs(run_record("after-console", cost_nanousd=77 * USD))
            page.locator("#runs").get_by_text("after-console").wait_for()
            own_kafka.kill()
            page.get_by_text("no broker answers").wait_for()
            own_kafka.restart()
            wait_until(lambda: page.inner_text("#live") == "live", 60, "it is live again")
            world.runs(run_record("after-broker", cost_nanousd=78 * USD))
            page.locator("#runs").get_by_text("after-broker").wait_for()
            assert page.evaluate("window.here"), "it was never loaded anew"
