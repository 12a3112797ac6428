"""The Anthropic client, guarded: plain, streamed, in asyncio; told and killed."""

import asyncio

import spendfuse
from anthropic import Anthropic, AsyncAnthropic
from provider import MARKER, Provider
from session import command, ready, say, wait_until
from spendfuse.anthropic import guarded

ASKED = {"model": "claude-sonnet-4-5", "max_tokens": 10, "messages": [{"role": "user", "content": MARKER}]}
provider = Provider()
given = {"base_url": provider.url, "api_key": "none", "max_retries": 0}
client = guarded(Anthropic(**given))
connection = ready()


def every_way() -> None:
    """One call in each way that the client has."""
    client.messages.create(**ASKED)
    client.with_options(timeout=20).beta.messages.create(**ASKED)
    list(client.messages.create(**ASKED, stream=True))
    with client.messages.stream(**ASKED) as stream:
        assert stream.get_final_text() == 2 * MARKER


async def every_way_awaited() -> None:
    async with guarded(AsyncAnthropic(**given)) as awaited:
        await awaited.messages.create(**ASKED)
        async with awaited.messages.stream(**ASKED) as stream:
            assert await stream.get_final_text() == 2 * MARKER


def with_tools(run_id: str) -> None:
    """Tools are seen in the conversation that goes to the model."""
    provider.tool = "search"
    messages: list = list(ASKED["messages"])
    for turn in range(3):
        message = client.messages.create(
            **{**ASKED, "messages": messages}, tools=[{"name": "search", "input_schema": {}}]
        )
        result = {"type": "tool_result", "tool_use_id": message.content[0].id, "content": MARKER, "is_error": turn == 1}
        messages += [{"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
        if turn == 1:
            command("nudge", run_id, "you have done this before")
    provider.tool = None


with spendfuse.run(run_id="ways"):
    every_way()
    asyncio.run(every_way_awaited())
say(ids=provider.ids[:])
with spendfuse.run(run_id="tools"):
    with_tools("tools")
say(told=provider.asked[-1]["messages"][-1]["content"])

stopped = []
with spendfuse.run(run_id="killed") as run:
    stream = client.messages.create(**ASKED, stream=True)
    next(stream)
    command("kill", "killed")
    wait_until(run.stop_event.is_set)
    before = len(provider.asked)
    for call in (lambda: next(stream), every_way, lambda: asyncio.run(every_way_awaited())):
        try:
            call()
        except spendfuse.Stopped as reason:
            stopped.append(reason.reason)
say(stopped=stopped, calls_after=len(provider.asked) - before)
assert connection.close() == 0
