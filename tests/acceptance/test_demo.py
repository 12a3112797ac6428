"""The demo, as a newcomer runs it."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.alerting_process import Listening
from tests.support.receivers import make_authority, pagerduty, slack

ROOT = Path(__file__).parents[2]
LAST_LINE = re.compile(
    r"demo: (\d+) events, (\d+) alerts, (\d+) kills, (\d+) acks, cause to stop p50 (\d+) p99 (\d+) ms"
)
LOOP = "initech / docs-agent: Tool search_docs was called 5 times in a row"
CAP = "acme / coding-agent: The run has cost $5.03 of its $5.00 cap"
SOON_OVER = {f"CRITICAL {LOOP}", f"CRITICAL {CAP}"}
"""The runs stop within milliseconds: where alerting is busy, only the end is told, which says it all."""
KEYS = {"SLACK_BOT_TOKEN": "xoxb-demo", "SLACK_CHANNEL": "#spend", "PAGERDUTY_ROUTING_KEY": "R0"}


def test_demo_stops_what_it_should_and_says_so(tmp_path: Path) -> None:
    """The demo ends by itself with exit code 0; its incidents fire, every kill is obeyed, people are
    told as they will be, the last line counts it all.
    """
    authority = make_authority(tmp_path)
    with Listening(slack()) as chat, Listening(pagerduty(tls=authority.server)) as pager:
        done = run_demo(
            tmp_path,
            SLACK_URL=f"{chat.url}/api/",
            PAGERDUTY_URL=pager.url,
            RECEIVERS_CA=str(tmp_path / "ca.pem"),
        )
    assert done.returncode == 0, done.stdout[-3000:]
    last = done.stdout.splitlines()[-1]
    counts = LAST_LINE.fullmatch(last)
    assert counts is not None, last
    events, alerts, kills, acks, p50_ms, p99_ms = map(int, counts.groups())
    assert events > 30_000
    assert alerts >= 10
    assert kills == acks == 3
    assert 0 < p50_ms <= p99_ms
    story = " ".join(done.stdout.split())
    parts = [
        "1 A loop: ",
        f"CRITICAL {LOOP}",
        "KILL run initech-docs-agent-0023 at 10:15:08, ordered by same-call-again",
        "STOPPED initech-docs-agent-0023, ",
        f"RESOLVED {LOOP}",
        "2 A budget: ",
        f"CRITICAL {CAP}",
        "KILL run acme-coding-agent-0037 at ",
        "STOPPED acme-coding-agent-0037, ",
        f"RESOLVED {CAP}",
        "CRITICAL acme has spent $10.03 of its $10.00 budget this hour",
        "3 An unusual hour: ",
        "CRITICAL globex has spent $2.20 this hour, 5.11 times the usual $0.43",
    ]
    parts = [part for part in parts if part in story or part not in SOON_OVER]
    places = [story.find(part) for part in parts]
    missing = [part for part, place in zip(parts, places, strict=True) if place < 0]
    assert not missing, f"{missing} in {done.stdout[-8000:]}"
    assert places == sorted(places), "causes before kills, chapter after chapter"
    assert max(map(len, done.stdout.splitlines())) <= 80
    measured = re.findall(r"STOPPED (\S+), (\S+ m?s) after the cause", story)
    assert len(measured) == 3
    for run, took in measured:
        assert f"within {took} and spent" in story, f"{run}: what is measured and what people are told agree"
    posted = [body for path, body in zip(chat.receiver.paths, chat.bodies, strict=True) if path.endswith("postMessage")]
    assert sum("thread_ts" not in body for body in posted) >= 6, "a message an incident"
    assert {body["event_action"] for body in pager.bodies} == {"trigger", "resolve"}


def run_demo(folder: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    """The demo with keys for Slack and PagerDuty in its environment, and nothing else but where those are."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SPENDFUSE_")}
    ours = {f"SPENDFUSE_{name}": value for name, value in {"DEMO_FOLDER": str(folder), **settings}.items()}
    return subprocess.run(
        [sys.executable, "-m", "infra.demo", "--once"],
        cwd=ROOT,
        env=inherited | KEYS | ours,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
