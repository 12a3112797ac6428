"""The agent's side of `control.v1`: it learns that it must stop, stops, and says so."""

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self, Unpack

from spendfuse._client.clock import dependable
from spendfuse._client.emitter import Emitter
from spendfuse._client.errors import Paused, Stopped
from spendfuse._client.fork import tell_of_forks
from spendfuse._client.logging import LOG, RareWarning
from spendfuse._client.runlike import RunLike
from spendfuse._control.acks import Acks
from spendfuse._control.command import Command, ControlFeed, ControlRecord, parse
from spendfuse._control.freshness import Freshness
from spendfuse._control.intake import Believed, GuardStats, Ignored, Intake, KeysByTenant, KeysChecked, KeysUnavailable
from spendfuse._control.scope import CallDimensions
from spendfuse._control.signing import Keys
from spendfuse._control.standing import StandingCommands
from spendfuse._control.watchlist import Watchlist

POLL_S = 0.1
PRUNE_EVERY_S = 60.0
MOST_DENIED = 10_000
JOIN_S = 5.0
KEYS_AGAIN_S = 1.0
"""Before a function that failed to give a tenant's keys is asked again."""

StopCallback = Callable[[RunLike, Stopped], object]
IgnoredCallback = Callable[[Ignored, ControlRecord], object]
BelievedCallback = Callable[[ControlRecord, Command], object]


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

    A forked child may go on with its parent's guard: its first `check` waits until the topic has been read there, at
    most `blind_after_s`. Runs that began before the fork are watched in the parent only; `watch` them in the child.
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
        on_believed: BelievedCallback | None = None,
        clock_ms: Callable[[], int] | None = None,
        first_check_waits: bool = False,
    ) -> None:
        """Start following `feed`.

        `when_blind` says what `check` does before the topic has been read through once, and later whenever it has not
        been readable for `blind_after_s` seconds: let the agent "continue" (known commands still hold), or "stop" it.
        `keys` are the tenant's keys under `engine` and `lift`, or a function from tenant to them that raises
        LookupError for a tenant that is not served; after any other error it is asked again, and the guard counts as
        blind until then. Without keys every command is believed,
        which is well where the feed `is_verified`, as a gateway's is. `tenant_id` is the only tenant served, None for
        any.
        `on_ignored` hears of every record that was not acted on, in the guard's thread; `on_believed` of every command
        whose origin is established, before it has effect. `clock_ms` judges expiry.
        With `first_check_waits`, nobody needs `wait_ready`: the first `check` waits until the topic has been read, at
        most `blind_after_s`.
        """
        if when_blind not in ("continue", "stop"):
            raise ValueError('when_blind must be "continue" or "stop"')
        self._intake = Intake(tenant_id, keys)
        self._feed = feed
        self._stop_when_blind = when_blind == "stop"
        self._blind_after_s = blind_after_s
        self._tenant_id = tenant_id
        self._on_ignored = on_ignored
        self._on_believed = on_believed
        self._clock_ms = dependable(clock_ms)
        self._emitter = emitter
        self._callbacks: list[StopCallback] = []
        self._closing = threading.Event()
        self._ignored_warning = RareWarning("%d control records ignored, the latest as %s")
        self._keys_warning = RareWarning("%d control records cannot be verified yet, the keys are not to be had: %s")
        self._callback_warning = RareWarning("%d guard callbacks failed: %s")
        if keys is None and not getattr(feed, "is_verified", False):
            LOG.warning("guard without keys: any writer of the control topic can stop or resume this agent's runs")
        self._know_nothing()
        self.has_looked = not first_check_waits
        emitter.observe(self)
        self._begin()
        tell_of_forks(self)

    def forked(self) -> None:
        """Begin anew in a child, at the first question."""
        if not self._closing.is_set():
            self._know_nothing()

    def _know_nothing(self) -> None:
        self.stats = GuardStats()
        self._standing = StandingCommands()
        self._acks = Acks(self._emitter)
        self._watchlist = Watchlist()
        self._freshness = Freshness()
        self._ready = threading.Event()
        self._changed = threading.Condition()
        self._wrong_keys: set[str] = set()
        """Tenants whose keys are not the engine's."""
        self._unverifiable: dict[str, dict[str, Command]] = {}
        """Tenant -> hash of a record -> what somebody has commanded that nobody here can verify, until the engine says
        better or it has expired."""
        self._denied: dict[str, None] = {}
        """Hashes of records that the engine has called forged; the answer may come before the record."""
        self._unverified: list[ControlRecord] = []
        self._verify_again_s = 0.0
        self._thread: threading.Thread | None = None
        self._beginning = threading.Lock()
        self.has_looked = False
        """Whether the first question may be answered: in a forked child not before the topic was waited for."""

    @property
    def blind(self) -> bool:
        """Whether it cannot know what stands: see `waiting_for`."""
        return self.waiting_for is not None

    @property
    def waiting_for(self) -> str | None:
        """What keeps the guard from knowing what stands against its runs, for people; None if nothing does.

        It is blind before the topic has been read through, after it has not been readable for `blind_after_s`, with
        keys that are not the engine's, and while a command stands there that it cannot verify.
        """
        self._begin()
        if not self._ready.is_set():
            return self._feed.waiting_for() or "the control topic is not read through yet"
        return self._cannot_see() or next(
            (why for tenant_id in (*self._wrong_keys, *self._unverifiable) if (why := self._cannot_verify(tenant_id))),
            None,
        )

    @property
    def age_s(self) -> float | None:
        """How old its knowledge is: what was said before is known. None before the topic was read through."""
        return self._freshness.age_s

    def cannot_know(self, tenant_id: str) -> str | None:
        """What keeps the guard from knowing what stands against the runs of one tenant, for people; None if nothing."""
        return self._cannot_see() or self._cannot_verify(tenant_id)

    def wait_ready(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything that was on the topic has been read and the keys hold; False when that took longer, or
        never will be: `waiting_for` and the log say why.
        """
        self._begin()
        if self._ready.wait(timeout_s) and not self._wrong_keys:
            return True
        LOG.warning("the guard is not ready: %s", self.waiting_for)
        return False

    def check(self, run: RunLike, *, by: str | None = None, **call: Unpack[CallDimensions]) -> None:
        """Return when the run may make its next call; raise Stopped or Paused when it may not.

        `model`, `provider` and `route` of that call are worth giving: a budget of a model stops its calls only then.
        `by` names the hook or library that asks, for the answer. Raises ValueError for a run of a tenant this guard
        does not serve.
        """
        if self._tenant_id is not None and run.tenant_id != self._tenant_id:
            raise ValueError("this guard serves another tenant; it would never learn of this run's commands")
        self.look_first()
        if not self._standing.is_quiet(run.tenant_id):
            now_ms = self._clock_ms()
            kill = self._standing.kill(run, now_ms, call)
            if kill is not None:
                self._acks.give(run, kill, "stopped", by)
                raise _stopped(kill)
            pause = self._standing.pause(run, now_ms, call)
            if pause is not None:
                self._acks.give(run, pause, "paused", by)
                raise _paused(pause)
        if self._stop_when_blind and (why := self.cannot_know(run.tenant_id)):
            raise Stopped(f"nobody knows what stands against this run: {why}")

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
        self.look_first()
        command = self._standing.downgrade(run, self._clock_ms(), call)
        if command is None:
            return Advice(downgrade=False)
        self._acks.give(run, command, "downgraded")
        return Advice(downgrade=True, reason=command.reason, command_id=command.command_id)

    def nudge(self, run: RunLike) -> str | None:
        """Return a sentence to put before the model, if there is one; each once, and nearly always None.

        A rule has noticed that the run does the same over and over. Asking says that the agent has it: put it before
        the next call. Nothing else follows, unless the run goes on like that.
        """
        self.look_first()
        command = self._standing.take_nudge(run, self._clock_ms())
        if command is None:
            return None
        self._acks.give(run, command, "delivered")
        return command.reason

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
        self._begin()
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
        is_over = self._watchlist.remove(run)
        kill = self._standing.kill(run, self._clock_ms())
        if kill is not None and (is_over or failed):
            self._acks.give(run, kill, "stopped" if failed else "already_finished")
        self._leave()

    def close(self) -> None:
        """Stop following. `check` goes on with what is known, and by `when_blind` once that is old."""
        self._closing.set()
        if self._thread is not None and self._thread is not threading.current_thread():  # a callback may close
            self._thread.join(JOIN_S)
        self._feed.close()
        self._leave()

    def _leave(self) -> None:
        """Once it is closed and no run is watched any more, be forgotten by the emitter, which may live for longer."""
        if self._closing.is_set() and self._watchlist.is_empty:
            self._emitter.unobserve(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> None:
        """Follow the topic in this process, unless that is done already."""
        if self._thread is not None or self._closing.is_set():
            return
        with self._beginning:
            if self._thread is None:
                self._thread = threading.Thread(target=self._follow, name="spendfuse-guard", daemon=True)
                self._thread.start()

    def look_first(self) -> None:
        """Wait until the topic is read, where nobody else does so before the first question: a forked child has lost
        what its parent knew. At most as long as one may be blind.
        """
        if self.has_looked:
            return
        self._begin()
        if threading.current_thread() is not self._thread:
            self._ready.wait(self._blind_after_s)
            self.has_looked = True

    def _cannot_see(self) -> str | None:
        age_s = self.age_s
        if age_s is not None and age_s <= self._blind_after_s:
            return None
        since = "was never read" if age_s is None else f"has not been readable for {self._blind_after_s:g} s"
        return f"the control topic {since}; it waits for {self._feed.waiting_for() or 'nothing that is known'}"

    def _cannot_verify(self, tenant_id: str) -> str | None:
        if tenant_id in self._wrong_keys:
            return (
                f"the keys of {tenant_id} are not those of the engine; `python -m streams keys derive --tenant "
                f"{tenant_id}` prints them"
            )
        now_ms = self._clock_ms()
        for command in tuple(self._unverifiable.get(tenant_id, {}).values()):
            if command.expires_ms > now_ms:
                what = f"a {command.action} of the {command.target[0]} {command.target[1]}"
                return f"{what} has no signature that these keys can verify"
        return None

    def _follow(self) -> None:
        prune_at_s = time.monotonic() + PRUNE_EVERY_S
        while not self._closing.is_set():
            try:
                self._take_all(self._feed.poll(POLL_S))
                if not self._unverified:  # what is there but cannot be verified yet is not known
                    self._freshness.note(self._feed.fresh_at_s())
            except BaseException:  # a guard that dies would leave runs unstoppable; freshness tells if it cannot go on
                LOG.exception("the guard could not take in a control record")
                self._closing.wait(POLL_S)
            if self.age_s is not None:
                self._ready.set()
            if time.monotonic() >= prune_at_s:
                self._standing.prune(self._clock_ms(), time.monotonic())
                self._forget_expired(self._clock_ms())
                prune_at_s = time.monotonic() + PRUNE_EVERY_S

    def _forget_expired(self, now_ms: int) -> None:
        for tenant_id, commands in list(self._unverifiable.items()):
            for digest in [digest for digest, command in commands.items() if command.expires_ms <= now_ms]:
                del commands[digest]
            if not commands:
                del self._unverifiable[tenant_id]

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
            except BaseException:  # one record's fault must not keep the others from being heard
                LOG.exception("the guard could not take in a control record")

    def _take(self, record: ControlRecord) -> None:
        read = self._intake.read(record)
        if read is None:
            self.stats.other_tenant += 1
        elif isinstance(read, Believed):
            if read.command.action != "nudge":
                self._settle(read.command)
            self._apply(read, record)
        elif isinstance(read, KeysChecked):
            self._note_keys(read)
        else:
            if read == "forged":
                self._note_unverifiable(record)
            self._ignore(read, record)

    def _note_keys(self, checked: KeysChecked) -> None:
        if checked.hold:
            self._wrong_keys.discard(checked.tenant_id)
        elif checked.tenant_id not in self._wrong_keys:
            self._wrong_keys.add(checked.tenant_id)
            LOG.error("no command can stop these runs: %s", self._cannot_verify(checked.tenant_id))

    def _note_unverifiable(self, record: ControlRecord) -> None:
        """Remember a command that cannot be verified: if it is genuine, its runs should not go on.

        One to all tenants is forged for sure where the tenant's own key check holds, which the same key has signed.
        """
        assert record.value is not None, "what was forged has been read"
        command = parse(record.value)
        digest = hashlib.sha256(record.value).hexdigest()
        if command.is_for_all:
            return
        if (
            command.action not in ("resume", "nudge")
            and command.expires_ms > self._clock_ms()
            and digest not in self._denied
        ):
            self._unverifiable.setdefault(command.tenant_id, {})[digest] = command

    def _settle(self, genuine: Command) -> None:
        """What the engine says of a target goes before what others have said of it."""
        if genuine.denies is not None:
            self._denied[genuine.denies] = None
            if len(self._denied) > MOST_DENIED:
                del self._denied[next(iter(self._denied))]
        unverifiable = self._unverifiable.get(genuine.tenant_id, {})
        for digest in [digest for digest, command in unverifiable.items() if command.target == genuine.target]:
            del unverifiable[digest]

    def _apply(self, believed: Believed, record: ControlRecord) -> None:
        command = believed.command
        if self._on_believed is not None:
            self._call(self._on_believed, record, command)
        now_ms = self._clock_ms()
        applied = self._standing.apply(command, by_operator=believed.by_operator, now_ms=now_ms)
        # Looked up after the command stands: a run that starts or ends meanwhile meets it by itself.
        for run in () if command.action == "nudge" else self._watchlist.live(command, applied.lifted):
            self._release(run, command, applied.lifted, now_ms)
            if applied.verdict in ("expired", "not_entitled"):
                self._acks.give(run, command, "ignored")
            elif applied.verdict == "applied" and command.action == "kill":
                self._push_stop(run, command)
        if applied.verdict == "applied":
            self.stats.applied += 1
            finished = self._watchlist.finished(command.tenant_id, command.target)
            if finished is not None and command.action != "nudge":
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
            self._call(callback, run, _stopped(kill))

    def _ignore(self, reason: Ignored, record: ControlRecord) -> None:
        setattr(self.stats, reason, getattr(self.stats, reason) + 1)
        if reason != "expired":  # those are what a compacted topic is full of
            self._ignored_warning.happened(reason)
        if self._on_ignored is not None:
            self._call(self._on_ignored, reason, record)

    def _call(self, callback: Callable[..., object], *told: object) -> None:
        """One callback's fault must keep neither the others from being called nor a command from being heard."""
        try:
            callback(*told)
        except SystemExit:
            self._callback_warning.happened(
                "SystemExit ends no program from a thread of its own; `signal.raise_signal(signal.SIGTERM)` does"
            )
        except BaseException as error:
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
