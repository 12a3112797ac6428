"""LangChain's and LangGraph's own loops with a handler: models, streams, tools; killed before a model and a tool."""

import asyncio

import openai
import spendfuse
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import MemorySaver
from langgraph.prebuilt import create_react_agent
from langgraph.types import Command, interrupt
from provider import MARKER, Provider
from session import command, kill, ready, say
from spendfuse.langchain import SpendfuseHandler

provider = Provider()
connection = ready()
handler = SpendfuseHandler(workflow="support")
awaited = asyncio.new_event_loop().run_until_complete
used: list[str] = []
killed: list[str] = []


@tool
def search(query: str) -> str:
    """Search."""
    used.append(query)
    if len(used) == 3:
        provider.tool = None
    for run_id in killed:
        command("kill", run_id)
    return MARKER


model = ChatOpenAI(model="gpt-5", base_url=f"{provider.url}/v1", api_key="none", max_retries=0, stream_usage=True)
config = {"callbacks": [handler], "configurable": {"thread_id": "thread-1"}}
asked = [HumanMessage(MARKER)]
with spendfuse.run(run_id="ways"):
    model.invoke(asked, config)
    assert "".join(chunk.content for chunk in model.stream(asked, config)) == 2 * MARKER
    awaited(model.ainvoke(asked, config))
say(ids=provider.ids[:])

with spendfuse.run(run_id="streams"):
    provider.breaks_off = True
    try:
        list(model.stream(asked, config))
    except openai.APIConnectionError:
        provider.breaks_off = False
    for chunk in model.stream(asked, config):
        if chunk.content:
            break
with spendfuse.run(run_id="cut") as run:
    try:
        for chunk in model.stream(asked, config):
            if chunk.content:
                kill(run)
    except spendfuse.Stopped as reason:
        say(cut=reason.reason)


@tool
def approve(query: str) -> str:
    """Ask a person."""
    provider.tool = None
    return str(interrupt(query))


with spendfuse.run(run_id="person"):
    provider.tool = "approve"
    approving = create_react_agent(model, [approve], checkpointer=MemorySaver())
    approving.invoke({"messages": asked}, config)
    approving.invoke(Command(resume="yes"), config)

agent = create_react_agent(model, [search])
provider.tool = "search"
agent.invoke({"messages": asked}, config)
awaited(agent.ainvoke({"messages": asked}, config))
say(used=len(used))

told = create_agent(model, [search], middleware=[handler.middleware()])
provider.tool = None
heard = len(provider.asked)
for number, call in enumerate((told.invoke, lambda *given: awaited(told.ainvoke(*given)))):
    with spendfuse.run(run_id=f"told-{number}"):
        command("nudge", f"told-{number}", "you have asked this before")
        call({"messages": asked}, config)
        call({"messages": asked}, config)
say(heard=[str(each).count("you have asked this before") for each in provider.asked[heard:]])

stopped = []
provider.tool = "search"
with spendfuse.run(run_id="killed") as run:
    killed.append("killed")
    before, used_before = len(provider.asked), len(used)
    for call in (
        lambda: agent.invoke({"messages": asked}, config),
        lambda: awaited(agent.ainvoke({"messages": asked}, config)),
        lambda: search.invoke({"query": "x"}, config),
        lambda: model.invoke(asked, config),
    ):
        try:
            call()
        except spendfuse.Stopped as reason:
            stopped.append(reason.reason)
say(stopped=stopped, asked_after=len(provider.asked) - before, used_after=len(used) - used_before)
assert connection.close() == 0
