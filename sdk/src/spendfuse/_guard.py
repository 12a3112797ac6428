"""The agent's side of `control.v1`: it learns that it must stop, stops, and says so."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self, Unpack

from spendfuse._acks import Acks
from spendfuse._clock import dependable
from spendfuse._command import Command, ControlRecord
from spendfuse._emitter import Emitter
from spendfuse._errors import Paused, Stopped
from spendfuse._feed import ControlFeed
from spendfuse._intake import Believed, GuardStats, Ignored, Intake, KeysByTenant, KeysUnavailable
from spendfuse._logging import LOG, RareWarning
from spendfuse._runlike import RunLike
from spendfuse._scope import CallDimensions
from spendfuse._signing import Keys
from spendfuse._standing import StandingCommands
from spendfuse._watchlist import Watchlist

POLL_S = 0.1
PRUNE_EVERY_S = 60.0
JOIN_S = 5.0
KEYS_AGAIN_S = 1.0
"""Before a function that failed to give a tenant's keys is asked again."""

StopCallback = Callable[[RunLike, Stopped], object]
IgnoredCallback = Callable[[Ignored, ControlRecord], object]


@dataclass(frozen=True, slots=True)
class Advice:
    """What a run should do short of stopping."""

    downgrade: bool
    """Use a cheaper model."""
    reason: str | None = None
    command_id: str | None = None


