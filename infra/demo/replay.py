"""The demo: a broker, a worker, alerting, the live page, agents that obey, and a week of real usage with three
incidents in it.

With `SPENDFUSE_KAFKA_BOOTSTRAP` set it runs on that cluster, else on the embedded broker, which enforces no
transactions and forgets everything at its end.
"""

import argparse
import contextlib
import gzip
import io
import secrets
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from spendfuse import Emitter, Guard, derive_keys
from spendfuse.kafka import KafkaControl, KafkaTransport

from infra.demo.agents import Agents, Event, overshoot_nanousd
from infra.demo.processes import (
    PARTITIONS,
    DemoService,
    Keys,
    check_folder,
    start_alerting,
    start_broker,
    start_console,
    start_worker,
)
from infra.demo.screen import Screen, Story, read_messages
from infra.kafka.embedded import EmbeddedBrokerError
from schemas.alert import Alert
from schemas.codec import decode_alert, decode_command
from schemas.control import Command
from schemas.duration import DAY_MS, HOUR_MS
from schemas.errors import SpendfuseError
from schemas.signing import is_key_check

HERE = Path(__file__).parent
HISTORY_PER_S = 12_000
"""Events a second while the week before today is replayed: the embedded broker keeps 5 MiB a partition."""
TODAY_S = 20.0
"""How long today takes."""
WAIT_S = 60.0
NOTHING = "demo: nothing was stopped; see the logs in out/"
STOP_S = 3.0
"""How long the replay waits for a run to be stopped, at the call that is one too many."""


class Chapter(NamedTuple):
    """A part of today: its heading, whom it is about, and the hour of the day at which it ends."""

    title: str
    tenant_id: str
    until_hour: int


CHAPTERS = (
    Chapter("1  A loop: the docs agent of initech makes one call over and over", "initech", 11),
    Chapter("2  A budget: acme nears its limit for the hour, two runs go too far", "acme", 16),
    Chapter("3  An unusual hour: globex spends five times what is usual for it", "globex", 24),
)


class Log(NamedTuple):
    """The demo's usage log, moved in time so that it ends before now."""

    events: list[Event]
    today_ms: int
    stops: Mapping[str, str]
    """Run -> the call after which it is to be stopped."""


