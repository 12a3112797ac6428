"""`python -m infra.demo.log.weeks OUT.jsonl`: two weeks made of the demo's days, to look at a weekly review.

    python -m streams report weekly --effects OUT.jsonl --policy infra/demo/policy.toml --week 2026-W47 --html out.html

Every day of both weeks is a day of `usage.jsonl.gz`, moved by whole weeks; a sixth of the runs of the first week is
left out, so that there is something to grow from. Runs that are killed obey within a moment, but for one whose agent
has no guard. What operators say of incidents is made up here. The file holds effects as `backtest --out` writes them,
and the operators' messages between them.
"""

import heapq
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec

from infra.demo.log.calendar import TODAY_MS
from models.effects import Effect
from models.engine import Engine
from models.stimuli import OperatorSeen, Ticked, UsageSeen
from schemas.alert import Alert
from schemas.codec import encode
from schemas.control import Command
from schemas.duration import DAY_MS, HOUR_MS
from schemas.money import usd_to_nanousd
from schemas.operator import Feedback, LimitException, OperatorMessage, Silence, Verdict
from schemas.usage import CommandAck, RunFinished, UsageMessage
from streams.tools.backtest import read_policy_file
from streams.tools.event_log import read_log

HERE = Path(__file__).parents[1]
WEEK_MS = 7 * DAY_MS
MONDAY_MS = TODAY_MS - 2 * DAY_MS
"""The second week's first instant: the demo's today is a Wednesday."""
END_MS = MONDAY_MS + WEEK_MS
LEFT_OUT_OF_SIX = 1
WITHOUT_GUARD = "acme-coding-agent-0034"
SETTLE_EVERY = 1000


@dataclass(frozen=True)
class Remark:
    """What an operator says of the first incident of a rule about a run, or a tenant, a while after it opened."""

    rule: str
    about: str
    who: str
    verdict: Verdict
    why: str


REMARKS = (
    Remark("same-call-again", "initech-docs-agent-0023", "ana", "useful", "search index was empty after the migration"),
    Remark("same-call-again", "vandelay-repair-bot-0045", "ben", "noise", "it polls a build, three times is normal"),
    Remark("going-in-circles", WITHOUT_GUARD, "ana", "useful", "no guard in the old runner, upgraded on Thursday"),
    Remark("run-cost", "acme-coding-agent-0037", "ana", "useful", "97 steps and nothing solved"),
    Remark("hourly-5x", "globex", "mia", "planned", "chat-v7 went out to everybody"),
)
ANSWER_MS = 40 * 60_000
ACK_MS = 18


def messages() -> list[UsageMessage]:
    """The usage of both weeks in the order of its time."""
    by_run: dict[str, list[UsageMessage]] = {}
    for stimulus in read_log(HERE / "usage.jsonl.gz"):
        assert isinstance(stimulus, UsageSeen)
        by_run.setdefault(stimulus.message.run_id, []).append(stimulus.message)
    found = [message for run in by_run.values() for moved in _placed(run) for message in moved]
    return sorted(found, key=lambda message: (message.ts_ms, message.event_id))


def _placed(run: list[UsageMessage]) -> Iterator[list[UsageMessage]]:
    """A run on each day of the two weeks on which it takes place."""
    start_ms = min(message.ts_ms for message in run)
    if start_ms >= TODAY_MS:
        yield run
        return
    weeks_ahead = -1 if start_ms >= MONDAY_MS else 1
    first = [_moved(one, weeks_ahead) for one in run] if weeks_ahead < 0 else run
    second = run if weeks_ahead < 0 else [_moved(one, weeks_ahead) for one in run]
    if crc32(run[0].run_id.encode()) % 6 >= LEFT_OUT_OF_SIX:
        yield first
    # Today stands in for its own day of the week until it ends.
    today_ends_ms = TODAY_MS + 18 * HOUR_MS
    if not TODAY_MS <= min(message.ts_ms for message in second) < today_ends_ms:
        yield second


def _moved(message: UsageMessage, weeks: int) -> UsageMessage:
    mark = f"{weeks:+}w"
    changes = {"ts_ms": message.ts_ms + weeks * WEEK_MS, "event_id": f"{message.event_id}{mark}"}
    for name in ("run_id", "session_id", "root_run_id", "parent_run_id"):
        if (known := getattr(message, name)) is not None:
            changes[name] = f"{known}{mark}"
    if (started_ms := getattr(message, "started_ms", None)) is not None:
        changes["started_ms"] = started_ms + weeks * WEEK_MS
    return msgspec.structs.replace(message, **changes)