class Guard:
    """Follows the control topic in a thread of its own and tells runs what stands against them.

    `check` costs a few dictionary look-ups; call it before every model or tool call. All runs of `emitter` are
    watched from start to finish, so their `stop_event` and the `on_stop` callbacks fire without a check; other run
    objects can be given to `check` as they are, and to `watch` for the same. Answers go out through `emitter`.
    """

    def __init__(
        self,
        feed: ControlFeed,
        emitter: Emitter,
        *,
        when_blind: Literal["continue", "stop"],
        blind_after_s: float = 10.0,
        tenant_id: str | None = None,
        keys: Keys | KeysByTenant | None = None,
        on_ignored: IgnoredCallback | None = None,
        clock_ms: Callable[[], int] | None = None,
    ) -> None:
        """Start following `feed`.

        `when_blind` says what `check` does before the topic has been read through once, and later whenever it has not
        been readable for `blind_after_s` seconds: let the agent "continue" (known commands still hold), or "stop" it.
        `keys` are the tenant's keys under `engine` and `lift`, or a function from tenant to them that raises
        LookupError for a tenant that is not served; after any other error it is asked again, and the guard counts as
        blind until then. Without keys every command is believed. `tenant_id` is the only tenant served, None for any.
        `on_ignored` hears of every record that was not acted on, in the guard's thread. `clock_ms` judges expiry.
        """
        if when_blind not in ("continue", "stop"):
            raise ValueError('when_blind must be "continue" or "stop"')
        self.stats = GuardStats()
        self._intake = Intake(tenant_id, keys)
        self._feed = feed
        self._stop_when_blind = when_blind == "stop"
        self._blind_after_s = blind_after_s
        self._tenant_id = tenant_id
        self._on_ignored = on_ignored
        self._clock_ms = dependable(clock_ms)
        self._standing = StandingCommands()
        self._acks = Acks(emitter)
        self._watchlist = Watchlist()
        self._callbacks: list[StopCallback] = []
        self._fresh_at_s: float | None = None
        self._ready = threading.Event()
        self._closing = threading.Event()
        self._changed = threading.Condition()
        self._ignored_warning = RareWarning("%d control records ignored, the latest as %s")
        self._unverified: list[ControlRecord] = []
        self._verify_again_s = 0.0
        self._keys_warning = RareWarning("%d control records cannot be verified yet, the keys are not to be had: %s")
        self._callback_warning = RareWarning("%d guard callbacks failed: %s")
        if keys is None:
            LOG.warning("guard without keys: any writer of the control topic can stop or resume this agent's runs")
        emitter.observe(self)
        self._thread = threading.Thread(target=self._follow, name="spendfuse-guard", daemon=True)
        self._thread.start()

    @property
    def blind(self) -> bool:
        """Whether the topic has not been read through yet, or not been readable for `blind_after_s`."""
        fresh_at_s = self._fresh_at_s
        return fresh_at_s is None or time.monotonic() - fresh_at_s > self._blind_after_s

    def wait_ready(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything that was on the topic has been read; False when that took longer."""
        return self._ready.wait(timeout_s)

    def check(self, run: RunLike, **call: Unpack[CallDimensions]) -> None:
        """Return when the run may make its next call; raise Stopped or Paused when it may not.

        `model`, `provider` and `route` of that call are worth giving: a budget of a model stops its calls only then.
        Raises ValueError for a run of a tenant this guard does not serve.
        """
        if self._tenant_id is not None and run.tenant_id != self._tenant_id:
            raise ValueError("this guard serves another tenant; it would never learn of this run's commands")
        if not self._standing.is_quiet(run.tenant_id):
            now_ms = self._clock_ms()
            kill = self._standing.kill(run, now_ms, call)
            if kill is not None:
                self._acks.give(run, kill, "stopped")
                raise _stopped(kill)
            pause = self._standing.pause(run, now_ms, call)
            if pause is not None:
                self._acks.give(run, pause, "paused")
                raise _paused(pause)
        if self._stop_when_blind and self.blind:
            raise Stopped(f"the control topic has not been readable for {self._blind_after_s:g} s or was never read")

    def wait_while_paused(self, run: RunLike, timeout_s: float | None = None, **call: Unpack[CallDimensions]) -> bool:
        """Like `check`, but wait a pause out; False when it still stands after `timeout_s`. Raises Stopped."""
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            try:
                self.check(run, **call)
            except Paused as pause:
                wait_s = min(POLL_S, max(0.0, (pause.until_ms - self._clock_ms()) / 1000) + 0.001)
            else:
                return True
            if deadline_s is not None:
                wait_s = min(wait_s, deadline_s - time.monotonic())
            if wait_s <= 0:
                return False
            with self._changed:
                self._changed.wait(wait_s)

    def advice(self, run: RunLike, **call: Unpack[CallDimensions]) -> Advice:
        """Return what the run should do. Asking while a downgrade stands acknowledges it: follow the answer."""
        command = self._standing.downgrade(run, self._clock_ms(), call)
        if command is None:
            return Advice(downgrade=False)
        self._acks.give(run, command, "downgraded")
        return Advice(downgrade=True, reason=command.reason, command_id=command.command_id)

    def on_stop(self, callback: StopCallback) -> Callable[[], None]:
        """Call `callback(run, stopped)` once a kill for a watched run arrives; return what ends that.

        It is called in the guard's thread: be quick.
        """
        self._callbacks.append(callback)

        def end() -> None:
            with suppress(ValueError):
                self._callbacks.remove(callback)

        return end

    def watch(self, run: RunLike) -> threading.Event:
        """Watch a run that is not this emitter's; return the event that a kill sets. End with `unwatch`."""
        event = self._watchlist.add(run)
        kill = self._standing.kill(run, self._clock_ms())
        if kill is not None:
            self._push_stop(run, kill)
        return event

    def unwatch(self, run: RunLike) -> None:
        """Take the run as finished: a kill it never met in a check is answered with `already_finished`."""
        self.run_finishing(run, failed=False)

    def run_started(self, run: RunLike) -> None:
        """Called by the emitter."""
        self.watch(run)

    def run_finishing(self, run: RunLike, *, failed: bool) -> None:
        """Called by the emitter. A run that a kill's push ended, and not a check, has obeyed all the same."""
        self._watchlist.remove(run)
        kill = self._standing.kill(run, self._clock_ms())
        if kill is not None:
            self._acks.give(run, kill, "stopped" if failed else "already_finished")

    def close(self) -> None:
        """Stop following. `check` goes on with what is known, and by `when_blind` once that is old."""
        self._closing.set()
        self._thread.join(JOIN_S)
        self._feed.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _follow(self) -> None:
        prune_at_s = time.monotonic() + PRUNE_EVERY_S
        while not self._closing.is_set():
            try:
                self._take_all(self._feed.poll(POLL_S))
                if not self._unverified:  # what is there but cannot be verified yet is not known
                    self._fresh_at_s = self._feed.fresh_at_s()
            except Exception:  # a guard that dies would leave runs unstoppable; freshness tells if it cannot go on
                LOG.exception("the guard could not take in a control record")
                self._closing.wait(POLL_S)
            if self._fresh_at_s is not None:
                self._ready.set()
            if time.monotonic() >= prune_at_s:
                self._standing.prune(self._clock_ms())
                prune_at_s = time.monotonic() + PRUNE_EVERY_S

    def _take_all(self, records: Sequence[ControlRecord]) -> None:
        """Take in records, each by itself; those whose tenant's keys are not to be had are tried again later."""
        if self._unverified and time.monotonic() >= self._verify_again_s:
            records = [*self._unverified, *records]
            self._unverified = []
        for record in records:
            try:
                self._take(record)
            except KeysUnavailable as error:
                self._unverified.append(record)
                self._verify_again_s = time.monotonic() + KEYS_AGAIN_S
                self._keys_warning.happened(str(error))
            except Exception:  # one record's fault must not keep the others from being heard
                LOG.exception("the guard could not take in a control record")

    def _take(self, record: ControlRecord) -> None:
        read = self._intake.read(record)
        if read is None:
            self.stats.other_tenant += 1
        elif isinstance(read, Believed):
            self._apply(read, record)
        else:
            self._ignore(read, record)

    def _apply(self, believed: Believed, record: ControlRecord) -> None:
        command = believed.command
        now_ms = self._clock_ms()
        applied = self._standing.apply(command, by_operator=believed.by_operator, now_ms=now_ms)
        # Looked up after the command stands: a run that starts or ends meanwhile meets it by itself.
        runs = self._watchlist.live(command, applied.lifted)
        for run in runs:
            self._release(run, command, applied.lifted, now_ms)
            if applied.verdict in ("expired", "not_entitled"):
                self._acks.give(run, command, "ignored")
            elif applied.verdict == "applied" and command.action == "kill":
                self._push_stop(run, command)
        if applied.verdict == "applied":
            self.stats.applied += 1
            finished = self._watchlist.finished(command.tenant_id, command.target)
            if finished is not None:
                self._acks.give(finished, command, "already_finished")
        else:
            self._ignore(applied.verdict, record)
        with self._changed:
            self._changed.notify_all()

    def _release(self, run: RunLike, resume: Command, lifted: tuple[Command, ...], now_ms: int) -> None:
        """Let a run go on whose command was lifted, and answer for it if it had obeyed."""
        if resume.action == "resume" and self._standing.kill(run, now_ms) is None:
            self._watchlist.clear_stop(run)
        if any(self._acks.given(run, command) for command in lifted):
            self._acks.give(run, resume, "resumed")

    def _push_stop(self, run: RunLike, kill: Command) -> None:
        if not self._watchlist.set_stop(run):
            return
        for callback in tuple(self._callbacks):
            try:
                callback(run, _stopped(kill))
            except Exception as error:  # one callback's fault must not keep the others from stopping their calls
                self._callback_warning.happened(f"{type(error).__name__}: {error}")

    def _ignore(self, reason: Ignored, record: ControlRecord) -> None:
        setattr(self.stats, reason, getattr(self.stats, reason) + 1)
        if reason != "expired":  # those are what a compacted topic is full of
            self._ignored_warning.happened(reason)
        if self._on_ignored is None:
            return
        try:
            self._on_ignored(reason, record)
        except Exception as error:
            self._callback_warning.happened(f"{type(error).__name__}: {error}")


def _stopped(kill: Command) -> Stopped:
    return Stopped(kill.reason, rule=kill.rule, command_id=kill.command_id, incident_id=kill.incident_id)


def _paused(pause: Command) -> Paused:
    return Paused(
        pause.reason,
        until_ms=pause.expires_ms,
        rule=pause.rule,
        command_id=pause.command_id,
        incident_id=pause.incident_id,
    )
