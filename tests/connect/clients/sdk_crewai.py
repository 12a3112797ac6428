"""A crew with hooks: models and tools; told and killed."""

import spendfuse
from crewai import LLM, Agent, Crew, Task
from crewai.events import crewai_event_bus
from crewai.tools import tool
from provider import MARKER, Provider
from session import command, ready, say
from spendfuse.crewai import install

provider = Provider()
connection = ready()
install()
used: list[str] = []
acts: list[tuple[str, str]] = []


@tool("search")
def search(query: str) -> str:
    """Search."""
    used.append(query)
    for action, run_id in acts:
        command(action, run_id, "you have done this before")
    acts.clear()
    if len(used) in (1, 2):
        provider.tool = None
    return MARKER


llm = LLM(model="openai/gpt-5", base_url=f"{provider.url}/v1", api_key="none")
agent = Agent(role="asker", goal="ask", backstory="asks", llm=llm, tools=[search], verbose=False)
task = Task(description=MARKER, expected_output="an answer", agent=agent)
crew = Crew(agents=[agent], tasks=[task], name="support desk", verbose=False)


with spendfuse.run(run_id="ways"):
    crew.kickoff()
say(ids=provider.ids[:])
provider.tool = "search"
acts.append(("nudge", "tools"))
with spendfuse.run(run_id="tools"):
    crew.kickoff()
say(told=len([body for body in provider.asked if "you have done this before" in str(body)]))
crew.kickoff()
crewai_event_bus.flush()
stopped = []
provider.tool = "search"
used.append("one more")
with spendfuse.run(run_id="killed"):
    acts.append(("kill", "killed"))
    before, used_before = len(provider.asked), len(used)
    for _ in range(2):
        try:
            crew.kickoff()
        except spendfuse.Stopped as reason:
            stopped.append(reason.reason)
say(stopped=stopped, asked_after=len(provider.asked) - before, used_after=len(used) - used_before)
crewai_event_bus.flush()
assert connection.close() == 0