class Weeks:
    """The two weeks under the demo's policy, with agents that obey and operators who answer."""

    def __init__(self) -> None:
        self._engine = Engine(read_policy_file(HERE / "policy.toml"))
        self._later: list[tuple[int, int, UsageMessage | OperatorMessage]] = []
        self._numbers = count(1)
        self._stopped: set[str] = set()
        self._answered: set[Remark] = set()

    def lines(self) -> Iterator[bytes]:
        """Effects and operators' messages as lines of a file."""
        for order in _orders():
            self._add(order.ts_ms, order)
        for number, message in enumerate(messages()):
            yield from self._until(message.ts_ms)
            if message.run_id not in self._stopped:
                yield from self._take(message)
            if number % SETTLE_EVERY == 0:
                self._engine.discard_rows()
        yield from self._until(END_MS)
        self._engine.handle(Ticked(END_MS))
        yield from self._effects()

    def _until(self, now_ms: int) -> Iterator[bytes]:
        while self._later and self._later[0][0] <= now_ms:
            yield from self._take(heapq.heappop(self._later)[2])

    def _take(self, message: UsageMessage | OperatorMessage) -> Iterator[bytes]:
        if isinstance(message, OperatorMessage):
            yield _line("operator.v1", message.tenant_id, message)
            self._engine.handle(OperatorSeen(message, message.ts_ms))
        else:
            self._engine.handle(UsageSeen(message, message.ts_ms))
        yield from self._effects()

    def _effects(self) -> Iterator[bytes]:
        for effect in self._engine.drain_effects():
            self._follow(effect)
            yield _line(effect.topic, effect.key, effect.value)

    def _follow(self, effect: Effect) -> None:
        match effect.value:
            case Command() as command if command.action == "kill" and command.target.id != WITHOUT_GUARD:
                self._obey(command)
            case Alert() as alert if alert.state == "open":
                self._answer(alert)

    def _obey(self, command: Command) -> None:
        tenant_id, run_id, at_ms = command.tenant_id, command.target.id, command.issued_ms + ACK_MS
        self._stopped.add(run_id)
        envelope: dict[str, Any] = {"tenant_id": tenant_id, "run_id": run_id, "ts_ms": at_ms}
        ack = CommandAck(
            event_id=f"{command.command_id}-ack", command_id=command.command_id, acted="stopped", **envelope
        )
        self._add(at_ms, ack)
        self._add(at_ms, RunFinished(event_id=f"{command.command_id}-end", status="killed", **envelope))

    def _answer(self, alert: Alert) -> None:
        for remark in REMARKS:
            if remark not in self._answered and (alert.rule, alert.run_id or alert.tenant_id) == (
                remark.rule,
                remark.about,
            ):
                self._answered.add(remark)
                at_ms = alert.ts_ms + ANSWER_MS
                self._add(
                    at_ms,
                    Feedback(
                        message_id=f"feedback-{alert.incident_id}", ts_ms=at_ms, tenant_id=alert.tenant_id,
                        who=remark.who, why=remark.why, incident_id=alert.incident_id, verdict=remark.verdict,
                    ),
                )  # fmt: skip

    def _add(self, at_ms: int, message: UsageMessage | OperatorMessage) -> None:
        heapq.heappush(self._later, (at_ms, next(self._numbers), message))


def _orders() -> Iterator[OperatorMessage]:
    at_ms = TODAY_MS + 15 * HOUR_MS
    yield LimitException(
        message_id="exception-1", ts_ms=at_ms, tenant_id="acme", who="ana", why="backlog sprint, until Thursday",
        rule="tenant-hourly", scope="acme", limit_nanousd=usd_to_nanousd(20), until_ms=END_MS + 3 * DAY_MS,
    )  # fmt: skip
    at_ms = MONDAY_MS + 2 * DAY_MS + 3 * HOUR_MS
    yield Silence(
        message_id="silence-1", ts_ms=at_ms, tenant_id="vandelay", who="ben", why="builds are slow today",
        match={"rule": "same-call-again"}, until_ms=at_ms + 8 * HOUR_MS,
    )  # fmt: skip


def _line(topic: str, key: str, value: object) -> bytes:
    return encode({"topic": topic, "key": key, "value": value}) + b"\n"


def main(arguments: list[str]) -> int:
    """Write the file; returns the exit code."""
    if len(arguments) != 1:
        print("usage: python -m infra.demo.log.weeks OUT.jsonl", file=sys.stderr)
        return 2
    with Path(arguments[0]).open("wb") as out:
        out.writelines(Weeks().lines())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
