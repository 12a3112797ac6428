"""The OpenAI client, guarded: plain, streamed, in asyncio; killed, told, and with a provider that fails."""

import asyncio
import gc

import httpx
import openai
import spendfuse
from openai import AsyncOpenAI, OpenAI
from provider import MARKER, Provider
from session import command, ready, say, wait_until
from spendfuse.openai import guarded

ASKED = [{"role": "user", "content": MARKER}]
provider = Provider()
given = {"base_url": f"{provider.url}/v1", "api_key": "none", "max_retries": 0}
client = guarded(OpenAI(**given), workflow="support", cap_usd="2.50")
connection = ready()


def once(client: OpenAI = client) -> None:
    client.chat.completions.create(model="gpt-5", messages=ASKED)


def every_way() -> None:
    """One call in each way that the client has."""
    once()
    once(client.with_options(timeout=20))
    client.responses.create(model="gpt-5", input=MARKER)
    client.embeddings.create(model="text-embedding-3-small", input=MARKER)
    assert client.chat.completions.with_raw_response.create(model="gpt-5", messages=ASKED).parse().id
    chunks = list(client.chat.completions.create(model="gpt-5", messages=ASKED, stream=True))
    assert all(chunk.choices for chunk in chunks), "no chunk that nobody has asked for"
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(model="gpt-5", messages=ASKED, stream=True, stream_options=options))
    assert chunks[-1].usage, "and every one that somebody has"
    with client.chat.completions.stream(model="gpt-5", messages=ASKED) as stream:
        assert stream.get_final_completion().choices[0].message.content == 2 * MARKER
    list(client.responses.create(model="gpt-5", input=MARKER, stream=True))


async def every_way_awaited() -> None:
    async with guarded(AsyncOpenAI(**given)) as awaited:
        await awaited.chat.completions.create(model="gpt-5", messages=ASKED)
        stream = await awaited.chat.completions.create(model="gpt-5", messages=ASKED, stream=True)
        assert [chunk.choices[0].delta.content async for chunk in stream] == [None, MARKER, MARKER, None]


def left_early() -> None:
    with client.chat.completions.create(model="gpt-5", messages=ASKED, stream=True) as stream:
        next(stream)


def broken_off() -> None:
    """The provider goes in the midst of its answer: what has come of it was paid for."""
    provider.breaks_off = True
    try:
        list(client.chat.completions.create(model="gpt-5", messages=ASKED, stream=True))
    except (openai.APIConnectionError, httpx.TransportError):
        provider.breaks_off = False


def abandoned() -> None:
    """Streams that nobody has any more: one never read, one left in its midst, one of asyncio's left in its midst."""
    client.chat.completions.create(model="gpt-5", messages=ASKED, stream=True)
    for chunk in client.chat.completions.create(model="gpt-5", messages=ASKED, stream=True):
        if chunk.choices[0].delta.content:
            break
    gc.collect()

    async def awaited() -> None:
        complaints = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        asked = await guarded(AsyncOpenAI(**given)).chat.completions.create(model="gpt-5", messages=ASKED, stream=True)
        async for chunk in asked:
            if chunk.choices[0].delta.content:
                break
        del asked, chunk
        gc.collect()
        await asyncio.sleep(0.1)  # asyncio closes what nobody has any more
        gc.collect()
        assert complaints == [], complaints

    asyncio.run(awaited())


def failing() -> None:
    provider.status = 500
    try:
        once()
    except openai.InternalServerError:
        provider.status = 200


def with_tools(run_id: str) -> None:
    """A loop as it is written by hand: tools are seen in the conversation that goes to the model."""
    provider.tool = "search"
    tools = [{"type": "function", "function": {"name": "search", "parameters": {}}}]
    messages: list = list(ASKED)
    for turn in range(4):
        message = client.chat.completions.create(model="gpt-5", messages=messages, tools=tools).choices[0].message
        messages += [message, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": MARKER}]
        if turn == 1:
            command("nudge", run_id, "you have done this before")
    provider.tool = None


def kept_by_the_provider() -> None:
    """A conversation of which each request shows what is new: a tool's result, without the call that asked for it."""
    tools = [{"type": "function", "name": "search", "parameters": {}}]
    for is_streamed in (False, True):
        provider.tool, provider.args = "search", {"query": str(is_streamed)}
        answer = client.responses.create(model="gpt-5", input=MARKER, tools=tools, stream=is_streamed)
        answer = [*answer][-1].response if is_streamed else answer
        provider.tool = None
        result = {"type": "function_call_output", "call_id": answer.output[0].call_id, "output": MARKER}
        client.responses.create(model="gpt-5", previous_response_id=answer.id, input=[result])


with spendfuse.run(run_id="ways", workflow="docs"):
    every_way()
    asyncio.run(every_way_awaited())
say(calls="ways", ids=provider.ids)
with spendfuse.run(run_id="faults"):
    left_early()
    failing()
with spendfuse.run(run_id="left"):
    broken_off()
    abandoned()
with spendfuse.run(run_id="tools"):
    with_tools("tools")
with spendfuse.run(run_id="kept"):
    kept_by_the_provider()
told = [body for body in provider.asked if "you have done this before" in str(body)]
say(told=len(told), last=told[0]["messages"][-1]["content"])
once()

stopped = []
with spendfuse.run(run_id="killed") as run:
    once()
    stream = client.chat.completions.create(model="gpt-5", messages=ASKED, stream=True)
    next(stream)
    command("kill", "killed")
    wait_until(run.stop_event.is_set)
    before = len(provider.asked)
    for call in (lambda: next(stream), once, lambda: asyncio.run(every_way_awaited())):
        try:
            call()
        except spendfuse.Stopped as reason:
            stopped.append(reason.reason)
say(stopped=stopped, calls_after=len(provider.asked) - before)
assert connection.close() == 0
