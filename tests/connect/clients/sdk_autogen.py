"""AutoGen's AgentChat with a guarded model client: models, streams, tools; told and killed."""

import asyncio
from contextlib import aclosing

import openai
import spendfuse
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.models import ModelInfo, UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient
from provider import MARKER, Provider
from session import command, kill, ready, say
from spendfuse.autogen import guarded

provider = Provider()
connection = ready()
info = ModelInfo(vision=False, function_calling=True, json_output=False, family="unknown", structured_output=False)
client = guarded(
    OpenAIChatCompletionClient(
        model="gpt-5", base_url=f"{provider.url}/v1", api_key="none", max_retries=0, model_info=info
    )
)
used: list[str] = []
acts: list[tuple[str, str]] = []


async def search(query: str) -> str:
    """Search."""
    used.append(query)
    for action, run_id in acts:
        command(action, run_id, "you have done this before")
    acts.clear()
    if len(used) == 2:
        provider.tool = None
    return MARKER


def agent() -> AssistantAgent:
    return AssistantAgent("asker", model_client=client, tools=[search], max_tool_iterations=5)


async def play() -> None:
    with spendfuse.run(run_id="ways"):
        await agent().run(task=MARKER)
        asked = [UserMessage(content=MARKER, source="user")]
        [each async for each in client.create_stream(asked)]
    say(ids=provider.ids[:])
    with spendfuse.run(run_id="streams"):
        provider.breaks_off = True
        try:
            [each async for each in client.create_stream(asked)]
        except openai.APIConnectionError:
            provider.breaks_off = False
        async with aclosing(client.create_stream(asked)) as stream:
            await anext(stream)
    with spendfuse.run(run_id="cut") as run:
        try:
            async for _ in client.create_stream(asked):
                kill(run)
        except spendfuse.Stopped as reason:
            say(cut=reason.reason)
    try:
        with spendfuse.run(run_id="team") as run:
            kill(run)
            await RoundRobinGroupChat([agent()], max_turns=2).run(task=MARKER)
    except Exception as error:
        say(team=type(error).__name__)
    provider.tool = "search"
    acts.append(("nudge", "tools"))
    with spendfuse.run(run_id="tools"):
        await agent().run(task=MARKER)
    say(told=len([body for body in provider.asked if "you have done this before" in str(body)]))
    stopped = []
    provider.tool = "search"
    with spendfuse.run(run_id="killed"):
        acts.append(("kill", "killed"))
        before, used_before = len(provider.asked), len(used)
        for _ in range(2):
            try:
                await agent().run(task=MARKER)
            except spendfuse.Stopped as reason:
                stopped.append(reason.reason)
    say(stopped=stopped, asked_after=len(provider.asked) - before, used_after=len(used) - used_before)


asyncio.run(play())
assert connection.close() == 0
