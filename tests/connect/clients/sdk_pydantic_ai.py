"""Pydantic AI with a capability: models, streams, tools; told, failing and killed."""

import asyncio

import spendfuse
from openai import AsyncOpenAI
from provider import MARKER, Provider
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelAPIError
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from session import command, ready, say
from spendfuse.pydantic_ai import Spendfuse

provider = Provider()
connection = ready()
client = AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="none", max_retries=0)
model = OpenAIChatModel("gpt-5", provider=OpenAIProvider(openai_client=client))
agent = Agent(model, capabilities=[Spendfuse()], name="asker")
used: list[str] = []
acts: list[tuple[str, str]] = []


@agent.tool_plain
def search(query: str) -> str:
    used.append(query)
    for action, run_id in acts:
        command(action, run_id, "you have done this before")
    acts.clear()
    if len(used) == 2:
        provider.tool = None
    return MARKER


async def play() -> None:
    with spendfuse.run(run_id="ways"):
        await agent.run(MARKER)
        async with agent.run_stream(MARKER) as stream:
            assert await stream.get_output() == 2 * MARKER
    say(ids=provider.ids[:])
    with spendfuse.run(run_id="streams"):
        provider.breaks_off = True
        try:
            async with agent.run_stream(MARKER) as stream:
                await stream.get_output()
        except ModelAPIError:
            provider.breaks_off = False
        async with agent.run_stream(MARKER) as stream:
            async for _ in stream.stream_text(delta=True, debounce_by=None):
                break
    provider.tool = "search"
    acts.append(("nudge", "tools"))
    with spendfuse.run(run_id="tools"):
        await agent.run(MARKER)
    say(told=len([body for body in provider.asked if "you have done this before" in str(body)]))
    await agent.run(MARKER, conversation_id="conversation-1")
    stopped = []
    provider.tool = "search"
    with spendfuse.run(run_id="killed"):
        acts.append(("kill", "killed"))
        before, used_before = len(provider.asked), len(used)
        for _ in range(2):
            try:
                await agent.run(MARKER)
            except spendfuse.Stopped as reason:
                stopped.append(reason.reason)
    say(stopped=stopped, asked_after=len(provider.asked) - before, used_after=len(used) - used_before)


asyncio.run(play())
assert connection.close() == 0
