"""LangChain and LangGraph: a callback handler that reports each model and tool, and stops what may not go on.

from spendfuse.langchain import SpendfuseHandler
graph.invoke(state, config={"callbacks": [SpendfuseHandler(workflow="support")]})

An agent of `langchain.agents.create_agent` hears nudges with `middleware=[handler.middleware()]`.
"""

from collections.abc import Mapping
from typing import Any, Unpack
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from spendfuse._client.connect import Connection
from spendfuse._client.run import CURRENT, CallStatus, Run, RunOptions
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
        self._calls: dict[UUID, ModelCall] = {}
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

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """A model has answered."""
        call = self._calls.pop(run_id, None)
        if call is not None:
            message = part(response.generations[0][0], "message") if response.generations else None
            metadata = part(message, "response_metadata") or {}
            response_id = text(metadata, "id") or text(message, "id")
            if response_id is not None and response_id.startswith(("run-", "lc_")):
                response_id = None  # LangChain's own
            call.done(
                _usage(message, part(response, "llm_output")),
                model=in_mode(text(metadata, "model_name") or text(metadata, "model"), part(metadata, "usage")),
                response_id=response_id,
            )
        self._end(run_id, None)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """A model has not answered."""
        call = self._calls.pop(run_id, None)
        if call is not None:
            call.ended(error)
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
        """A tool has failed."""
        if status_after(error) == "error":
            self._report_tool(run_id, None, str(error), type(error).__name__)
        self._end(run_id, error)

    def _ask_model(self, prompt: object, run_id: UUID, parent_run_id: UUID | None, more: Mapping[str, Any]) -> None:
        run = self._begin(run_id, parent_run_id, more)
        model = text(more, "metadata", "ls_model_name") or text(more, "invocation_params", "model") or "unknown"
        provider = text(more, "metadata", "ls_provider")
        self._ask(run, run_id, model=model, provider=provider)
        self._calls[run_id] = ModelCall(
            self._integration, run, model, provider=provider, route=model, prompt=prompt
        )  # fmt: skip

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


def _usage(message: object, output: object) -> Usage:
    """Usage as LangChain has it, the same for all providers; where it has none, as the provider has said it."""
    usage = part(message, "usage_metadata")
    if usage is None:
        told = part(output, "token_usage") or part(output, "usage")
        return Usage() if told is None else openai_usage(told)
    inputs, outputs = part(usage, "input_token_details"), part(usage, "output_token_details")
    found: Usage = {
        "input_tokens": count(usage, "input_tokens"),
        "output_tokens": count(usage, "output_tokens"),
        "cache_read_tokens": count(inputs, "cache_read"),
        "cache_write_tokens": count(inputs, "cache_creation"),
        "cache_write_1h_tokens": count(inputs, "ephemeral_1h_input_tokens"),
        "reasoning_tokens": count(outputs, "reasoning"),
        "input_audio_tokens": count(inputs, "audio"),
        "output_audio_tokens": count(outputs, "audio"),
    }
    tier = part(message, "response_metadata", "service_tier")
    if tier in TIERS:
        found["service_tier"] = TIERS[tier]
    return found
