"""The live engine over a log of the past, with agents that obey it."""

from collections.abc import Iterable, Iterator

from models.effects import Effect
from models.engine import Engine
from models.rules.policy import Policy
from models.state.seen import SeenIds
from models.stimuli import OperatorSeen, PolicyChanged, RecordRefused, SpendDue, SpendSeen, Ticked, UsageSeen
from schemas.alert import Alert
from schemas.control import Command
from schemas.internal.spend import SpendDelta
from schemas.usage import LlmCall, RunFinished, RunStarted, ToolCall
from streams.tools.event_log import Aside, Line, PolicySeen
from streams.tools.replay.past_runs import PastRun, PastRuns
from streams.tools.replay.stops import Stop, Stops, began_ms, would_not_be
from streams.tools.replay.went_on import WentOn
from streams.tools.scorecard import Fate, Scorecard

REACTION_MS = 1000
SETTLE_EVERY = 1000
SEND_SPEND_MS = 1000
FLUSH_MS = 10_000
"""Totals are published so long after they have changed."""


class Replay:
    """One run of a log under a policy. `effects` may be asked for once."""

    def __init__(
        self,
        policy: Policy,
        scorecard: Scorecard,
        *,
        reaction_ms: int = REACTION_MS,
        as_recorded: bool = False,
        keeps_policy: bool = False,
        answered: frozenset[str] = frozenset(),
    ) -> None:
        """`as_recorded` feeds everything as it is in the log: nobody obeys, and time moves with the messages alone.

        `keeps_policy` leaves `policy` in force whatever the log says. `answered` are the commands whose answers are in
        the log: what became of those is fed as it is.
        """
        self._engine = Engine(policy)
        self._scorecard = scorecard
        self._runs = PastRuns()
        self._stops = Stops(self._runs, reaction_ms, obeys=not as_recorded, answered=answered)
        self._went_on = WentOn()
        self._seen = SeenIds()
        """What the engine is not given can be a repetition as well, or be repeated."""
        self._obeys = not as_recorded
        self._keeps_policy = keeps_policy
        self._clocks_ms: dict[str, int] = {}
        self._latest_ms = 0
        self._spend_due_ms = 0
        self._effects: list[Effect] = []
        scorecard.policy(policy)

    def effects(self, lines: Iterable[Line]) -> Iterator[Effect]:
        """What the live engine would have published, in order. At the end, time stands at the latest line."""
        for number, line in enumerate(lines):
            self._line(line)
            yield from self._taken()
            if number % SETTLE_EVERY == 0:
                self._engine.discard_rows()
                self._seen.take_new()
        self._pass_all(self._latest_ms)
        self._answer_all()
        yield from self._taken()

    def last_hour(self) -> Iterator[Effect]:
        """What the running hour comes to once it is over.

        Nobody knows what runs did after the log, so that what is about one of them, or about an answer, is left out.
        """
        if not self._latest_ms:
            return
        self._drain()
        ends_ms = self._engine.policy.calendar.window("hour", self._latest_ms).end_ms + FLUSH_MS
        self._engine.handle(Ticked(max(ends_ms, self._latest_ms + FLUSH_MS)))
        for effect in self._engine.drain_effects():
            if _is_about_what_was(effect, ends_ms):
                self._effects.append(effect)
                self._scorecard.effect(effect)
        yield from self._taken()

    def _line(self, line: Line) -> None:
        if type(line) is UsageSeen:
            self._usage(line)
            return
        match line:
            case Ticked(now_ms):
                self._pass_all(now_ms)
            case OperatorSeen(message, append_ms):
                self._pass(message.tenant_id, append_ms)
                self._latest_ms = max(self._latest_ms, append_ms)
                self._engine.handle(line)
                self._drain()
            case PolicySeen(policy, append_ms):
                self._policy(policy, append_ms)
            case RecordRefused():
                self._engine.handle(line)
                self._drain()
            case Aside():
                self._scorecard.aside(line.kind, f"line {line.line + 1}: {line.detail}")

    def _usage(self, seen: UsageSeen) -> None:
        message, append_ms = seen
        self._pass(message.tenant_id, append_ms)
        self._latest_ms = max(self._latest_ms, append_ms)
        self._send_spend()
        run = self._runs.of(message)
        is_new = self._seen.add(message.tenant_id, message.event_id, append_ms)
        stop = self._stops.over(message, run, append_ms)
        is_lost = stop is not None and would_not_be(message, run, stop, append_ms)
        if stop is not None and is_lost and stop.is_obeyed:
            if is_new:
                self._lose(seen, run, stop)
            else:
                self._scorecard.message(message, run, "duplicate")
            return
        self._feed(seen, run, stop)
        if isinstance(message, RunFinished):
            run.is_live = False
        elif isinstance(message, LlmCall | ToolCall | RunStarted) and not message.backfill:
            run.is_live = True
        self._drain()

    def _feed(self, seen: UsageSeen, run: PastRun, stop: Stop | None) -> None:
        """Give a message to the engine, and record what it made of it."""
        counts = self._engine.counts
        duplicates, too_late = counts.duplicates, counts.too_late
        self._engine.handle(seen)
        fate: Fate = "counted"
        if counts.duplicates > duplicates:
            fate = "duplicate"
        elif counts.too_late > too_late:
            fate = "too late"
        elif stop is not None and stop.is_kill and seen.message.ts_ms >= stop.command.issued_ms:
            fate = "after a kill"
            run.kill(stop.command.command_id)
        self._scorecard.message(seen.message, run, fate)

    def _lose(self, seen: UsageSeen, run: PastRun, stop: Stop) -> None:
        """A message that would not have been sent: the engine never hears of it."""
        message = seen.message
        if stop.is_kill:
            run.kill(stop.command.command_id)
        cost_nanousd = self._scorecard.message(message, run, "saved" if stop.is_kill else "held back")
        if not isinstance(message, LlmCall | ToolCall) or not stop.is_kill:
            return
        run.has_lost_calls = True
        began = began_ms(message, seen.append_ms)
        event_id = message.event_id
        for alert in self._went_on.call(
            self._engine.policy, stop.command, message.run_id, event_id, cost_nanousd, began
        ):
            self._publish(Effect("alerts.v1", alert.tenant_id, alert))

    def _policy(self, policy: Policy, append_ms: int) -> None:
        self._pass_all(append_ms)
        if self._keeps_policy:
            self._scorecard.aside("policies left out", policy.version)
            return
        self._engine.handle(PolicyChanged(policy, append_ms))
        self._scorecard.policy(policy)
        self._scorecard.aside("policies changed", policy.version)
        self._drain()

    def _pass_all(self, now_ms: int) -> None:
        """Time passes for everybody."""
        self._latest_ms = max(self._latest_ms, now_ms)
        if self._obeys:
            for tenant_id in self._runs.tenants():
                self._pass(tenant_id, now_ms)
        self._engine.handle(SpendDue())
        self._engine.handle(Ticked(now_ms))
        self._drain()

    def _pass(self, tenant_id: str, now_ms: int) -> None:
        """Time passes for one tenant, in steps short enough that what it orders meanwhile is answered in time."""
        if not self._obeys:
            return
        clock_ms = self._clocks_ms.get(tenant_id, now_ms)
        step_ms = max(1000, self._engine.policy.header.ack_deadline_seconds * 500)
        while True:
            answer_ms = self._stops.next_answer_ms(tenant_id)
            step_ends_ms = min(now_ms, clock_ms + step_ms)
            if answer_ms is not None and answer_ms <= step_ends_ms:
                clock_ms = max(clock_ms, answer_ms)
                self._tick(tenant_id, clock_ms)
                self._answer(tenant_id)
                continue
            clock_ms = max(clock_ms, step_ends_ms)
            self._tick(tenant_id, clock_ms)
            if clock_ms >= now_ms and not self._is_answer_due(tenant_id, now_ms):
                break
        self._clocks_ms[tenant_id] = clock_ms

    def _is_answer_due(self, tenant_id: str, now_ms: int) -> bool:
        answer_ms = self._stops.next_answer_ms(tenant_id)
        return answer_ms is not None and answer_ms <= now_ms

    def _tick(self, tenant_id: str, now_ms: int) -> None:
        self._engine.handle(Ticked(now_ms, tenant_id))
        self._drain()

    def _answer(self, tenant_id: str) -> None:
        for message in self._stops.take_answers(tenant_id):
            self._engine.handle(UsageSeen(message, message.ts_ms))
            self._drain()

    def _answer_all(self) -> None:
        """Who was stopped in the last moment answers as well."""
        for tenant_id in self._runs.tenants():
            while (answer_ms := self._stops.next_answer_ms(tenant_id)) is not None:
                self._tick(tenant_id, answer_ms)
                self._answer(tenant_id)

    def _send_spend(self) -> None:
        """What was spent across tenants is told once a second, as a worker does."""
        if self._latest_ms >= self._spend_due_ms:
            self._spend_due_ms = self._latest_ms + SEND_SPEND_MS
            self._engine.handle(SpendDue())
            self._drain()

    def _drain(self) -> None:
        if self._engine.has_effects:
            for effect in self._engine.drain_effects():
                if isinstance(effect.value, SpendDelta):
                    self._engine.handle(SpendSeen(effect.value))
                    self._drain()
                    continue
                if isinstance(effect.value, Command):
                    self._stops.given(effect.value)
                self._publish(effect)

    def _publish(self, effect: Effect) -> None:
        self._effects.append(effect)
        self._scorecard.effect(effect)

    def _taken(self) -> list[Effect]:
        taken, self._effects = self._effects, []
        return taken


def _is_about_what_was(effect: Effect, ends_ms: int) -> bool:
    """Whether something published after the end of the log follows from the log."""
    match effect.value:
        case Alert(state="resolved"):
            return True
        case Alert(state="open" | "escalated", run_id=None, window_end_ms=int(window_end_ms)):
            return window_end_ms <= ends_ms
        case Alert() | Command():
            return False
        case _:
            return True
