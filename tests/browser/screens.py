"""Pictures of the live page for the documentation: `python -m tests.browser.screens` draws them anew.

It needs what `make browser-tests` sets up, and a real Kafka. Tenants and runs are made up, the page is not.
"""

import io
import sys
from pathlib import Path
from typing import Any, Final

from PIL import Image

from alerting.delivery.log import Delivery
from models.rules.policy import read_policy_toml
from schemas.alert import Alert
from schemas.duration import HOUR_MS, MINUTE_MS
from schemas.internal.spend import ALL_TENANTS
from schemas.rollup import Rollup
from schemas.run import NearestLimit
from schemas.usage import CommandAck, LlmCall, RunFinished, RunStarted, ToolCall
from streams.clock import wall_ms
from streams.kafka.client import Admin
from streams.kafka.topics import apply
from streams.settings import Settings
from tests.browser.conftest import HOME, find_chromium
from tests.support.console_process import ConsoleProcess, page_key
from tests.support.console_world import USD, WORKFLOWS, World, alert_of, kill_of, ordered, rollup_of, run_record
from tests.support.kafka import TopicSpace, delete_topics, fresh_prefix, start_kafka

OUT: Final = Path(__file__).parents[2] / "docs" / "screens"
POLICY: Final = """
version = "2026-11-28"
timezone = "Europe/Berlin"
[[budget]]
name = "tenant-hourly"
period = "hour"
limit_usd = 25.0
at_limit = "pause"
mode = "enforce"
overrides = { globex = 40.0 }
[[budget]]
name = "tenant-monthly"
period = "month"
limit_usd = 16000
[[cap]]
name = "run-cost"
limit_usd = 5.0
at_limit = "kill"
mode = "enforce"
[[repeat]]
name = "same-call-again"
mode = "enforce"
[[context_growth]]
name = "context-growth"
[[spend_anomaly]]
name = "hourly-5x"
"""
TENANTS: Final = {"acme": 9.0, "initech": 5.5, "globex": 3.6, "hooli": 0.6}
STUCK: Final = "acme-documentation-4711"
REASON: Final = "Tool search_docs was called 5 times in a row with the same arguments, each time with the same result"


def main() -> int:
    """Draw all pictures; returns the exit code."""
    program = find_chromium()
    if program is None or not (HOME / "lock").is_file():
        print("no Chromium, or no playwright: see `make browser-tests`", file=sys.stderr)
        return 2
    sys.path.append(str(HOME / "python"))
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - it is there only now

    kafka = start_kafka()
    topics = TopicSpace(kafka.bootstrap, fresh_prefix(), 4)
    apply(Admin(Settings(kafka_bootstrap=kafka.bootstrap)), topics.prefix, topics.partitions, replication=1)
    try:
        _furnish(topics)
        key = page_key(topics, ALL_TENANTS, "read", "operate")
        with ConsoleProcess(topics.bootstrap, topics.prefix) as console, sync_playwright() as playwright:
            console.wait_ready()
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            for suffix, options in _looks().items():
                _draw(browser.new_context(**options), console.url, key, suffix)
    finally:
        delete_topics(topics.bootstrap, topics.prefix)
        kafka.stop()
    return 0


def _looks() -> dict[str, Any]:
    desk = {"viewport": {"width": 1200, "height": 860}, "timezone_id": "UTC", "locale": "en-GB"}
    phone = {**desk, "viewport": {"width": 360, "height": 780}, "is_mobile": True}
    return {"": desk, "-dark": {**desk, "color_scheme": "dark"}, "-phone": phone}


def _draw(context: Any, url: str, key: str, suffix: str) -> None:
    page = context.new_page()
    page.goto(f"{url}/login")
    page.fill("#key", key)
    page.keyboard.press("Enter")
    page.locator("#runs a").first.wait_for()
    views = {
        "now": "/", "run": f"/run?tenant=acme&run={STUCK}", "incident": f"/incident?tenant=acme&incident=inc-{STUCK}",
        "policy": "/policy", "week": "/week",
    }  # fmt: skip
    for name, path in views.items():
        page.goto(f"{url}{path}")
        page.wait_for_timeout(6_000 if name == "week" else 1_500)
        if name == "policy":
            _try(page)
        is_whole = name in ("run", "incident") and suffix != "-phone"
        picture = Image.open(io.BytesIO(page.screenshot(full_page=is_whole)))
        small = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, 2, dither=Image.Dither.NONE)
        small.save(OUT / f"page-{name}{suffix}.png", optimize=True)
    context.close()


