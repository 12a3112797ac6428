"""Claude's Agent SDK: its own `query` and `ClaudeSDKClient`, which report each model and tool and ask before each step.

from spendfuse.claude_agent import query  # in place of claude_agent_sdk's
"""

import asyncio
import dataclasses
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Any, cast

import claude_agent_sdk
from claude_agent_sdk import AssistantMessage, ClaudeAgentOptions, HookMatcher, ResultMessage, StreamEvent

from spendfuse._client.connect import Connection
from spendfuse._client.errors import Paused, Stopped
from spendfuse._client.run import CURRENT, Run, RunOptions
from spendfuse._integrations.answer import Seen
from spendfuse._integrations.anthropic_api import Anthropic
from spendfuse._integrations.base import Integration, ModelCall, ToolResult, text

NAME = "spendfuse.claude_agent"
HOOK_S = 30.0
_KNOWN = {field.name for field in dataclasses.fields(HookMatcher)}
IF_A_HOOK_FAILS: dict[str, Any] = {"on_failure": "block"} if "on_failure" in _KNOWN else {}
"""A hook that is not answered, because we end, is no permission."""


async def query(
    *,
    prompt: str | AsyncIterable[dict[str, Any]],
    options: ClaudeAgentOptions | None = None,
    transport: Any = None,
    connection: Connection | None = None,
    attribution: RunOptions | None = None,
) -> AsyncIterator[Any]:
    """As `claude_agent_sdk.query`. Raises Stopped or Paused while the run may not go on, which ends Claude Code.

    A session is a run; in the block of a run (`with spendfuse.run(...)`) it belongs to that one.
    """
    session = _Session(Integration(NAME, connection, attribution), options or ClaudeAgentOptions())
    asked = claude_agent_sdk.query(prompt=prompt, options=session.options, transport=transport)
    try:
        async with aclosing(cast("Any", session.watched(asked))) as messages:
            async for message in messages:
                yield message
    except BaseException as error:
        session.end(error)
        raise


class ClaudeSDKClient(claude_agent_sdk.ClaudeSDKClient):
    """As `claude_agent_sdk.ClaudeSDKClient`; a session is a run, as with `query`."""

    def __init__(
        self,
        options: ClaudeAgentOptions | None = None,
        transport: Any = None,
        connection: Connection | None = None,
        attribution: RunOptions | None = None,
    ) -> None:
        self._session = _Session(Integration(NAME, connection, attribution), options or ClaudeAgentOptions())
        super().__init__(self._session.options, transport)

    async def receive_messages(self) -> AsyncIterator[Any]:
        """As the one that it overrides. Raises Stopped or Paused while the run may not go on."""
        async with aclosing(cast("Any", self._session.watched(super().receive_messages()))) as messages:
            async for message in messages:
                yield message

    async def disconnect(self) -> None:
        """As the one that it overrides. The session is over, and its run ends."""
        await super().disconnect()
        self._session.end(None)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """As the one that it overrides."""
        if error is not None:
            self._session.end(error)
        return bool(await super().__aexit__(kind, error, trace))