class Watcher:
    """Reads alerts, and commands, which it tells as they come."""

    def __init__(self, bootstrap: str, prefix: str, story: Story, from_ms: int) -> None:
        self._story = story
        self._from_ms = from_ms
        self._stop = threading.Event()
        self.alerts: list[Alert] = []
        self.seen = 0
        """Alerts of whatever state."""
        self.today = 0
        """Alerts of today, which people are told."""
        self.kills: dict[str, Command] = {}
        self.tenants: dict[str, str] = {}
        """Incident -> whose it is."""
        self._topics = {f"{prefix}alerts.v1": self._alert, f"{prefix}control.v1": self._command}
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"{prefix}demo-watcher",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 10,
                "log_level": 0,
            }
        )
        self._consumer.assign(
            [TopicPartition(topic, number, OFFSET_BEGINNING) for topic in self._topics for number in range(PARTITIONS)]
        )
        self._thread = threading.Thread(target=self._follow, name="watcher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        self._thread.join(5)
        self._consumer.close()

    def _follow(self) -> None:
        while not self._stop.is_set():
            for message in self._consumer.consume(500, 0.05):
                value, topic = message.value(), message.topic()
                if message.error() is not None or value is None or is_key_check(message.key()):
                    continue
                if topic is not None:
                    self._topics[topic](value)

    def _alert(self, value: bytes) -> None:
        alert = decode_alert(value)
        self.tenants[alert.incident_id] = alert.tenant_id
        if alert.state in ("open", "escalated"):
            self.alerts.append(alert)
        self.today += alert.ts_ms >= self._from_ms
        self.seen += 1

    def _command(self, value: bytes) -> None:
        command = decode_command(value)
        # A kill that is known is written once more, for those who have not heard it.
        if command.action == "kill" and command.command_id not in self.kills:
            self.kills[command.command_id] = command
            self._story.kill(command)


class Reader:
    """Reads what alerting prints."""

    def __init__(self, alerting: DemoService, story: Story, watcher: Watcher) -> None:
        self._alerting = alerting
        self._story = story
        self._watcher = watcher
        threading.Thread(target=self._read, name="reader", daemon=True).start()

    def _read(self) -> None:
        printed = self._alerting.process.stdout
        assert printed is not None, "it was started with a pipe"
        for message in read_messages(io.TextIOWrapper(printed, encoding="utf-8", errors="replace")):
            self._story.message(message, self._watcher.tenants.get(message.incident_id))

    def has_all(self) -> bool:
        """Whether everything that was printed has been read."""
        return self._story.messages >= self._alerting.sent("console")


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.demo", description="the demo")
    parser.add_argument("--once", action="store_true", help="end after the replay")
    options = parser.parse_args(arguments)
    return _demo(Screen(), once=options.once)


def _demo(screen: Screen, *, once: bool) -> int:
    """Start, run and end everything, in order also where somebody interrupts it; returns the exit code."""
    with _interruptible() as ignore_from_now_on, ExitStack() as stack:
        try:
            result = _run(stack, screen, once=once)
        except EmbeddedBrokerError as error:
            raise SpendfuseError(str(error)) from None
        except KeyboardInterrupt:
            _say_that_it_ends(screen)
            raise
        finally:
            ignore_from_now_on()  # it is ending
    if once:
        screen.line(result or NOTHING)
    return 0 if result else 1


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """SIGTERM interrupts as Ctrl-C does, so that the processes that were started end as well. Yields what has both
    ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: _handle(dict.fromkeys(before, signal.SIG_IGN))
    finally:
        _handle(before)


def _handle(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _run(stack: ExitStack, screen: Screen, *, once: bool) -> str | None:
    """The demo from start to end. Returns what it comes to in one line, None if nothing was stopped."""
    check_folder()
    bootstrap, prefix = start_broker(stack, screen)
    keys = Keys(engine=secrets.token_hex(16), operator=secrets.token_hex(16))
    worker = start_worker(stack, bootstrap, prefix, keys)
    page = "" if once else start_console(stack, bootstrap, prefix, keys, screen)
    screen.progress("log", "unpacking a week of usage")
    log, story = _load(), Story(screen)
    watcher = Watcher(bootstrap, prefix, story, log.today_ms)
    stack.callback(watcher.close)
    agents, emitter = _agents(stack, screen, bootstrap, prefix, keys)
    history = [event for event in log.events if event["ts_ms"] < log.today_ms]
    agents.now_ms = log.events[0]["ts_ms"]
    _replay(agents, history, HISTORY_PER_S, {}, lambda number: _show_progress(screen, number, len(history)))
    _drain(emitter, worker, agents)
    screen.step("history", f"{len(history):,} events of a week, so that it knows what is normal")
    alerting = start_alerting(stack, bootstrap, prefix, keys, screen, page)
    reader = Reader(alerting, story, watcher)
    screen.progress("alerting", "starting")
    _settle(alerting.is_healthy)
    today = log.events[len(history) :]
    for chapter in CHAPTERS:
        story.chapter(chapter.title, chapter.tenant_id)
        ends_ms = log.today_ms + chapter.until_hour * HOUR_MS
        part, today = (
            [one for one in today if one["ts_ms"] < ends_ms],
            [one for one in today if one["ts_ms"] >= ends_ms],
        )
        per_s = (len(log.events) - len(history)) / TODAY_S
        _replay(agents, part, per_s, log.stops, lambda _: _tell_stops(story, agents, watcher))
        _drain(emitter, worker, agents)
        _settle(lambda: watcher.seen >= worker.metric("spendfuse_alerts_total"))
        _settle(lambda: all(command_id in agents.stops for command_id in watcher.kills))
        _settle(lambda: _is_told(alerting, watcher) and reader.has_all())
        _tell_stops(story, agents, watcher)
        story.end_chapter()
    _close(screen, story, agents)
    result = _result(agents, watcher)
    if not once:
        screen.line(result or NOTHING)
        _stay(screen, page, bootstrap, prefix, keys, watcher)
    return result


def _agents(stack: ExitStack, screen: Screen, bootstrap: str, prefix: str, keys: Keys) -> tuple[Agents, Emitter]:
    """The agents, their guard listening."""
    screen.progress("agents", "connecting")
    quiet = {"log_level": 0}  # the embedded broker goes away under its clients at the end
    agents: Agents

    def clock() -> int:
        return agents.clock_ms()  # the agents live in the log's time

    emitter = Emitter(KafkaTransport(bootstrap, prefix=prefix, config=quiet), max_buffered=50_000, clock_ms=clock)
    stack.callback(emitter.close)
    guard = Guard(
        KafkaControl(bootstrap, prefix=prefix, config=quiet),
        emitter,
        when_blind="continue",
        keys=lambda tenant_id: derive_keys(keys.engine.encode(), tenant_id),
        clock_ms=clock,
    )
    stack.callback(guard.close)
    agents = Agents(emitter, guard)
    if not guard.wait_ready(WAIT_S):
        raise SpendfuseError(f"the guard could not read the control topic: {guard.waiting_for}")
    return agents, emitter


def _load() -> Log:
    """The log, moved by whole days so that it ends before now."""
    incidents = orjson.loads((HERE / "incidents.json").read_bytes())
    shift_ms = (time.time_ns() // 1_000_000 - incidents["end_ms"]) // DAY_MS * DAY_MS
    with gzip.open(HERE / "usage.jsonl.gz") as lines:
        events: list[Event] = [orjson.loads(line) for line in lines]
    for event in events:
        event["ts_ms"] += shift_ms
        if "started_ms" in event:
            event["started_ms"] += shift_ms
    return Log(events, incidents["today_start_ms"] + shift_ms, incidents["stops"])


def _replay(
    agents: Agents, events: list[Event], per_s: float, stops: Mapping[str, str], after: Callable[[int], None]
) -> None:
    """Have the runs make their calls, at a steady pace. A day in seconds leaves no time between two calls of a run: so
    where a run is to be stopped, the log waits for that.
    """
    started_s = time.perf_counter()
    for number, event in enumerate(events):
        if number % 20 == 0 or per_s < 1000:
            ahead_s = number / per_s - (time.perf_counter() - started_s)
            if ahead_s > 0:
                time.sleep(ahead_s)
        agents.report(event)
        if stops.get(event["run_id"]) == event["event_id"]:
            agents.wait_stopped(event["run_id"], STOP_S)
        if number % 20 == 0:
            after(number)


def _show_progress(screen: Screen, number: int, total: int) -> None:
    if number % 1_000 == 0:
        screen.progress("history", f"{number:,} of {total:,} events")


def _drain(emitter: Emitter, worker: DemoService, agents: Agents) -> None:
    """Wait until the worker has counted everything that was sent."""
    unsent = emitter.flush(WAIT_S)
    if unsent:
        raise SpendfuseError(f"{unsent} events could not be sent")
    _settle(lambda: worker.metric("spendfuse_events_total") >= agents.sent)


def _settle(done: Callable[[], bool]) -> None:
    deadline_s = time.perf_counter() + WAIT_S
    while not done():
        if time.perf_counter() > deadline_s:
            raise SpendfuseError("the worker does not keep up; see the logs in out/")
        time.sleep(0.05)


def _is_told(alerting: DemoService, watcher: Watcher) -> bool:
    """Whether alerting has sent what was due of today's alerts so far.

    What it says of its backlog is as of its last look, which may have been before it read the latest of them.
    """
    return alerting.metric("spendfuse_alerting_settled_alerts") >= watcher.today


def _tell_stops(story: Story, agents: Agents, watcher: Watcher) -> None:
    """Tell of every run that stopped since the last call."""
    for command_id, stop in list(agents.stops.items()):
        command = watcher.kills.get(command_id)
        if command is not None and not stop.told:
            stop.told = True
            story.stop(command_id, stop.run.run_id, _cause_to_stop_ms(agents, command), _overshoot(agents, command))


def _cause_to_stop_ms(agents: Agents, command: Command) -> int:
    return int((agents.stops[command.command_id].at_s - agents.sent_at_s[command.cause_event_id or ""]) * 1000)


def _overshoot(agents: Agents, command: Command) -> int:
    return overshoot_nanousd(agents.stops[command.command_id].run, command.cause_event_id or "")


def _result(agents: Agents, watcher: Watcher) -> str | None:
    times_ms = sorted(_cause_to_stop_ms(agents, watcher.kills[command_id]) for command_id in agents.stops)
    if not times_ms:
        return None
    p50, p99 = statistics.median(times_ms), times_ms[-1]
    counts = f"{len(watcher.alerts)} alerts, {len(watcher.kills)} kills, {len(agents.stops)} acks"
    return f"demo: {agents.sent} events, {counts}, cause to stop p50 {p50:.0f} p99 {p99} ms"


def _close(screen: Screen, story: Story, agents: Agents) -> None:
    """What else there is to say."""
    screen.line()
    for message in story.asides():
        if message.word != "RESOLVED":
            screen.step("besides", f"{message.word.lower()}: {message.headline}")
    screen.line(f"{agents.unspoken} calls were never made, because their runs had been stopped")


def _stay(screen: Screen, page: str, bootstrap: str, prefix: str, keys: Keys, watcher: Watcher) -> None:
    settings = {"KAFKA_BOOTSTRAP": bootstrap, "PREFIX": prefix, "OPERATOR_KEY": keys.operator}
    tool, week = ".venv/bin/python -m streams", time.strftime("%G-W%V", time.gmtime())
    first = next(iter(watcher.kills.values()), None)
    killed = first.target.id if first else "RUN"
    screen.title("Still running: look at the page, or try in another terminal")
    if first:
        screen.line(f"  {page}/run?tenant={first.tenant_id}&run={killed}")
    for name, value in settings.items():
        screen.line(f"  export SPENDFUSE_{name}={value}")
    screen.line(f"  {tool} why {killed}")
    screen.line(f"  {tool} incidents")
    screen.line(f"  {tool} resume run acme-coding-agent-0037 --tenant acme --why demo")
    screen.line(f"  {tool} report weekly --week {week} --html out/review.html")
    screen.line("Ctrl-C ends it.")
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
    _say_that_it_ends(screen)


def _say_that_it_ends(screen: Screen) -> None:
    screen.line()
    screen.step("ending", "what was started, in a few seconds")
