"""What every integration does for its framework: find the run, ask before each step, report after it.

Nothing of a prompt, an argument or a result leaves: they are hashed where they are. What a framework gives in another
shape than expected is reported as far as it goes, and never breaks the agent.
"""

import hashlib
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from spendfuse._client.async_guard import AsyncGuard
from spendfuse._client.clock import wall_clock_ms
from spendfuse._client.connect import Connection, default_connection
from spendfuse._client.errors import SpendfuseError, ended_by
from spendfuse._client.fork import tell_of_forks
from spendfuse._client.guard import Guard
from spendfuse._client.logging import RareWarning
from spendfuse._client.run import CURRENT, CallStatus, FinishStatus, LlmCallDetails, Run, RunOptions
from spendfuse._control.scope import CallDimensions
from spendfuse._usage.money import Usd

SHORTEST_ID = 16
"""A response id of fewer characters may be a counter of the server's, and is not taken for unique."""
TOOLS_REMEMBERED = 10_000
LONGEST_NAME = 256


class Usage(TypedDict, total=False):
    """What an answer says of its price, by the contract's names. `input_tokens` is the total, cached included."""

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cache_write_1h_tokens: int
    reasoning_tokens: int
    input_audio_tokens: int
    output_audio_tokens: int
    web_searches: int
    service_tier: Any
    cache_hit: bool
    cost_usd: Usd | None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """A tool that was used, as a conversation or a framework shows it."""

    call_id: str | None
    """The model's or framework's own id of the call; None if it has none."""
    tool: str
    args: object = None
    result: object = None
    status: CallStatus = "ok"
    error_type: str | None = None


class Integration:
    """One framework's connection to Spendfuse.

    Args:
        name: the module that it is, such as `spendfuse.openai`: answers to commands say that it denied.
        connection: what to report with; None for the process's own, made when it is first needed.
        options: attribution of the runs that it begins itself.
    """

    def __init__(self, name: str, connection: Connection | None = None, options: RunOptions | None = None) -> None:
        self.name = name
        self.options: RunOptions = options or {}
        self._connection = connection
        self._tools: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()
        self._trouble = RareWarning(f"%d calls of {name} could not be reported as they were: %s")
        tell_of_forks(self)

    def forked(self) -> None:
        """Go on in a child."""
        self._lock = threading.Lock()

    @property
    def connection(self) -> Connection:
        """What it reports with."""
        if self._connection is None:
            self._connection = default_connection()
        return self._connection

    @property
    def guard(self) -> Guard:
        """Whom it asks."""
        return self.connection.guard

    def current_run(self) -> Run:
        """The run in whose block the code is; else one of this call's own, not begun: it begins and ends with it."""
        return CURRENT.get() or self.new_run()

    def new_run(self, **more: Any) -> Run:
        """A run with this integration's attribution, not begun yet; `more` goes before it."""
        given = {name: value for name, value in more.items() if value is not None}
        return self.connection.run(**{**self.options, **given})  # type: ignore[typeddict-item]

    def check(self, run: Run, **call: str | None) -> None:
        """Return when the run may go on. Raises Stopped or Paused."""
        self.guard.check(run, by=self.name, **_dimensions(call))

    async def acheck(self, run: Run, **call: str | None) -> None:
        """As `check`, and never waits in the event loop."""
        await AsyncGuard(self.guard).check(run, by=self.name, **_dimensions(call))

    def nudge(self, run: Run) -> str | None:
        """A sentence to put before the model, once. Ask only where it gets there."""
        return self.guard.nudge(run)

    def tool(self, run: Run, used: ToolResult, *, started_ms: int | None = None, latency_ms: int | None = None) -> None:
        """Report a tool that was used; one with an id is reported once, however often it is shown."""
        event_id = None if used.call_id is None else derived_id("tool", run.run_id, used.call_id)
        if event_id is not None and not self._is_new(event_id):
            return
        try:
            run.tool_call(
                used.tool[:LONGEST_NAME] or "unnamed", args={} if used.args is None else used.args, result=used.result,
                status=used.status, error_type=used.error_type, started_ms=started_ms, latency_ms=latency_ms,
                event_id=event_id,
            )  # fmt: skip
        except (SpendfuseError, TypeError) as error:
            self._trouble.happened(str(error))

    def tools(self, run: Run, shown: Iterable[ToolResult]) -> None:
        """Report those of the tools shown that are new. Never raises."""
        try:
            for used in shown:
                self.tool(run, used)
        except Exception as error:  # a conversation of a shape that nobody has thought of
            self._trouble.happened(f"{type(error).__name__}: a conversation that is not understood")

    def report(self, run: Run, event: Mapping[str, Any]) -> None:
        """Report a call to a model. What the contract refuses is told in the log, and breaks nothing."""
        try:
            run.llm_call(**event)
        except (SpendfuseError, TypeError) as error:
            self._trouble.happened(str(error))

    def _is_new(self, event_id: str) -> bool:
        with self._lock:
            if event_id in self._tools:
                return False
            self._tools[event_id] = None
            if len(self._tools) > TOOLS_REMEMBERED:
                self._tools.popitem(last=False)
            return True


