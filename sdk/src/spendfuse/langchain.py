"""LangChain and LangGraph: a callback handler that reports each model and tool, and stops what may not go on.

from spendfuse.langchain import SpendfuseHandler
graph.invoke(state, config={"callbacks": [SpendfuseHandler(workflow="support")]})

An agent of `langchain.agents.create_agent` hears nudges with `middleware=[handler.middleware()]`.
"""

from collections.abc import Mapping
from typing import Any, Unpack, cast
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from spendfuse._client.connect import Connection
from spendfuse._client.run import CURRENT, CallStatus, Run, RunOptions
from spendfuse._integrations.answer import Seen
from spendfuse._integrations.anthropic_api import in_mode
from spendfuse._integrations.base import Integration, ModelCall, ToolResult, Usage, count, part, status_after, text
from spendfuse._integrations.openai_api import TIERS, openai_usage


class SpendfuseHandler(BaseCallbackHandler):
    """Reports and asks. What one `invoke` begins is a run, with the thread of LangGraph as its session; in the block of
    a run (`with spendfuse.run(...)`) it belongs to that one.

    A callback cannot change what the model is asked: nudges are handed over by `middleware` alone, and of others the
    service knows that they were not.
    """

    raise_error = True
    run_inline = True

    def __init__(self, connection: Connection | None = None, **attribution: Unpack[RunOptions]) -> None:
        self._integration = Integration("spendfuse.langchain", connection, attribution)
        self._runs: dict[UUID, Run] = {}
        """Each step under way -> the run that it belongs to."""
        self._own: dict[UUID, Run] = {}
        """The steps that have begun a run, which ends with them."""
        self._calls: dict[UUID, tuple[ModelCall, Seen]] = {}
        """Each model that is asked, with what has come of its answer."""
        self._tools: dict[UUID, tuple[str, object]] = {}

    def middleware(self) -> Any:
        """For `create_agent(…, middleware=[handler.middleware()])`: puts nudges before the model. Needs `langchain`."""
        from spendfuse._integrations.langchain_agent import NudgeMiddleware  # noqa: PLC0415 - chains do without agents

        return NudgeMiddleware(self._integration, self._run_of)

    def _run_of(self, callbacks: Any) -> Run | None:
        """The run of a step, by its callback manager; else the one in whose block it is."""
        step = getattr(callbacks, "parent_run_id", None)
        return (None if step is None else self._runs.get(step)) or CURRENT.get()

    def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **more: Any
    ) -> None:
        """A step has begun."""
        self._begin(run_id, parent_run_id, more)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        """It is done."""
        self._end(run_id, None)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """It has failed."""
        self._end(run_id, error)

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **more: Any,
    ) -> None:
        """A model is about to be asked. Raises Stopped or Paused."""
        self._ask_model([message.content for message in messages[0]], run_id, parent_run_id, more)

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **more: Any,
    ) -> None:
        """As `on_chat_model_start`, of a model that takes texts."""
        self._ask_model(prompts, run_id, parent_run_id, more)

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, run_id: UUID, **_: Any) -> None:
        """A part of a streamed answer has come. Raises Stopped once its run is killed, which ends the stream."""
        if run_id not in self._calls:
            return
        call, seen = self._calls[run_id]
        seen.take(WORDS, part(chunk, "message") or token)
        if call.run.stop_event.is_set():
            self._integration.check(call.run)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """A model has answered."""
        if run_id in self._calls:
            call, seen = self._calls.pop(run_id)
            seen.take(WORDS, part(response.generations[0][0], "message") if response.generations else None)
            told = part(response, "llm_output", "token_usage") or part(response, "llm_output", "usage")
            call.done(seen.usage or (Usage() if told is None else openai_usage(told)), **seen.known)
        self._end(run_id, None)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """A model has not answered, or not to the end."""
        if run_id in self._calls:
            call, seen = self._calls.pop(run_id)
            call.ended(error, seen.begun(), **seen.known)
        self._end(run_id, error)

    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        inputs: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """A tool is about to be used. Raises Stopped or Paused."""
        run = self._begin(run_id, parent_run_id, more)
        self._ask(run, run_id)
        self._tools[run_id] = (text(serialized, "name") or "unnamed", inputs or input_str)

    def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        """A tool has answered."""
        result = part(output, "content") if isinstance(output, BaseMessage) else output
        failed = part(output, "status") == "error"
        self._report_tool(run_id, text(output, "tool_call_id"), result, "error" if failed else None)
        self._end(run_id, None)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """A tool has failed. One that waits for a person, by an interrupt of LangGraph, has not: it is used again."""
        if status_after(error) == "error" and not _is_interrupt(error):
            self._report_tool(run_id, None, str(error), type(error).__name__)
        self._tools.pop(run_id, None)
        self._end(run_id, error)

    def _ask_model(self, prompt: object, run_id: UUID, parent_run_id: UUID | None, more: Mapping[str, Any]) -> None:
        run = self._begin(run_id, parent_run_id, more)
        model = text(more, "metadata", "ls_model_name") or text(more, "invocation_params", "model") or "unknown"
        provider = text(more, "metadata", "ls_provider")
        self._ask(run, run_id, model=model, provider=provider)
        call = ModelCall(self._integration, run, model, provider=provider, route=model, prompt=prompt)
        self._calls[run_id] = (call, Seen())

    def _ask(self, run: Run, run_id: UUID, **call: str | None) -> None:
        try:
            self._integration.check(run, **call)
        except BaseException as error:
            self._end(run_id, error)  # LangChain does not tell of a step that its callback has kept from beginning
            raise

    def _report_tool(self, run_id: UUID, call_id: str | None, result: object, error_type: str | None) -> None:
        run, used = self._runs.get(run_id), self._tools.pop(run_id, None)
        if run is not None and used is not None:
            named = None if error_type == "error" else error_type
            status: CallStatus = "error" if error_type else "ok"
            self._integration.tool(run, ToolResult(call_id or str(run_id), *used, result, status, named))

    def _begin(self, run_id: UUID, parent_run_id: UUID | None, more: Mapping[str, Any]) -> Run:
        run = None if parent_run_id is None else self._runs.get(parent_run_id)
        run = run or CURRENT.get()
        if run is None:
            thread = part(more, "metadata", "thread_id")
            session_id = None if thread is None else str(thread)[:128]
            run = self._own[run_id] = self._integration.new_run(run_id=str(run_id), session_id=session_id).start()
        self._runs[run_id] = run
        return run

    def _end(self, run_id: UUID, error: BaseException | None) -> None:
        self._runs.pop(run_id, None)
        run = self._own.pop(run_id, None)
        if run is not None:
            run.finish(run.status_after(error))