def _try(page: Any) -> None:
    page.fill("#policy", page.input_value("#policy").replace("limit_usd = 5.0", "limit_usd = 2.0"))
    page.get_by_role("button", name="Try it beside the one in force").click()
    page.locator("#trial table").first.wait_for(timeout=120_000)


def _furnish(topics: TopicSpace) -> None:
    world = World(topics.bootstrap, topics.prefix)
    world.policy(read_policy_toml(POLICY).to_json())
    world.rollups(*_hours(world))
    for tenant_id, weight in TENANTS.items():
        world.many_runs(int(30 * weight), tenant_id)
    _stuck(world)
    _near(world)
    kill = kill_of("initech-coding-agent-0037", "initech", issued_ms=wall_ms() - 41 * MINUTE_MS)
    world.commands(kill)
    world.alerts(_ended(kill.command_id))


def _hours(world: World) -> list[Rollup]:
    now_ms = wall_ms()
    hour_ms = now_ms // HOUR_MS * HOUR_MS
    part = (now_ms - hour_ms) / HOUR_MS
    found = []
    for tenant_id, weight in TENANTS.items():
        for back in range(27 * 24):
            for workflow in WORKFLOWS[:3]:
                cost = weight * world.random.uniform(0.3, 1.1) * (part if not back else 1)
                start_ms = hour_ms - back * HOUR_MS
                found.append(
                    rollup_of(
                        tenant_id, int(cost * USD), start_ms, workflow=workflow,
                        ts_ms=min(now_ms, start_ms + HOUR_MS), accepted=world.random.randrange(9),
                        calls=world.random.randrange(90, 200), runs_started=20, runs_finished=19,
                    )
                )  # fmt: skip
    return found


