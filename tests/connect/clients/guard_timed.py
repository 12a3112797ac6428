"""An agent behind one guard that is stopped again and again: from the cause of each kill to the first call denied.

guard_timed.py GUARD RUNS SEED: in each run it calls without a pause, while somebody else spends too much for it.
"""

import asyncio
import os
import random
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable

import spendfuse
from session import ready, say

ASKED = [{"role": "user", "content": "go on"}]
MODEL = os.environ["MODEL"]
PAUSE_S = 0.001
"""Between two looks of an agent that has nothing but the guard."""
Call = Callable[[spendfuse.Run], object]
"""One step of the run, which raises `Stopped` once it may not go on."""


def guard_alone() -> Call:
    """`guard.check`, as agents without a framework call it."""
    guard = spendfuse.default_connection().guard

    def call(run: spendfuse.Run) -> None:
        guard.check(run, model="gpt-5")
        time.sleep(PAUSE_S)

    return call


def openai() -> Call:
    from openai import OpenAI
    from spendfuse.openai import guarded

    client = guarded(OpenAI(base_url=f"{MODEL}/v1", api_key="none", max_retries=0))
    return lambda _: client.chat.completions.create(model="gpt-5", messages=ASKED)


def anthropic() -> Call:
    from anthropic import Anthropic
    from spendfuse.anthropic import guarded

    client = guarded(Anthropic(base_url=MODEL, api_key="none", max_retries=0))
    return lambda _: client.messages.create(model="claude-sonnet-4-5", max_tokens=10, messages=ASKED)


def langchain() -> Call:
    from langchain_openai import ChatOpenAI
    from spendfuse.langchain import SpendfuseHandler

    model = ChatOpenAI(model="gpt-5", base_url=f"{MODEL}/v1", api_key="none", max_retries=0)
    config = {"callbacks": [SpendfuseHandler()]}
    return lambda _: model.invoke("go on", config)


def openai_agents() -> Call:
    from agents import Agent, OpenAIResponsesModel, Runner, set_tracing_disabled
    from openai import AsyncOpenAI
    from spendfuse.openai_agents import SpendfuseHooks

    set_tracing_disabled(True)
    client = AsyncOpenAI(base_url=f"{MODEL}/v1", api_key="none", max_retries=0)
    agent = Agent(name="asker", model=OpenAIResponsesModel(model="gpt-5", openai_client=client))
    hooks, awaited = SpendfuseHooks(), asyncio.new_event_loop().run_until_complete
    return lambda _: awaited(Runner.run(agent, "go on", hooks=hooks))


def pydantic_ai() -> Call:
    from openai import AsyncOpenAI
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider
    from spendfuse.pydantic_ai import Spendfuse

    client = AsyncOpenAI(base_url=f"{MODEL}/v1", api_key="none", max_retries=0)
    model = OpenAIChatModel("gpt-5", provider=OpenAIProvider(openai_client=client))
    agent, awaited = Agent(model, capabilities=[Spendfuse()]), asyncio.new_event_loop().run_until_complete
    return lambda _: awaited(agent.run("go on"))


def crewai() -> Call:
    from crewai import LLM, Agent, Crew, Task
    from spendfuse.crewai import install

    install()
    llm = LLM(model="openai/gpt-5", base_url=f"{MODEL}/v1", api_key="none")
    agent = Agent(role="asker", goal="ask", backstory="asks", llm=llm, verbose=False)
    crew = Crew(agents=[agent], tasks=[Task(description="go on", expected_output="an answer", agent=agent)])
    return lambda _: crew.kickoff()


def litellm() -> Call:
    import litellm as library
    from spendfuse.litellm import SpendfuseLogger

    library.callbacks = [SpendfuseLogger(spendfuse.default_connection())]
    awaited = asyncio.new_event_loop().run_until_complete
    return lambda _: awaited(library.acompletion(model="gpt-4o", messages=ASKED, mock_response="an answer"))


def claude_agent() -> Call:
    """One call is a tool of a session of Claude Code, whose model asks for one after the other."""
    from claude_agent_sdk import AssistantMessage, ClaudeAgentOptions
    from spendfuse.claude_agent import query

    home = tempfile.mkdtemp(prefix="claude-")
    options = ClaudeAgentOptions(
        model="claude-sonnet-4-5", allowed_tools=["Bash"], cwd=home, setting_sources=[],
        env={"ANTHROPIC_BASE_URL": MODEL, "ANTHROPIC_API_KEY": "none", "HOME": home, "CLAUDE_CONFIG_DIR": home,
             "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_TELEMETRY": "1", "DISABLE_AUTOUPDATER": "1"},
    )  # fmt: skip
    loop = asyncio.new_event_loop()
    going = {}

    def call(run: spendfuse.Run) -> None:
        if run not in going:
            going.clear()
            going[run] = query(prompt="go on", options=options)
        while not isinstance(loop.run_until_complete(anext(going[run])), AssistantMessage):
            pass

    return call


GUARDS = {
    "kafka": guard_alone, "http": guard_alone, "openai": openai, "anthropic": anthropic, "langchain": langchain,
    "openai-agents": openai_agents, "pydantic-ai": pydantic_ai, "crewai": crewai, "litellm": litellm,
    "claude-agent": claude_agent,
}  # fmt: skip


def cause(run_id: str) -> float:
    """Have the run spend too much; when that was produced, on the clock that all processes share."""
    asked = urllib.request.Request(os.environ["CAUSES"], run_id.encode(), method="POST")
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return float(answer.read())


def main(guard: str, runs: str, seed: str) -> None:
    """Print what each run took, and its ordinary calls."""
    connection, call, chance = ready(), GUARDS[guard](), random.Random(seed)
    for number in range(-1, int(runs)):  # the first is not measured: libraries load what they need
        with spendfuse.run(run_id=f"{guard}-{number}") as run:
            calls_ms = [timed(call, run) for _ in range(2)]
            time.sleep(chance.random() / 20)
            caused_s = cause(run.run_id)
            try:
                while True:
                    calls_ms.append(timed(call, run))
            except spendfuse.Stopped:
                denied_s = time.monotonic()
        if number >= 0:
            say(wait_ms=1000 * (denied_s - caused_s), calls_ms=calls_ms[1:])  # the first may start a program
    assert connection.close() == 0


def timed(call: Call, run: spendfuse.Run) -> float:
    begun_s = time.monotonic()
    call(run)
    return 1000 * (time.monotonic() - begun_s)


main(*sys.argv[1:])