class _Words:
    """How LangChain's messages are read, whole or in parts: the same for all providers."""

    def is_output(self, message: object) -> bool:
        """Whether a part of a stream holds something that the model has written."""
        if isinstance(message, str):
            return bool(message)
        return any(part(message, name) for name in ("content", "tool_call_chunks", "additional_kwargs"))

    def usage(self, message: object) -> Usage | None:
        """What it says of usage. Of a stream each part tells what it adds to, so that what is 0 there is left out."""
        usage = part(message, "usage_metadata")
        if usage is None:
            return None
        inputs, outputs = part(usage, "input_token_details"), part(usage, "output_token_details")
        counts: Usage = {
            "input_tokens": count(usage, "input_tokens"),
            "output_tokens": count(usage, "output_tokens"),
            "cache_read_tokens": count(inputs, "cache_read"),
            "cache_write_tokens": count(inputs, "cache_creation"),
            "cache_write_1h_tokens": count(inputs, "ephemeral_1h_input_tokens"),
            "reasoning_tokens": count(outputs, "reasoning"),
            "input_audio_tokens": count(inputs, "audio"),
            "output_audio_tokens": count(outputs, "audio"),
        }
        found = cast("Usage", {name: tokens for name, tokens in counts.items() if tokens})
        tier = part(message, "response_metadata", "service_tier")
        if tier in TIERS:
            found["service_tier"] = TIERS[tier]
        return found

    def response_id(self, message: object) -> str | None:
        """The provider's id of the answer, where LangChain hands it on and has made none of its own."""
        response_id = text(message, "response_metadata", "id") or text(message, "id")
        return None if response_id is None or response_id.startswith(("run-", "lc_")) else response_id

    def model(self, message: object) -> str | None:
        """Which model has answered, and whether in fast mode."""
        metadata = part(message, "response_metadata")
        return in_mode(text(metadata, "model_name") or text(metadata, "model"), part(metadata, "usage"))


WORDS = _Words()


def _is_interrupt(error: BaseException) -> bool:
    """Whether it is no failure, but LangGraph's way out of a tool, to a person or to another graph."""
    return any(kind.__name__ == "GraphBubbleUp" for kind in type(error).__mro__)
