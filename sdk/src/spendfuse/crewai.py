"""CrewAI: hooks that ask before each model and tool, and a listener that reports.

from spendfuse.crewai import install
install(workflow="support")
"""

import threading
from contextvars import ContextVar
from typing import Any, Unpack

from crewai.events import crewai_event_bus
from crewai.events.types.crew_events import CrewKickoffCompletedEvent, CrewKickoffFailedEvent
from crewai.events.types.llm_events import LLMCallCompletedEvent, LLMCallFailedEvent
from crewai.hooks import (
    register_after_tool_call_hook,
    register_before_llm_call_hook,
    register_before_tool_call_hook,
)
from crewai.hooks.dispatch import HookAborted

from spendfuse._client.connect import Connection
from spendfuse._client.errors import Paused, Stopped
from spendfuse._client.run import CURRENT, Run, RunOptions
from spendfuse._integrations.base import Integration, ModelCall, ToolResult, Usage, count, part, text

_CALL: ContextVar[ModelCall | None] = ContextVar("spendfuse_crewai_call", default=None)


class CrewStopped(HookAborted, Stopped):
    """A run that must end: CrewAI lets no other error of a hook through."""

    def __init__(self, why: Stopped) -> None:
        HookAborted.__init__(self, why.reason, "spendfuse")
        Stopped.__init__(self, why.reason, rule=why.rule, command_id=why.command_id, incident_id=why.incident_id)


class CrewPaused(HookAborted, Paused):
    """A run that must wait."""

    def __init__(self, why: Paused) -> None:
        HookAborted.__init__(self, why.reason, "spendfuse")
        Paused.__init__(
            self, why.reason, until_ms=why.until_ms, rule=why.rule, command_id=why.command_id,
            incident_id=why.incident_id,
        )  # fmt: skip


def install(connection: Connection | None = None, **attribution: Unpack[RunOptions]) -> None:
    """Have every crew of this process ask before each model and tool, and report them. Call it once.

    A kickoff of a crew is a run; in the block of a run (`with spendfuse.run(...)`) it belongs to that one. A nudge is
    put before the model. While a run may not go on, its crew ends with an error that is a `spendfuse.Stopped` or
    `spendfuse.Paused`, and CrewAI's `HookAborted`.
    """
    crews = _Crews(Integration("spendfuse.crewai", connection, attribution))
    register_before_llm_call_hook(crews.before_model)
    register_before_tool_call_hook(crews.before_tool)
    register_after_tool_call_hook(crews.after_tool)
    crewai_event_bus.register_handler(LLMCallCompletedEvent, crews.answered)
    crewai_event_bus.register_handler(LLMCallFailedEvent, crews.failed)
    crewai_event_bus.register_handler(CrewKickoffCompletedEvent, crews.completed)
    crewai_event_bus.register_handler(CrewKickoffFailedEvent, crews.kickoff_failed)


class _Crews:
    """The crews of this process."""

    def __init__(self, integration: Integration) -> None:
        self._integration = integration
        self._runs: dict[str, Run] = {}
        """Crew -> the run of its kickoff."""
        self._lock = threading.Lock()

    def before_model(self, context: Any) -> None:
        """A model is about to be asked."""
        run, llm = self._run(context), context.llm
        model = text(llm, "model") or (llm if isinstance(llm, str) else "unknown")
        provider = text(llm, "provider")
        self._ask(run, model=model, provider=provider)
        if (sentence := self._integration.nudge(run)) is not None:
            context.messages.append({"role": "user", "content": sentence})
        prompt = [part(message, "content") for message in context.messages]
        _CALL.set(ModelCall(self._integration, run, model, provider=provider, route=model, prompt=prompt))

    def before_tool(self, context: Any) -> None:
        """A tool is about to be used."""
        self._ask(self._run(context))

    def after_tool(self, context: Any) -> None:
        """A tool has answered."""
        used = ToolResult(None, text(context, "tool_name") or "unnamed", context.tool_input, context.tool_result)
        self._integration.tool(self._run(context), used)

    def answered(self, _: Any, event: Any) -> None:
        """A model has answered: told in the context in which it was asked."""
        call = _CALL.get()
        if call is not None:
            call.done(_usage(event.usage), response_id=event.response_id)

    def failed(self, _: Any, event: Any) -> None:
        """A model has not answered."""
        call = _CALL.get()
        if call is not None:
            call.ended(RuntimeError("model_error"))

    def completed(self, crew: Any, _: Any) -> None:
        """A kickoff is done."""
        self._finish(crew, failed=False)

    def kickoff_failed(self, crew: Any, _: Any) -> None:
        """A kickoff has failed."""
        self._finish(crew, failed=True)

    def _finish(self, crew: Any, *, failed: bool) -> None:
        with self._lock:
            run = self._runs.pop(str(part(crew, "id")), None)
        if run is not None:
            run.finish("killed" if run.stop_event.is_set() else "failed" if failed else "completed")

    def _ask(self, run: Run, **call: str | None) -> None:
        try:
            self._integration.check(run, **call)
        except Stopped as why:
            raise CrewStopped(why) from None
        except Paused as why:
            raise CrewPaused(why) from None

    def _run(self, context: Any) -> Run:
        crew = part(context, "crew")
        if CURRENT.get() is not None or crew is None:
            return self._integration.current_run()
        key = str(part(crew, "id"))
        with self._lock:
            if key not in self._runs:
                workflow = self._integration.options.get("workflow") or text(crew, "name")
                self._runs[key] = self._integration.new_run(workflow=workflow).start()
            return self._runs[key]


def _usage(usage: object) -> Usage:
    """Usage as CrewAI has it, the same for all providers."""
    return {
        "input_tokens": count(usage, "prompt_tokens") or count(usage, "input_tokens"),
        "output_tokens": count(usage, "completion_tokens") or count(usage, "output_tokens"),
        "cache_read_tokens": count(usage, "cached_prompt_tokens"),
        "cache_write_tokens": count(usage, "cache_creation_tokens"),
        "reasoning_tokens": count(usage, "reasoning_tokens"),
    }
