"""Notices to send in tests: one budget incident, changed as a test needs it."""

from typing import Any

import msgspec

from alerting.notice import Notice, Receipt
from schemas.alert import Alert

HOSTILE = {
    "mention": "<!channel> <@U123> <#C123> @here",
    "markup": "*bold* _it_ ~no~ `code` > quote & <https://evil.example|click> :fire: [a](b) <b>html</b>",
    "long": "x" * 10_000,
    "long of entities": "<&>" * 4_000,
    "right to left": "\u202egnp.exe \u2067abc\u2069 \u200f\u061c",
    "zero width": "a\u200bb\u200dc\ufeffd\u2060e\u00adf\u3164g\u2800h",
    "control": "a\x1b[2J\x07\x00b\rc\nINFO forged line\td\x9b31m\u2028e\u0085f",
    "marks": "Z" + "\u0336\u0301\u0489" * 200,
    "selectors": "run\ufe0f\ufe01\U000e0101\u180b-7",
    "tags": "run\U000e0041\U000e0042-7",
    "emoji codes": ":rotating_light: :white_check_mark: resolved :+1:",
    "entities": "&lt;!channel&gt; &amp;lt; &#60;!here&#62; &quot;",
    "json": '","run_id":"other"}],"blocks":[{"type":"divider"}] \\u0022 \\n',
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "lines": "a\n" * 300 + "CRITICAL  forged\r\nINFO forged",
    "backticks": "```code``` `x` ''",
    "half a pair": "a\ud800b",
    "blank": " \u00a0\u3000 ",
    "nothing": "",
    "format": "{0} %s {tenant_id} ${HOME}",
}


def alert(**changes: Any) -> Alert:
    """A daily budget at 80 %, with every field filled."""
    base = Alert(
        alert_id="a1",
        incident_id="4f2d9c01aa",
        state="open",
        severity="critical",
        mode="enforce",
        rule="daily-budget",
        detector="budget",
        tenant_id="acme",
        scope={"tenant_id": "acme", "team": "search"},
        run_id="run-7",
        owner="alice",
        level=0.8,
        window_start_ms=1_767_225_600_000,
        window_end_ms=1_767_312_000_000,
        value=41_000_000_000,
        limit=50_000_000_000,
        baseline=12_000_000_000,
        ratio=3.4,
        unit="nanousd",
        evidence={
            "top_runs": [{"run_id": "run-7", "cost_nanousd": 30_000_000_000}],
            "forecast_limit_reached_ms": 1_767_290_000_000,
            "period": "day",
        },
        summary="team search has spent 80 % of its daily budget",
        next_action="Look at the top runs; raise the budget if this was meant.",
        ts_ms=1_767_280_000_000,
        cause_event_id="e1",
        policy_version="p1",
        attribution={"workflow": "search-agent", "environment": "prod"},
    )
    return msgspec.structs.replace(base, **changes)


def notice(first: Receipt | None = None, *, maybe_repeated: bool = False, **changes: Any) -> Notice:
    """The incident of `alert(**changes)`, told alone."""
    return Notice("incident", (alert(**changes),), first=first, maybe_repeated=maybe_repeated)