class ModelCall:
    """One call to a model, from before it is made to its report, which is given once, by the process that made it.

    A run that nobody has begun is this call's own, and ends with it, or once nobody has the call any more.
    """

    def __init__(
        self,
        integration: Integration,
        run: Run,
        model: str,
        *,
        provider: str | None = None,
        route: str | None = None,
        prompt: object = None,
    ) -> None:
        self.run = run
        self._integration = integration
        self._model = model
        self._details: LlmCallDetails = {"provider": provider, "route": route, "started_ms": wall_clock_ms()}
        self._prompt = prompt
        self._started_s = time.monotonic()
        self._process = os.getpid()
        self._is_reported = False
        self._is_whole_run = not run.is_begun
        if self._is_whole_run:
            run.start()
            weakref.finalize(self, _leave, run, self._process)

    def done(self, usage: Usage, *, model: str | None = None, response_id: str | None = None) -> None:
        """It was answered."""
        self._report({**usage, "event_id": response_event_id(response_id)}, model, "completed")

    def ended(self, error: BaseException | None, usage: Usage | None = None, **known: str | None) -> None:
        """It was not answered to its end: because of `error`, or because nobody wanted the rest.

        `usage` is what is known of an answer that had begun. A call that failed before is one that cost nothing.
        """
        status = status_after(error)
        error_type = None if status == "cancelled" or error is None else type(error).__name__
        event_id = response_event_id(known.get("response_id"))
        if status == "error" and usage is None:
            usage = {"cost_usd": 0}
        facts = {**(usage or {}), "status": status, "error_type": error_type, "event_id": event_id}
        self._report(facts, known.get("model"), "cancelled" if error is None else self.run.status_after(error))

    def unseen(self) -> None:
        """It goes on out of sight, and is not reported."""
        self._is_reported = True
        if self._is_whole_run:
            self.run.finish("completed")

    def _report(self, facts: dict[str, Any], model: str | None, end: FinishStatus) -> None:
        if self._is_reported or os.getpid() != self._process:
            return
        self._is_reported = True
        latency_ms = round(1000 * (time.monotonic() - self._started_s))
        event = {"model": (model or self._model)[:LONGEST_NAME], "prompt": self._prompt, "latency_ms": latency_ms}
        self._integration.report(self.run, {**self._details, **event, **facts})
        if self._is_whole_run:
            self.run.finish(end)


def _leave(run: Run, process: int) -> None:
    """End the run of a call that nobody has ended, unless it is a parent's."""
    if os.getpid() == process:
        run.finish("cancelled")


def status_after(error: BaseException | None) -> CallStatus:
    """How a call ended that ended by an exception, or because nobody wanted the rest (None)."""
    return "error" if isinstance(error, Exception) and ended_by(error) == "failed" else "cancelled"


def derived_id(*parts: str) -> str:
    """An id that follows from others: the same wherever they are known."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def response_event_id(response_id: object) -> str | None:
    """The event id of a provider's response, so that a call which two integrations see counts once."""
    is_unique = isinstance(response_id, str) and len(response_id) >= SHORTEST_ID
    return derived_id("response", str(response_id)) if is_unique else None


def part(thing: object, *names: str) -> Any:
    """A member of a member of an object or a mapping; None where it has none."""
    for name in names:
        thing = thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)
    return thing


def count(thing: object, *names: str) -> int:
    """A count of tokens; 0 where it is none."""
    value = part(thing, *names)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def text(thing: object, *names: str) -> str | None:
    """A text; None where it is none."""
    value = part(thing, *names)
    return value if isinstance(value, str) and value else None


def listed(thing: object, *names: str) -> Sequence[Any]:
    """A list; an empty one where it is none."""
    value = part(thing, *names)
    return value if isinstance(value, list | tuple) else ()


def _dimensions(call: Mapping[str, str | None]) -> CallDimensions:
    return {name: value for name, value in call.items() if value is not None}  # type: ignore[return-value]
