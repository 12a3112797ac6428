"""LangChain's middleware for agents: what a callback may not do, put a sentence before the model."""

from collections.abc import Awaitable, Callable
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import HumanMessage
from langgraph.config import get_config

from spendfuse._client.run import Run
from spendfuse._integrations.base import Integration


class NudgeMiddleware(AgentMiddleware):  # type: ignore[type-arg]  # it has no state of its own
    """Puts a nudge behind the messages of the next model call, once; the agent's state keeps nothing of it."""

    def __init__(self, integration: Integration, run_of: Callable[[Any], Run | None]) -> None:
        """`run_of` finds the run of a step by its callback manager."""
        super().__init__()
        self._integration = integration
        self._run_of = run_of

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """A model is about to be asked."""
        return handler(self._nudged(request))

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """As `wrap_model_call`."""
        return await handler(self._nudged(request))

    def _nudged(self, request: Any) -> Any:
        run = self._run_of(get_config().get("callbacks"))
        sentence = None if run is None else self._integration.nudge(run)
        if sentence is None:
            return request
        return request.override(messages=[*request.messages, HumanMessage(sentence)])
