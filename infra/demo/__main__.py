"""`make demo`: a broker, a worker, alerting, agents that obey, and a week of real usage with three incidents in it.

With `SPENDFUSE_KAFKA_BOOTSTRAP` set it runs on that cluster, else on the embedded broker, which enforces no
transactions and forgets everything at its end.
"""

import argparse
import contextlib
import gzip
import secrets
import statistics
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from spendfuse import Emitter, Guard, derive_keys
from spendfuse.kafka import KafkaControl, KafkaTransport

from infra.demo.agents import Agents, Event, overshoot_nanousd
from infra.demo.processes import PARTITIONS, DemoService, Keys, start_alerting, start_broker, start_worker
from infra.demo.screen import Screen
from schemas.alert import Alert
from schemas.codec import decode_alert, decode_command
from schemas.control import Command
from schemas.duration import DAY_MS
from schemas.errors import SpendfuseError
from schemas.signing import is_key_check

HERE = Path(__file__).parent
HISTORY_PER_S = 12_000
"""Events a second while the week before today is replayed: the embedded broker keeps 5 MiB a partition."""
TODAY_S = 20.0
"""How long today takes."""
WAIT_S = 60.0


class Watcher:
    """Reads alerts, and commands, which it shows as they come."""

    def __init__(self, bootstrap: str, prefix: str, screen: Screen, from_ms: int) -> None:
        self._screen = screen
        self._from_ms = from_ms
        self._stop = threading.Event()
        self.alerts: list[Alert] = []
        self.today = 0
        """Alerts of today, which people are told."""
        self.kills: dict[str, Command] = {}
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
        if alert.state in ("open", "escalated"):
            self.alerts.append(alert)
        self.today += alert.ts_ms >= self._from_ms

    def _command(self, value: bytes) -> None:
        command = decode_command(value)
        if command.command_id not in self.kills:  # else it is written once more, for those who have not heard it
            self.kills[command.command_id] = command
            self._screen.kill(command)


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.demo", description="the demo")
    parser.add_argument("--once", action="store_true", help="end after the replay")
    options = parser.parse_args(arguments)
    screen = Screen()
    with ExitStack() as stack:
        try:
            bootstrap, prefix = start_broker(stack, screen)
        except SpendfuseError as error:
            print(f"demo: {error}", file=sys.stderr)
            return error.exit_code
        result = _run(stack, screen, bootstrap, prefix, once=options.once)
    if options.once:
        screen.line(result or "demo: nothing was stopped; see the logs in out/")
    return 0 if result else 1


def _run(stack: ExitStack, screen: Screen, bootstrap: str, prefix: str, *, once: bool) -> str | None:
    """The demo from start to end. Returns what it comes to in one line, None if nothing was stopped."""
    keys = Keys(engine=secrets.token_hex(16), operator=secrets.token_hex(16))
    worker = start_worker(stack, bootstrap, prefix, keys)
    events, today_ms = _load()
    watcher = Watcher(bootstrap, prefix, screen, today_ms)
    stack.callback(watcher.close)
    quiet = {"log_level": 0}  # the embedded broker goes away under its clients at the end
    transport = KafkaTransport(bootstrap, prefix=prefix, config=quiet)
    agents: Agents
    clock: Callable[[], int] = lambda: agents.now_ms  # noqa: E731  # the agents live in the log's time
    emitter = Emitter(transport, max_buffered=50_000, clock_ms=clock)
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
    agents.now_ms = events[0]["ts_ms"]
    if not guard.wait_ready(WAIT_S):
        raise SystemExit("demo: the guard could not read the control topic")
    screen.title("A week of usage, so that the worker knows what is normal")
    history = [event for event in events if event["ts_ms"] < today_ms]
    _replay(agents, history, HISTORY_PER_S)
    _drain(emitter, worker, agents)
    screen.line(f"          {len(history):,} events counted")
    alerting = start_alerting(stack, bootstrap, prefix, keys, screen)
    _settle(alerting.is_healthy)
    screen.title("Today")
    today = events[len(history) :]
    _replay(agents, today, len(today) / TODAY_S, lambda: _show_stops(screen, agents, watcher))
    _drain(emitter, worker, agents)
    _settle(lambda: all(command_id in agents.stops for command_id in watcher.kills))
    _settle(lambda: alerting.metric("spendfuse_alerting_oldest_pending_seconds") == 0 and _all_told(alerting, watcher))
    _show_stops(screen, agents, watcher)
    screen.line()
    screen.line(f"{agents.unspoken} calls were never made, because their runs had been stopped")
    result = _result(agents, watcher)
    if not once:
        screen.line(result or "demo: nothing was stopped; see the logs in out/")
        _stay(screen, bootstrap, prefix, keys)
    return result


