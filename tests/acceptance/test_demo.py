"""The demo, as a newcomer runs it."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LAST_LINE = re.compile(
    r"demo: (\d+) events, (\d+) alerts, (\d+) kills, (\d+) acks, cause to stop p50 (\d+) ms p99 (\d+) ms"
)


def test_demo_stops_what_it_should_and_says_so(tmp_path: Path) -> None:
    """The demo ends by itself with exit code 0; its incidents fire, every kill is obeyed, the last line counts them."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SPENDFUSE_")}
    environment["SPENDFUSE_DEMO_FOLDER"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "infra.demo", "--once"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
        check=False,
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
    for promised in (
        "KILL      run initech-docs-agent-0023, ordered by same-call-again",
        "100 % of its $10.00 budget",
        "of its median active hour in the last 7 days",
        "STOPPED   initech-docs-agent-0023 acknowledged",
    ):
        assert promised in done.stdout
