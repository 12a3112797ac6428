"""AutoGen: a model client that asks before each call, and reports it; tools are told by AutoGen's own log.

from spendfuse.autogen import guarded
agent = AssistantAgent("asker", model_client=guarded(OpenAIChatCompletionClient(model="gpt-5")))
"""

import functools
import inspect
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, TypeVar, Unpack, cast

from autogen_core import EVENT_LOGGER_NAME
from autogen_core.logging import LLMCallEvent, LLMStreamEndEvent, ToolCallEvent
from autogen_core.models import ChatCompletionClient, CreateResult, UserMessage

from spendfuse._client.connect import Connection
from spendfuse._client.run import Run, RunOptions
from spendfuse._integrations.base import Integration, ModelCall, ToolResult, Usage, count, part, text
from spendfuse._integrations.openai_api import openai_usage

C = TypeVar("C", bound=ChatCompletionClient)
NAME = "spendfuse.autogen"
_LOGGED: ContextVar[dict[str, Any] | None] = ContextVar("spendfuse_autogen_logged", default=None)
"""What AutoGen's log says of the answer under way: more than it returns."""


def guarded(client: C, connection: Connection | None = None, **attribution: Unpack[RunOptions]) -> C:
    """Have a model client ask before each call, and report it; the same client is returned.

    A call belongs to the run in whose block it is made (`with spendfuse.run(...)`), else to a run of its own with this
    `attribution`. Tools that AutoGen uses in such a block are reported. A nudge is put before the model. Raises
    `spendfuse.Stopped` or `spendfuse.Paused` while the run may not go on.
    """
    integration = Integration(NAME, connection, attribution)
    _Log.listen(integration)
    calls = _Calls(integration, _model_of(client))
    whole = cast("Any", client)
    whole.create = calls.asking(whole.create)
    whole.create_stream = calls.asking_streamed(whole.create_stream)
    return client


class _Calls:
    """The calls of one model client."""

    def __init__(self, integration: Integration, model: str) -> None:
        self._integration = integration
        self._model = model

    def asking(self, create: Any) -> Any:
        @functools.wraps(create)
        async def guarded_create(messages: Any, **options: Any) -> CreateResult:
            call, messages = await self._begin(messages)
            logged: dict[str, Any] = {}
            token = _LOGGED.set(logged)
            try:
                result = await create(messages, **options)
            except BaseException as error:
                call.ended(error)
                raise
            finally:
                _LOGGED.reset(token)
            _report(call, result, logged)
            return cast("CreateResult", result)

        return guarded_create

    def asking_streamed(self, create: Any) -> Any:
        is_said = part(create, "__self__", "_create_args", "stream_options") is not None
        asks_usage = "include_usage" in inspect.signature(create).parameters and not is_said

        @functools.wraps(create)
        async def guarded_create(messages: Any, **options: Any) -> AsyncGenerator[str | CreateResult, None]:
            call, messages = await self._begin(messages)
            if asks_usage and "stream_options" not in (options.get("extra_create_args") or {}):
                options.setdefault("include_usage", True)  # the stream would say nothing of what it has cost
            logged: dict[str, Any] = {}
            _LOGGED.set(logged)
            written = 0
            try:
                async with aclosing(create(messages, **options)) as parts:
                    async for each in parts:
                        if isinstance(each, CreateResult):
                            _report(call, each, logged)
                        written += isinstance(each, str)
                        if call.run.stop_event.is_set():
                            await self._integration.acheck(call.run)
                        yield each
            except BaseException as error:
                call.ended(error, {"output_tokens": written} if written else None)
                raise
            finally:
                _LOGGED.set(None)

        return guarded_create

    async def _begin(self, messages: Any) -> tuple[ModelCall, Any]:
        run = self._integration.current_run()
        await self._integration.acheck(run, model=self._model)
        if (sentence := self._integration.nudge(run)) is not None:
            messages = [*messages, UserMessage(content=sentence, source="spendfuse")]
        prompt = [part(message, "content") for message in messages]
        return ModelCall(self._integration, run, self._model, route=self._model, prompt=prompt), messages


class _Log(logging.Handler):
    """Hears AutoGen's events, in the context of those who cause them."""

    _installed: "_Log | None" = None

    def __init__(self, integration: Integration) -> None:
        super().__init__()
        self._integration = integration

    @classmethod
    def listen(cls, integration: Integration) -> None:
        """Begin, once a process."""
        if cls._installed is None:
            cls._installed = cls(integration)
            log = logging.getLogger(EVENT_LOGGER_NAME)
            log.addHandler(cls._installed)
            if not log.isEnabledFor(logging.INFO):
                log.setLevel(logging.INFO)
                log.propagate = False  # it holds whole conversations: nobody has asked to see them

    def emit(self, record: logging.LogRecord) -> None:
        """Take in an event. Never raises."""
        event = record.msg
        logged = _LOGGED.get()
        if isinstance(event, LLMCallEvent | LLMStreamEndEvent) and logged is not None:
            logged |= event.kwargs
        elif isinstance(event, ToolCallEvent):
            run: Run = self._integration.current_run()
            used = ToolResult(
                None, text(event.kwargs, "tool_name") or "unnamed", event.kwargs.get("arguments"),
                event.kwargs.get("result"),
            )  # fmt: skip
            self._integration.tool(run, used)


def _report(call: ModelCall, result: CreateResult, logged: dict[str, Any]) -> None:
    if result.cached:
        call.done(Usage(cache_hit=True, cost_usd=0))
        return
    response = logged.get("response")
    told = part(response, "usage")
    usage = openai_usage(told) if told is not None else Usage()
    if not usage.get("input_tokens"):
        usage = {
            "input_tokens": count(result, "usage", "prompt_tokens"),
            "output_tokens": count(result, "usage", "completion_tokens"),
        }
    call.done(usage, model=text(response, "model"), response_id=text(response, "id"))


def _model_of(client: Any) -> str:
    """Which model a client asks, as far as it says."""
    return text(client, "_create_args", "model") or text(client, "_model") or text(client, "model") or "unknown"
