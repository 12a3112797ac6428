"""What somebody sees who has just run `make demo`."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from infra.kafka.local import free_ports
from tests.support.kafka import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

ROOT = Path(__file__).parents[2]
MOST_S = 200
"""The demo replays a week; on a busy machine that takes its time."""


class Demo(NamedTuple):
    """A demo that has come to its end and still runs."""

    page: str
    key: str
    run: str
    """Where it says that a killed run is to be seen."""


@pytest.fixture
def demo(browser: "Browser", tmp_path: Path) -> Iterator[Demo]:
    """The demo as `make demo` starts it."""
    del browser  # without one there is nothing to look with
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SPENDFUSE_")}
    ours = {"SPENDFUSE_DEMO_FOLDER": str(tmp_path), "SPENDFUSE_CONSOLE_PORT": str(free_ports(1)[0])}
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.demo"], cwd=ROOT, env=inherited | ours, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    said: list[str] = []
    reading = threading.Thread(target=lambda: said.extend(process.stdout or ()), daemon=True)
    reading.start()
    try:
        wait_until(lambda: "Ctrl-C ends it." in "".join(said) or process.poll() is not None, MOST_S, "it is through")
        text = "".join(said)
        assert process.poll() is None, text[-3000:]
        page, run = re.findall(r"http://127\.0\.0\.1:\d+[^\s:]*", text)[:2]
        yield Demo(page, re.findall(r"sf_\S+", text)[0], run)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0, "".join(said)[-3000:]
        reading.join(10)


def test_the_demos_page_shows_its_three_incidents(demo: Demo, context: "BrowserContext") -> None:
    """With the address and the key that it prints: the loop, the budget and the unusual hour, what was stopped, and why
    the run was killed that it points to.
    """
    page = context.new_page()
    page.goto(f"{demo.page}/login")
    page.fill("#key", demo.key)
    page.keyboard.press("Enter")
    page.locator("#incidents").get_by_text(re.compile(r"globex has spent \$[\d.]+ this hour, [\d.]+ times")).wait_for()
    ended = page.locator("#ended")
    ended.get_by_text("Tool search_docs was called 5 times in a row").wait_for()
    ended.get_by_text(re.compile(r"acme has spent \$[\d.]+ of its \$10.00 budget this hour")).wait_for()
    assert page.locator("#stops tbody tr").count() == 3
    assert page.locator("#stops").get_by_text("forged").count() == 0
    page.goto(demo.run)
    page.get_by_role("heading", name="This run is killed.").wait_for()
    page.locator("#calls").get_by_text("5× the same").wait_for()
