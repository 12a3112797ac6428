"""One execution of an agent, from its introduction to how it ended."""

import threading
import uuid
from collections.abc import Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Literal, Protocol, Self, TypedDict, Unpack

from spendfuse._client.errors import InvalidEvent, ended_by
from spendfuse._client.fork import tell_of_forks
from spendfuse._client.logging import LOG
from spendfuse._usage.money import Usd
from spendfuse._usage.wire import ATTRIBUTION, Event

Acted = Literal["stopped", "paused", "resumed", "downgraded", "already_finished", "ignored", "delivered"]
CallStatus = Literal["ok", "error", "cancelled"]
FinishStatus = Literal["completed", "failed", "cancelled", "killed"]

_IDS = ("tenant_id", "run_id", "session_id", "root_run_id", "parent_run_id")


CURRENT: ContextVar["Run | None"] = ContextVar("spendfuse_run", default=None)
"""The run in whose block the code is: whose calls the integrations take them for."""


class RunOptions(TypedDict, total=False):
    """Who the run is for and when it must stop. Its limits can only be stricter than the service's policy."""

    run_id: str
    session_id: str | None
    workflow: str | None
    owner: str | None
    project: str | None
    environment: str | None
    agent: str | None
    user: str | None
    feature: str | None
    tier: str | None
    task_category: str | None
    feature_flag: str | None
    prompt_version: str | None
    tags: Mapping[str, str] | None
    expected_route: str | None
    expected_outcome: str | None
    cap_usd: Usd | None
    cap_nanousd: int | None
    max_retries: int | None
    max_tool_calls: int | None
    max_duration_s: int | None


class LlmCallDetails(TypedDict, total=False):
    """The optional fields of `llm_call`, as the contract names them."""

    provider: str | None
    route: str | None
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    price_source: str | None
    attempt: int
    status: CallStatus
    error_type: str | None
    latency_ms: int | None
    started_ms: int | None
    prompt_hash: str | None
    images: int
    cache_hit: bool
    cache_write_1h_tokens: int
    input_audio_tokens: int
    output_audio_tokens: int
    output_image_tokens: int
    service_tier: Literal["standard", "batch", "flex", "priority"] | None
    web_searches: int
    fallback_from: str | None
    context_reload: bool
    escalation_reason: str | None
    ts_ms: int
    event_id: str | None


class RunObserver(Protocol):
    """Hears of every run of an emitter; a guard is one."""

    def run_started(self, run: "Run") -> None:
        """The run is about to make its first call."""

    def run_finishing(self, run: "Run", *, failed: bool) -> None:
        """The run's block has ended, by an exception if `failed`; its `run_finished` follows."""


class RunEvents(Protocol):
    """What a run needs of the emitter that made it."""

    @property
    def observers(self) -> "tuple[RunObserver, ...]":
        """Who hears of the run."""

    def prepared(self, event: Mapping[str, object]) -> Event:
        """The event complete and checked. Raises InvalidEvent."""

    def send(self, event: Event) -> str | None:
        """Queue a prepared event; its id, or None when it was dropped."""

    def hash_of(self, value: object) -> str:
        """The hash of a prompt, of arguments or a result."""

    def shape_hash_of(self, value: object) -> str | None:
        """The hash of a result's shape; None if it has none to compare by."""