def _load() -> tuple[list[Event], int]:
    """The log, moved by whole days so that it ends before now, and when its last day begins."""
    incidents = orjson.loads((HERE / "incidents.json").read_bytes())
    shift_ms = (time.time_ns() // 1_000_000 - incidents["end_ms"]) // DAY_MS * DAY_MS
    with gzip.open(HERE / "usage.jsonl.gz") as lines:
        events: list[Event] = [orjson.loads(line) for line in lines]
    for event in events:
        event["ts_ms"] += shift_ms
        if "started_ms" in event:
            event["started_ms"] += shift_ms
    return events, incidents["today_start_ms"] + shift_ms


def _replay(agents: Agents, events: list[Event], per_s: float, after: Callable[[], None] | None = None) -> None:
    """Have the runs make their calls, at a steady pace."""
    started_s = time.perf_counter()
    for number, event in enumerate(events):
        if number % 20 == 0 or per_s < 1000:
            ahead_s = number / per_s - (time.perf_counter() - started_s)
            if ahead_s > 0:
                time.sleep(ahead_s)
        agents.report(event)
        if after is not None and number % 20 == 0:
            after()


def _drain(emitter: Emitter, worker: DemoService, agents: Agents) -> None:
    """Wait until the worker has counted everything that was sent."""
    unsent = emitter.flush(WAIT_S)
    if unsent:
        raise SystemExit(f"demo: {unsent} events could not be sent")
    _settle(lambda: worker.metric("spendfuse_events_total") >= agents.sent)


def _settle(done: Callable[[], bool]) -> None:
    deadline_s = time.perf_counter() + WAIT_S
    while not done():
        if time.perf_counter() > deadline_s:
            raise SystemExit("demo: the worker does not keep up; see the logs in out/")
        time.sleep(0.05)


def _all_told(alerting: DemoService, watcher: Watcher) -> bool:
    return alerting.metric("spendfuse_alerting_alerts_total") >= watcher.today


_shown: set[str] = set()


def _show_stops(screen: Screen, agents: Agents, watcher: Watcher) -> None:
    """Tell of every run that stopped since the last call."""
    for command_id, stop in list(agents.stops.items()):
        command = watcher.kills.get(command_id)
        if command is not None and command_id not in _shown:
            _shown.add(command_id)
            screen.ack(stop.run.run_id, _cause_to_stop_ms(agents, command), _overshoot(agents, command))


def _cause_to_stop_ms(agents: Agents, command: Command) -> float:
    return (agents.stops[command.command_id].at_s - agents.sent_at_s[command.cause_event_id or ""]) * 1000


def _overshoot(agents: Agents, command: Command) -> int:
    return overshoot_nanousd(agents.stops[command.command_id].run, command.cause_event_id or "")


def _result(agents: Agents, watcher: Watcher) -> str | None:
    times_ms = sorted(_cause_to_stop_ms(agents, watcher.kills[command_id]) for command_id in agents.stops)
    if not times_ms:
        return None
    p50, p99 = statistics.median(times_ms), times_ms[-1]
    counts = f"{len(watcher.alerts)} alerts, {len(watcher.kills)} kills, {len(agents.stops)} acks"
    return f"demo: {agents.sent} events, {counts}, cause to stop p50 {p50:.0f} ms p99 {p99:.0f} ms"


def _stay(screen: Screen, bootstrap: str, prefix: str, keys: Keys) -> None:
    settings = {"KAFKA_BOOTSTRAP": bootstrap, "PREFIX": prefix, "OPERATOR_KEY": keys.operator}
    tool, week = ".venv/bin/python -m streams", time.strftime("%G-W%V", time.gmtime())
    screen.title("Still running")
    screen.line("Send usage events of your own (README, Produce events), or try the tools in another terminal:")
    screen.line()
    screen.line("  export " + " ".join(f"SPENDFUSE_{name}={value}" for name, value in settings.items()))
    screen.line(f'  {tool} resume run acme-coding-agent-0037 --tenant acme --why "trying it"')
    screen.line(f"  {tool} orders")
    screen.line(f"  {tool} report weekly --week {week} --html out/review.html")
    screen.line()
    screen.line("Ctrl-C ends it.")
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


if __name__ == "__main__":
    sys.exit(main())
