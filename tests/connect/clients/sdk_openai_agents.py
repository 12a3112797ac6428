"""OpenAI's Agents SDK with hooks: models, streams, tools, an agent as a tool; told, killed, and without tracing."""

import asyncio
from contextlib import suppress

import openai
import spendfuse
from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    UserError,
    function_tool,
)
from openai import AsyncOpenAI
from provider import MARKER, Provider
from session import command, ready, say
from spendfuse.openai_agents import SpendfuseHooks

provider = Provider()
connection = ready()
hooks = SpendfuseHooks()
client = AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="none", max_retries=0)
model = OpenAIResponsesModel(model="gpt-5", openai_client=client)
used: list[str] = []
acts: list[tuple[str, str]] = []


@function_tool
def search(query: str) -> str:
    """Search."""
    used.append(query)
    for action, run_id in acts:
        command(action, run_id, "you have done this before")
    acts.clear()
    if len(used) == 2:
        provider.tool = None
    return MARKER


@function_tool(failure_error_function=None)
def break_down(query: str) -> str:
    """Fail."""
    raise RuntimeError(query)


broken = Agent(name="broken", model=model, tools=[break_down])
agent = Agent(name="asker", model=model, tools=[search])
chat = Agent(name="chat", model=OpenAIChatCompletionsModel(model="gpt-5", openai_client=client))


async def play() -> None:
    with spendfuse.run(run_id="ways"):
        await Runner.run(agent, MARKER, hooks=hooks)
        stream = Runner.run_streamed(agent, MARKER, hooks=hooks)
        async for _ in stream.stream_events():
            pass
        await Runner.run(chat, MARKER, hooks=hooks)
    say(ids=provider.ids[:])
    provider.tool = "search"
    acts.append(("nudge", "tools"))
    with spendfuse.run(run_id="tools"):
        await Runner.run(agent, MARKER, hooks=hooks)
    say(told=[body["input"][-1] for body in provider.asked if "you have done this before" in str(body)])
    trace = RunConfig(
        workflow_name="support desk", group_id="group-1", trace_id="trace_0123456789abcdef0123456789abcdef"
    )
    await Runner.run(agent, MARKER, hooks=hooks, run_config=trace)
    outer = Agent(name="outer", model=model, tools=[chat.as_tool("ask_chat", "Ask it.")])
    provider.tool, provider.args = "ask_chat", {"input": MARKER}
    answered = provider.completions
    provider.completions = lambda body: (setattr(provider, "tool", None), answered(body))[1]
    with spendfuse.run(run_id="nested"):
        await Runner.run(outer, MARKER, hooks=hooks)
    provider.completions, provider.args = answered, {"query": MARKER}
    with spendfuse.run(run_id="untraced"):
        await Runner.run(agent, MARKER, hooks=hooks, run_config=RunConfig(tracing_disabled=True))
    provider.status = 500
    failed = [f"trace_{number:032}" for number in (1, 2)]
    with suppress(openai.InternalServerError):
        await Runner.run(agent, MARKER, hooks=hooks, run_config=RunConfig(trace_id=failed[0]))
    provider.status, provider.tool = 200, "break_down"
    with suppress(UserError):
        await Runner.run(broken, MARKER, hooks=hooks, run_config=RunConfig(trace_id=failed[1]))
    say(failed=failed)
    stopped = []
    provider.tool = "search"
    with spendfuse.run(run_id="killed"):
        acts.append(("kill", "killed"))
        before, used_before = len(provider.asked), len(used)
        for _ in range(2):
            try:
                await Runner.run(agent, MARKER, hooks=hooks)
            except spendfuse.Stopped as reason:
                stopped.append(reason.reason)
    say(stopped=stopped, asked_after=len(provider.asked) - before, used_after=len(used) - used_before)


asyncio.run(play())
assert connection.close() == 0
