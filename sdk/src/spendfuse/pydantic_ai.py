"""Pydantic AI: a capability that asks before each model and tool, and reports them.

from spendfuse.pydantic_ai import Spendfuse
agent = Agent("openai:gpt-5", capabilities=[Spendfuse(workflow="support")])
"""

from typing import Any, Unpack

from pydantic_ai.capabilities import AbstractCapability

from spendfuse._client.connect import Connection
from spendfuse._client.run import CURRENT, Run, RunOptions
from spendfuse._integrations.base import Integration, ModelCall, ToolResult, Usage, count, part, status_after, text


class Spendfuse(AbstractCapability[Any]):
    """Asks and reports. A run of the agent is a run, its conversation the session; in the block of a run
    (`with spendfuse.run(...)`) it belongs to that one. A nudge is put before the model, and stays in the conversation.
    """

    def __init__(self, connection: Connection | None = None, **attribution: Unpack[RunOptions]) -> None:
        self._integration = Integration("spendfuse.pydantic_ai", connection, attribution)

    async def wrap_run(self, ctx: Any, *, handler: Any) -> Any:
        """A run of the agent."""
        if CURRENT.get() is not None:
            return await handler()
        workflow = self._integration.options.get("workflow") or text(ctx, "agent", "name")
        session_id = text(ctx, "conversation_id")
        with self._integration.new_run(run_id=text(ctx, "run_id"), session_id=session_id, workflow=workflow):
            return await handler()

    async def before_model_request(self, ctx: Any, request_context: Any) -> Any:
        """A sentence may have to be put before the model."""
        if (sentence := self._integration.nudge(self._run())) is not None:
            ctx.enqueue(sentence)
        return request_context

    async def wrap_model_request(self, ctx: Any, *, request_context: Any, handler: Any) -> Any:
        """A model is about to be asked. Raises Stopped or Paused."""
        run, model = self._run(), request_context.model
        named, provider = text(model, "model_name") or "unknown", text(model, "system")
        await self._integration.acheck(run, model=named, provider=provider)
        prompt = [part(message, "parts") for message in request_context.messages]
        call = ModelCall(self._integration, run, named, provider=provider, route=named, prompt=prompt)
        try:
            response = await handler(request_context)
        except BaseException as error:
            billed = part(request_context, "_usage_response_ledger", "responses")
            begun = billed[-1] if isinstance(billed, list) and billed else None
            call.ended(error, None if begun is None else _usage(begun), **_known(begun))
            raise
        if _is_cut(response):
            call.ended(None, _usage(response), **_known(response))
        else:
            call.done(_usage(response), **_known(response))
        return response

    async def wrap_tool_execute(self, ctx: Any, *, call: Any, tool_def: Any, args: Any, handler: Any) -> Any:
        """A tool is about to be used. Raises Stopped or Paused."""
        run = self._run()
        await self._integration.acheck(run)
        try:
            result = await handler(args)
        except Exception as error:
            used = ToolResult(
                call.tool_call_id, call.tool_name, args, str(error), status_after(error), type(error).__name__
            )
            self._integration.tool(run, used)
            raise
        self._integration.tool(run, ToolResult(call.tool_call_id, call.tool_name, args, result))
        return result

    def _run(self) -> Run:
        return self._integration.current_run()


def _usage(response: object) -> Usage:
    """What an answer has used. One that was left, or has broken off, has a token in each of its parts at least."""
    usage = part(response, "usage")
    parts = part(response, "parts") if _is_cut(response) else None
    return {
        "input_tokens": count(usage, "input_tokens"),
        "output_tokens": max(count(usage, "output_tokens"), len(parts or ())),
        "cache_read_tokens": count(usage, "cache_read_tokens"),
        "cache_write_tokens": count(usage, "cache_write_tokens"),
        "cache_write_1h_tokens": count(usage, "cache_write_1h_tokens"),
        "reasoning_tokens": count(usage, "output_reasoning_tokens") or count(usage, "details", "reasoning_tokens"),
        "input_audio_tokens": count(usage, "input_audio_tokens"),
        "output_audio_tokens": count(usage, "output_audio_tokens"),
    }


def _is_cut(response: object) -> bool:
    return text(response, "state") in ("incomplete", "interrupted")


def _known(response: object) -> dict[str, str | None]:
    return {"model": text(response, "model_name"), "response_id": text(response, "provider_response_id")}