class Run:
    """A run: made by `Emitter.run` or `Run.child`, entered with `with`. Its methods may be called from any thread.

    Reporting methods return the event's id, or None when the emitter had to drop it; they raise InvalidEvent for what
    the contract refuses. `stop_event` is set by a guard as soon as it learns that this run must stop.
    """

    def __init__(self, emitter: RunEvents, tenant_id: str, parent: "Run | None", options: RunOptions) -> None:
        if parent is not None and parent.tenant_id != tenant_id:
            raise InvalidEvent("a child run belongs to its parent's tenant")
        self._emitter = emitter
        self._lock = threading.RLock()  # a signal's handler may report while its own thread does, and so may the end
        self._seq = 0
        self._begun = False
        self._introduced = False
        self._entered: list[Token[Run | None]] = []
        """One for each block of the run that somebody is in."""
        self._finished = False
        self.stop_event = threading.Event()
        given: Event = {**_inherited(parent), **{k: v for k, v in options.items() if v is not None}}
        given |= {"type": "run_started", "tenant_id": tenant_id, "run_id": given.get("run_id") or uuid.uuid4().hex}
        if parent is not None:
            given |= {"parent_run_id": parent.run_id, "root_run_id": parent.root_run_id or parent.run_id}
        introduction = emitter.prepared(given)
        self._ids = {name: introduction[name] for name in _IDS if name in introduction}
        self._attribution = {name: introduction[name] for name in (*ATTRIBUTION, "tags") if name in introduction}
        self._own = {k: v for k, v in introduction.items() if k.startswith(("cap_", "max_", "expected_"))}
        self.tenant_id: str = str(introduction["tenant_id"])
        self.run_id: str = str(introduction["run_id"])
        self.session_id: str | None = _text(introduction, "session_id")
        self.root_run_id: str | None = _text(introduction, "root_run_id")
        self.parent_run_id: str | None = _text(introduction, "parent_run_id")
        self.workflow: str | None = _text(introduction, "workflow")
        tell_of_forks(self)

    def forked(self) -> None:
        """Go on in a child, which numbers what it reports of this run by itself."""
        self._lock = threading.RLock()

    @property
    def is_begun(self) -> bool:
        """Whether it has been started, whatever has become of it."""
        return self._begun

    @property
    def finished(self) -> bool:
        """Whether `run_finished` has been reported."""
        return self._finished

    @property
    def attribution(self) -> Mapping[str, object]:
        """What this run said about whose spend it is; its children say the same unless told otherwise."""
        return dict(self._attribution)

    def child(self, **options: Unpack[RunOptions]) -> "Run":
        """Return a run started by this one: same tenant, tree, session and attribution; limits are not inherited."""
        return Run(self._emitter, self.tenant_id, self, options)

    def llm_call(
        self,
        *,
        model: str,
        input_tokens: int = 0,
        output_tokens: int = 0,
        cost_usd: Usd | None = None,
        cost_nanousd: int | None = None,
        prompt: object = None,
        **details: Unpack[LlmCallDetails],
    ) -> str | None:
        """Report one attempt at one model call. `input_tokens` is the total, cached tokens included.

        Without a cost the service prices the call itself. `prompt` is hashed here and goes no further. `event_id` is
        derived from the provider's own id where there is one, so that a call that is reported twice counts once.
        """
        event: Event = {"type": "llm_call", "model": model, "input_tokens": input_tokens}
        event |= {"output_tokens": output_tokens, "cost_usd": cost_usd, "cost_nanousd": cost_nanousd}
        if prompt is not None:
            event["prompt_hash"] = self._emitter.hash_of(prompt)
        return self._report(event | details)

    def tool_call(
        self,
        tool: str,
        *,
        args: object = None,
        result: object = None,
        status: CallStatus = "ok",
        latency_ms: int | None = None,
        started_ms: int | None = None,
        writes: bool | None = None,
        error_type: str | None = None,
        cost_usd: Usd | None = None,
        ts_ms: int | None = None,
        event_id: str | None = None,
    ) -> str | None:
        """Report one use of a tool. `args` and `result` are hashed here and go no further.

        Of a call that failed, give the error's text as `result`. `writes` says that the tool changed something.
        `error_type` says what kind of error it was: `lint`, `no_match` and `user_rejected` are no failures by default.
        """
        event: Event = {"type": "tool_call", "tool": tool, "status": status, "latency_ms": latency_ms}
        event |= {"started_ms": started_ms, "writes": writes, "cost_usd": cost_usd, "ts_ms": ts_ms}
        event |= {"error_type": error_type, "event_id": event_id}
        if args is not None:
            event["args_hash"] = self._emitter.hash_of(args)
        if result is not None:
            event["result_hash"] = self._emitter.hash_of(result)
            event["result_shape_hash"] = self._emitter.shape_hash_of(result)
        return self._report(event)

    def outcome(self, outcome: Literal["accepted", "edited", "rejected", "escalated"]) -> str | None:
        """Report what became of the run's output."""
        return self._report({"type": "outcome", "outcome": outcome})

    def acknowledge(
        self, command_id: str, acted: Acted, *, event_id: str | None = None, denied_by: str | None = None
    ) -> str | None:
        """Answer a command. A guard does this by itself."""
        answer: Event = {"type": "command_ack", "command_id": command_id, "acted": acted}
        return self._report(answer | {"event_id": event_id, "denied_by": denied_by})

    def start(self) -> Self:
        """Introduce the run, before its first call. Entering the run does this. One that had ended goes on."""
        self._begun = True
        self._finished = False
        self._introduced = self._report({"type": "run_started", **self._own}) is not None
        for observer in self._emitter.observers:
            try:
                observer.run_started(self)
            except Exception:
                LOG.exception("an observer of runs failed")
        return self

    def finish(self, status: FinishStatus) -> None:
        """Report the end, once. Leaving the run's block does this."""
        with self._lock:
            if self._finished:
                return
            self._finished = True
        for observer in self._emitter.observers:
            try:
                observer.run_finishing(self, failed=status != "completed")
            except Exception:
                LOG.exception("an observer of runs failed")
        self._report({"type": "run_finished", "status": status})

    def __enter__(self) -> Self:
        """Begin the run, unless somebody is in its block already: a thread of its own, or a function further out."""
        token = CURRENT.set(self)
        with self._lock:
            self._entered.append(token)
            is_first = len(self._entered) == 1
        return self.start() if is_first else self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the run, once nobody is in its block any more."""
        with self._lock:
            self._leave()
            is_last = not self._entered
        if is_last:
            self.finish(self.status_after(error))

    def _leave(self) -> None:
        """Have the context's current run be the one of before."""
        for place in reversed(range(len(self._entered))):
            try:
                CURRENT.reset(self._entered[place])
            except ValueError:  # another thread's or task's
                continue
            del self._entered[place]
            return
        del self._entered[-1:]  # the block ends in another context than it began in: there it is not the current

    def status_after(self, error: BaseException | None) -> FinishStatus:
        if error is None:
            return "completed"
        end = ended_by(error)
        if end == "stopped" or self.stop_event.is_set():
            return "killed"
        return end

    def _report(self, event: Event) -> str | None:
        """Number the event within its run and send it; numbers follow the order in which events are queued."""
        # The service inherits attribution from run_started; while that one is not accepted, each event says it itself.
        attribution = {} if self._introduced else self._attribution
        prepared = self._emitter.prepared({**attribution, **event, **self._ids})
        with self._lock:
            self._seq += 1
            prepared["seq"] = self._seq
            return self._emitter.send(prepared)


def _inherited(parent: Run | None) -> Event:
    if parent is None:
        return {}
    return {**parent.attribution, "session_id": parent.session_id}


def _text(event: Event, name: str) -> str | None:
    value = event.get(name)
    return value if isinstance(value, str) else None
