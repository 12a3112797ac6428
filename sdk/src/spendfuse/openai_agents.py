"""OpenAI's Agents SDK: run hooks that ask before each model and tool, and a trace processor that reports.

from spendfuse.openai_agents import SpendfuseHooks
await Runner.run(agent, question, hooks=SpendfuseHooks(workflow="support"))
"""

import threading
from datetime import datetime
from typing import Any, Unpack
from weakref import WeakKeyDictionary, finalize

from agents import RunHooks, Span, Trace, TracingProcessor, add_trace_processor, get_current_trace

from spendfuse._client.connect import Connection
from spendfuse._client.run import CURRENT, Run, RunOptions
from spendfuse._integrations.base import (
    Integration,
    ModelCall,
    ToolResult,
    part,
    response_event_id,
    text,
)
from spendfuse._integrations.openai_api import openai_usage, parsed

NAME = "spendfuse.openai_agents"


class SpendfuseHooks(RunHooks[Any]):
    """Asks before each model and tool, and reports them.

    A trace is a run, its group the session; in the block of a run (`with spendfuse.run(...)`) it belongs to that one.
    A nudge is put before the model. Without tracing, name the run by such a block: each call is its own otherwise.
    """

    def __init__(self, connection: Connection | None = None, **attribution: Unpack[RunOptions]) -> None:
        self._integration = Integration(NAME, connection, attribution)
        self._traces = _Traces.of(self._integration)
        self._untraced: WeakKeyDictionary[Any, ModelCall] = WeakKeyDictionary()

    async def on_llm_start(self, context: Any, agent: Any, system_prompt: str | None, input_items: list[Any]) -> None:
        """A model is about to be asked. Raises Stopped or Paused."""
        run, model = self._run(), _model_of(agent)
        await self._integration.acheck(run, model=model, provider="openai")
        if (sentence := self._integration.nudge(run)) is not None:
            input_items.append({"role": "user", "content": sentence})
        if not _is_traced():
            call = self._untraced[context] = ModelCall(self._integration, run, model, provider="openai", route=model)
            finalize(context, call.ended, None)  # no hook tells of a call that fails

    async def on_llm_end(self, context: Any, agent: Any, response: Any) -> None:
        """A model has answered; where there is a trace, that tells."""
        call = self._untraced.pop(context, None)
        if call is not None:
            call.done(openai_usage(response.usage), response_id=text(response, "response_id"))

    async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
        """A tool is about to be used. Raises Stopped or Paused."""
        await self._integration.acheck(self._run())

    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
        """A tool has answered."""
        args = parsed(part(context, "tool_arguments"))
        used = ToolResult(text(context, "tool_call_id"), text(tool, "name") or "unnamed", args, result)
        self._integration.tool(self._run(), used)

    def _run(self) -> Run:
        trace = get_current_trace()
        run = None if trace is None else self._traces.runs.get(trace.trace_id)
        return run or self._integration.current_run()


class _Traces(TracingProcessor):
    """Begins and ends a run with each trace, and reports the models that it tells of: no span that sums others up."""

    _lock = threading.Lock()
    _installed: "_Traces | None" = None

    def __init__(self, integration: Integration) -> None:
        self._integration = integration
        self.runs: dict[str, Run] = {}
        """Trace -> its run."""
        self._failed: set[str] = set()
        """Traces in which something has failed, and no model was heard since."""

    @classmethod
    def of(cls, integration: Integration) -> "_Traces":
        """The process's own, made when it is first needed, with that one's connection and attribution."""
        with cls._lock:
            if cls._installed is None:
                cls._installed = cls(integration)
                add_trace_processor(cls._installed)
            return cls._installed

    def on_trace_start(self, trace: Trace) -> None:
        """A run begins."""
        run = CURRENT.get()
        if run is None:
            run = self._integration.new_run(
                run_id=trace.trace_id[:128], session_id=text(trace, "group_id"),
                workflow=self._integration.options.get("workflow") or trace.name,
            ).start()  # fmt: skip
        self.runs[trace.trace_id] = run

    def on_trace_end(self, trace: Trace) -> None:
        """It ends, unless it is somebody's block."""
        run = self.runs.pop(trace.trace_id, None)
        failed = trace.trace_id in self._failed
        self._failed.discard(trace.trace_id)
        if run is not None and run.run_id == trace.trace_id[:128]:
            run.finish("killed" if run.stop_event.is_set() else "failed" if failed else "completed")

    def on_span_start(self, span: Span[Any]) -> None:
        """Nothing is known yet."""

    def on_span_end(self, span: Span[Any]) -> None:
        """A model has answered, or failed."""
        data, run, failed = span.span_data, self.runs.get(span.trace_id), span.error is not None
        if run is None:
            return
        is_model = data.type in ("generation", "response")
        if failed:
            self._failed.add(span.trace_id)
        if not is_model:
            return
        if not failed:
            self._failed.discard(span.trace_id)
        response = part(data, "response")
        model = text(response, "model") or text(data, "model") or "unknown"
        usage = part(data, "usage") or part(response, "usage")
        event_id = response_event_id(text(response, "id")) or span.span_id
        latency_ms = _latency_ms(span)
        facts: dict[str, Any] = {"cost_usd": 0} if failed and usage is None else dict(openai_usage(usage))
        facts |= {"status": "error", "error_type": "model_error"} if failed else {}
        self._integration.report(
            run, {**facts, "model": model, "provider": "openai", "event_id": event_id, "latency_ms": latency_ms}
        )

    def shutdown(self) -> None:
        """Nothing is held."""

    def force_flush(self) -> None:
        """Nothing is held."""


def _is_traced() -> bool:
    trace = get_current_trace()
    return trace is not None and _Traces._installed is not None and trace.trace_id in _Traces._installed.runs


def _model_of(agent: Any) -> str:
    """Which model an agent asks, as far as it says."""
    model = part(agent, "model")
    return model if isinstance(model, str) else text(model, "model") or "default"


def _latency_ms(span: Span[Any]) -> int | None:
    try:
        begun, ended = datetime.fromisoformat(span.started_at or ""), datetime.fromisoformat(span.ended_at or "")
    except ValueError:
        return None
    return max(0, round((ended - begun).total_seconds() * 1000))