class _Session:
    """What is known of one use of Claude Code."""

    def __init__(self, integration: Integration, options: ClaudeAgentOptions) -> None:
        self._integration = integration
        self._words = Anthropic()
        self._given = CURRENT.get()
        self._runs: dict[str, Run] = {}
        self._calls: dict[str | None, tuple[ModelCall, Seen]] = {}
        """Each answer under way, by the tool call whose agent asks."""
        self._told: dict[str, AssistantMessage] = {}
        """Answers whose end has not been told, by their ids."""
        self._shows_parts = options.include_partial_messages
        self.options = self._with_hooks(options)

    def _with_hooks(self, options: ClaudeAgentOptions) -> ClaudeAgentOptions:
        """The options with our hooks behind those that are there; a hook that fails keeps the step from being taken."""
        hooks: dict[Any, list[HookMatcher]] = {name: list(given) for name, given in (options.hooks or {}).items()}
        ours = {
            "UserPromptSubmit": self._before_prompt, "PreToolUse": self._before_tool, "PostToolUse": self._after_tool,
            "PostToolUseFailure": self._after_failure,
        }  # fmt: skip
        for event, hook in ours.items():
            hooks.setdefault(event, []).append(HookMatcher(hooks=[hook], timeout=HOOK_S, **IF_A_HOOK_FAILS))
        return dataclasses.replace(options, hooks=hooks, include_partial_messages=True)

    async def watched(self, messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """The messages, with those left out that only we have asked for."""
        if self._given is not None:
            await self._integration.acheck(self._given)
        try:
            async for message in messages:
                run = self._run(text(message, "session_id"))
                self._take(run, message)
                if run is not None:
                    await self._integration.acheck(run)
                if self._shows_parts or not isinstance(message, StreamEvent):
                    yield message
        except (GeneratorExit, asyncio.CancelledError):  # nobody reads on for now: a client's session goes on
            self._leave(None)
            raise
        except BaseException as error:
            self.end(error)
            raise
        self.end(None)

    def _run(self, session_id: str | None) -> Run | None:
        if self._given is not None or session_id is None:
            return self._given
        if session_id not in self._runs:
            self._runs[session_id] = self._integration.new_run(run_id=session_id, session_id=session_id).start()
        return self._runs[session_id]

    def _take(self, run: Run | None, message: Any) -> None:
        if run is None:
            return
        if isinstance(message, StreamEvent):
            self._take_part(run, message.parent_tool_use_id, message.event)
        elif isinstance(message, AssistantMessage) and message.message_id and message.usage:
            self._told.setdefault(message.message_id, message)
        elif isinstance(message, ResultMessage):
            self._report_told(run)

    def _take_part(self, run: Run, agent: str | None, event: Mapping[str, Any]) -> None:
        kind = event.get("type")
        if kind == "message_start":
            model = text(event, "message", "model") or "unknown"
            self._calls[agent] = (ModelCall(self._integration, run, model, provider="anthropic", route=model), Seen())
        if agent not in self._calls:
            return
        call, seen = self._calls[agent]
        seen.take(self._words, event)
        if kind == "message_stop":
            del self._calls[agent]
            self._told[seen.known.get("response_id") or ""] = cast("AssistantMessage", None)
            call.done(seen.usage, **seen.known)

    def _report_told(self, run: Run) -> None:
        """Answers of which no parts came, such as those of an agent that Claude has begun itself."""
        for message_id, message in self._told.items():
            if message is not None:
                call = ModelCall(self._integration, run, message.model, provider="anthropic", route=message.model)
                call.done(self._words.usage(message) or {}, response_id=message_id)
        self._told.clear()

    def end(self, error: BaseException | None) -> None:
        """It is over: so are the runs that it has begun, and answers that are under way."""
        self._leave(error)
        for run in self._runs.values():
            run.finish(run.status_after(error))

    def _leave(self, error: BaseException | None) -> None:
        for call, seen in self._calls.values():
            call.ended(error, seen.so_far(), **seen.known)
        self._calls.clear()

    async def _before_prompt(self, asked: Any, _: str | None, __: Any) -> Any:
        reason = await self._reason(asked)
        return {} if reason is None else {"continue_": False, "stopReason": reason}

    async def _before_tool(self, asked: Any, _: str | None, __: Any) -> Any:
        reason = await self._reason(asked)
        if reason is None:
            return {}
        denied = {"permissionDecision": "deny", "permissionDecisionReason": reason}
        return {
            "continue_": False,
            "stopReason": reason,
            "hookSpecificOutput": {"hookEventName": "PreToolUse", **denied},
        }

    async def _after_tool(self, asked: Any, _: str | None, __: Any) -> Any:
        self._tool(asked, asked.get("tool_response"), failed=False)
        return await self._after(asked)

    async def _after_failure(self, asked: Any, _: str | None, __: Any) -> Any:
        self._tool(asked, asked.get("error"), failed=True)
        return await self._after(asked)

    def _tool(self, asked: Mapping[str, Any], result: object, *, failed: bool) -> None:
        run = self._run(text(asked, "session_id"))
        if run is not None:
            used = ToolResult(
                text(asked, "tool_use_id"), text(asked, "tool_name") or "unnamed", asked.get("tool_input"), result,
                "error" if failed else "ok",
            )  # fmt: skip
            self._integration.tool(run, used, latency_ms=asked.get("duration_ms"))

    async def _after(self, asked: Mapping[str, Any]) -> Any:
        """After a tool the model is asked next: not while the run is stopped, and with what it is to be told."""
        reason = await self._reason(asked)
        if reason is not None:
            return {"continue_": False, "stopReason": reason}
        run = self._run(text(asked, "session_id"))
        sentence = None if run is None else self._integration.nudge(run)
        if sentence is None:
            return {}
        return {"hookSpecificOutput": {"hookEventName": asked["hook_event_name"], "additionalContext": sentence}}

    async def _reason(self, asked: Mapping[str, Any]) -> str | None:
        run = self._run(text(asked, "session_id"))
        if run is None:
            return None
        try:
            await self._integration.acheck(run)
        except (Stopped, Paused) as told:
            return told.reason
        return None