def _stuck(world: World) -> None:
    """A run that made a call over and over, with a helper that it started."""
    now_ms = wall_ms()
    began_ms = now_ms - 4 * MINUTE_MS
    common: dict[str, Any] = {"tenant_id": "acme", "run_id": STUCK, "workflow": "documentation", "owner": "docs-team"}
    messages: list[Any] = [RunStarted(event_id="s", ts_ms=began_ms, agent="writer", **common)]
    for number in range(9):
        at_ms = began_ms + 9_000 * number
        messages.append(
            LlmCall(event_id=f"m{number}", ts_ms=at_ms, model="gpt-5", input_tokens=9_000 + 6_100 * number,
                    output_tokens=200 + 31 * number, cost_nanousd=(110 + 62 * number) * 10**6, latency_ms=3_900,
                    prompt_hash=f"p{number}", **common)
        )  # fmt: skip
        if number == 2:
            helper = {**common, "run_id": f"{STUCK}-search", "parent_run_id": STUCK, "root_run_id": STUCK}
            messages.append(RunStarted(event_id="hs", ts_ms=at_ms + 3_000, agent="search", **helper))
            messages.append(
                LlmCall(event_id="hm", ts_ms=at_ms + 3_500, model="gpt-5-mini", input_tokens=2_100, output_tokens=90,
                        cost_nanousd=4_100_000, latency_ms=700, **helper)
            )  # fmt: skip
            messages.append(RunFinished(event_id="hf", ts_ms=at_ms + 4_400, status="completed", **helper))
        again = number >= 4
        messages.append(
            ToolCall(event_id=f"t{number}", ts_ms=at_ms + 4_200, tool="search_docs" if again else "read_file",
                     args_hash="again" if again else f"a{number}", result_hash="same" if again else f"r{number}",
                     latency_ms=310, **common)
        )  # fmt: skip
    cost = sum(one.cost_nanousd or 0 for one in messages if isinstance(one, LlmCall) and one.run_id == STUCK)
    kill = kill_of(STUCK, reason=f"{REASON}; $1.71 spent since the first", rule="same-call-again",
                   issued_ms=began_ms + 77_000, seq=1)  # fmt: skip
    messages.append(CommandAck(event_id="k", ts_ms=kill.issued_ms + 64, command_id=kill.command_id, acted="stopped",
                               **common))  # fmt: skip
    messages.append(RunFinished(event_id="f", ts_ms=kill.issued_ms + 70, status="killed", **common))
    world.usage(messages)
    near = NearestLimit(rule="run-cost", per="run", used=cost, limit=5 * USD, unit="nanousd")
    run = run_record(
        STUCK, cost_nanousd=cost, workflow="documentation", owner="docs-team", agent="writer", model="gpt-5",
        environment="production", prompt_version="v14", session_id="sess-19", started_ms=began_ms, calls=9,
        tool_calls=9, state="finished", status="killed", ended_ms=kill.issued_ms + 70, input_tokens=300_600,
        output_tokens=2_916, nearest=near,
    )  # fmt: skip
    world.runs(ordered(run, kill, kill.issued_ms + 64))
    world.commands(kill)
    first = alert_of(
        STUCK, rule="same-call-again", detector="repeat", value=3, limit=5, unit="calls", severity="warning", level=0.6,
        summary="Tool search_docs was called 3 times in a row with the same arguments and the same result",
        ts_ms=began_ms + 60_000, command=None, owner="docs-team", evidence={"since_ms": began_ms + 60_000},
        attribution={"workflow": "documentation", "environment": "production", "prompt_version": "v14"},
        next_action="Stop it if it still runs. If this tool only waits for something, list it under `pollers`.",
    )  # fmt: skip
    stopped = _with(first, alert_id="a2", state="escalated", severity="critical", level=1.0, value=5, summary=REASON,
                    ts_ms=kill.issued_ms, command="kill")  # fmt: skip
    evidence = {
        "since_ms": began_ms + 60_000, "command_id": kill.command_id, "cause_to_stop_ms": 64, "overshoot_nanousd": 0,
        "cost_nanousd": cost, "run_status": "killed", "action": "kill",
    }  # fmt: skip
    world.alerts(first, stopped, _with(stopped, alert_id="a3", state="resolved", ts_ms=kill.issued_ms + 64,
                                       evidence=evidence))  # fmt: skip
    world.deliveries(
        *(
            Delivery(alert=alert, receiver=receiver, status="sent", news="first", group=(), due_ms=0,
                     at_ms=alert.ts_ms + 400)
            for alert in (first, stopped)
            for receiver in (("team",) if alert is first else ("oncall", "team"))
        )
    )  # fmt: skip


def _near(world: World) -> None:
    """Incidents that are open."""
    now_ms = wall_ms()
    world.alerts(
        alert_of(None, alert_id="n1", incident_id="n1", tenant_id="acme", rule="tenant-hourly", detector="budget",
                 severity="warning", level=0.8, command=None, attribution={}, ts_ms=now_ms - 3 * MINUTE_MS,
                 summary="acme has spent $20.04 of its $25.00 budget this hour",
                 evidence={"since_ms": now_ms - 9 * MINUTE_MS}),
        alert_of(None, alert_id="n2", incident_id="n2", tenant_id="globex", rule="hourly-5x", detector="hourly_spend",
                 command=None, attribution={}, summary="globex has spent $14.20 this hour, 5.3 times the usual $2.68",
                 ts_ms=now_ms - 12 * MINUTE_MS, evidence={"since_ms": now_ms - 12 * MINUTE_MS}),
    )  # fmt: skip


def _ended(command_id: str) -> Alert:
    evidence = {"command_id": command_id, "cause_to_stop_ms": 91, "overshoot_nanousd": 12_000_000}
    return alert_of("initech-coding-agent-0037", "initech", state="resolved", evidence=evidence)


def _with(alert: Alert, **more: Any) -> Alert:
    return Alert(**{**{each: getattr(alert, each) for each in alert.__struct_fields__}, **more})


if __name__ == "__main__":
    sys.exit(main())
