"""The live page in Chromium: from a command to its line on the page, and how 5,000 live runs scroll as they change."""

import sys
import threading
import time
from contextlib import suppress
from typing import Any

from schemas.internal.spend import ALL_TENANTS
from schemas.run import RunRecord
from streams.clock import wall_ms
from tests.bench.broker import bench_broker, broker_note, fresh_topics
from tests.bench.machine import ANY_CORE, cpu_seconds
from tests.bench.report import Part, percentile
from tests.browser.conftest import HOME, find_chromium
from tests.support.console_process import ConsoleProcess, page_key
from tests.support.console_world import World, kill_of, with_cost
from tests.support.kafka import TopicSpace

PARTITIONS = 4
RUNS = 5_000
CHANGES_PER_S = 1_000
KILLS = 200
SCROLL_S = 6
WATCH = """
() => {
  window.seen = {};
  const look = () => {
    for (const row of document.querySelectorAll("#stops tbody th bdi")) window.seen[row.textContent] ??= Date.now();
  };
  const all = {childList: true, subtree: true, characterData: true};
  new MutationObserver(look).observe(document.getElementById("stops"), all);
}
"""
SCROLL = """
(seconds) => new Promise((done) => {
  const box = document.getElementById("runs-scroll"), gaps = [], began = performance.now();
  let last = began;
  const step = (now) => {
    gaps.push(now - last);
    last = now;
    const part = (now - began) / (seconds * 1000);
    box.scrollTop = (box.scrollHeight - box.clientHeight) * (1 - Math.abs(1 - 2 * part));
    if (part < 1) requestAnimationFrame(step); else done(gaps.slice(1));
  };
  requestAnimationFrame(step);
})
"""


def measure(rounds: int) -> Part:
    """Kills given one by one while runs change, and frames while the list is scrolled to its end and back."""
    part = Part("console", "The live page, with 5,000 live runs of which 1,000 a second change")
    program = find_chromium()
    if program is None or not (HOME / "lock").is_file():
        part.notes.append("not measured: no Chromium, or no playwright; see `make browser-tests`")
        return part
    sys.path.append(str(HOME / "python"))
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - it is there only now

    shown: list[list[float]] = []
    frames: list[list[float]] = []
    used: list[float] = []
    with bench_broker(ANY_CORE) as bootstrap, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for _ in range(rounds):
            with fresh_topics(bootstrap, PARTITIONS) as prefix:
                found = _round(browser, TopicSpace(bootstrap, prefix, PARTITIONS))
            shown.append(found[0])
            frames.append(found[1])
            used.append(found[2])
        part.notes.append(broker_note(ANY_CORE, PARTITIONS))
    part.add("command to the page, p50", "ms", [percentile(one, 0.5) for one in shown])
    part.add("command to the page, p99", "ms", [percentile(one, 0.99) for one in shown])
    part.add("frame while scrolling, p50", "ms", [percentile(one, 0.5) for one in frames])
    part.add("frame while scrolling, p99", "ms", [percentile(one, 0.99) for one in frames])
    part.add("the console's share of a core", "%", used)
    part.notes.append(f"{KILLS} kills a round; the page is watched by a MutationObserver, on the same clock")
    return part


def _round(browser: Any, topics: TopicSpace) -> tuple[list[float], list[float], float]:
    world = World(topics.bootstrap, topics.prefix)
    runs = world.many_runs(RUNS)
    key = page_key(topics, ALL_TENANTS, "read")
    with ConsoleProcess(topics.bootstrap, topics.prefix) as console:
        console.wait_ready()
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{console.url}/login")
        page.fill("#key", key)
        page.keyboard.press("Enter")
        page.locator("#runs-count").get_by_text(f"{RUNS:,}").wait_for()
        page.evaluate(WATCH)
        end = threading.Event()
        changing = threading.Thread(target=_change, args=(topics, runs, end))
        changing.start()
        began_s, cpu_s = time.monotonic(), cpu_seconds(console.process.pid)
        try:
            given = _kill(world, page)
            gaps = page.evaluate(SCROLL, SCROLL_S)
        finally:
            end.set()
            changing.join()
        used = 100 * (cpu_seconds(console.process.pid) - cpu_s) / (time.monotonic() - began_s)
        page.close()
    return given, gaps, used


def _kill(world: World, page: Any) -> list[float]:
    """From each kill's time to its line on the page, in milliseconds."""
    waits: list[float] = []
    for number in range(KILLS):
        command = kill_of(f"killed-{number:04}")
        given_ms = wall_ms()
        world.commands(command)
        seen_ms = None
        while seen_ms is None and wall_ms() - given_ms < 10_000:
            page.wait_for_timeout(20)
            seen_ms = page.evaluate("(id) => window.seen[id]", command.target.id)
        waits.append((seen_ms or wall_ms()) - given_ms)
    return waits


def _change(topics: TopicSpace, runs: list[RunRecord], end: threading.Event) -> None:
    """Have runs go on, so many a second, until told to end."""
    world = World(topics.bootstrap, topics.prefix, seed=7)
    while not end.wait(0.1):
        changed = []
        for _ in range(CHANGES_PER_S // 10):
            place = world.random.randrange(len(runs))
            runs[place] = with_cost(runs[place], runs[place].cost_nanousd + world.random.randrange(10**8))
            changed.append(runs[place])
        with suppress(AssertionError):
            world.runs(*changed)
