"""Claude Code itself, through its Agent SDK, with a model on loopback: models and tools; told and killed."""

import asyncio
import tempfile

import spendfuse
from claude_agent_sdk import ClaudeAgentOptions, ResultMessage
from provider import MARKER, Provider
from session import command, ready, say
from spendfuse.claude_agent import ClaudeSDKClient, query

home = tempfile.mkdtemp(prefix="claude-")
provider = Provider()
connection = ready()
options = ClaudeAgentOptions(
    model="claude-sonnet-4-5", allowed_tools=["Bash"], cwd=home, setting_sources=[],
    env={"ANTHROPIC_BASE_URL": provider.url, "ANTHROPIC_API_KEY": "none", "HOME": home, "CLAUDE_CONFIG_DIR": home,
         "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_TELEMETRY": "1", "DISABLE_AUTOUPDATER": "1"},
)  # fmt: skip
acts: list[tuple[str, str]] = []


async def ask() -> list:
    return [message async for message in query(prompt=MARKER, options=options)]


def tool_next(*given: tuple[str, str]) -> None:
    """The model asks for one tool, which gives these commands while it works."""
    provider.tool, provider.args = "Bash", {"command": "echo 1", "description": MARKER}
    acts[:] = given


answered = provider.messages


def messages(body: dict) -> dict:
    answer = answered(body)
    if answer["stop_reason"] == "tool_use":
        provider.tool = None
        for action, run_id in acts:
            command(action, run_id, "you have done this before")
        acts.clear()
    return answer


provider.messages = messages


async def play() -> None:
    with spendfuse.run(run_id="ways"):
        seen = await ask()
        async with ClaudeSDKClient(options) as client:
            await client.query(MARKER)
            seen += [message async for message in client.receive_response()]
    say(ids=provider.ids[:], kinds=sorted({type(message).__name__ for message in seen}))
    tool_next(("nudge", "tools"))
    with spendfuse.run(run_id="tools"):
        await ask()
    say(told=len([body for body in provider.asked if "you have done this before" in str(body)]))
    own = [message.session_id for message in await ask() if isinstance(message, ResultMessage)]
    say(session=own[0])
    async with ClaudeSDKClient(options) as client:
        for _ in range(2):
            await client.query(MARKER)
            talk = [message async for message in client.receive_response()][-1].session_id
    say(talk=talk)
    stopped = []
    tool_next(("kill", "killed"))
    before = len(provider.asked)
    with spendfuse.run(run_id="killed"):
        for _ in range(2):
            try:
                await ask()
            except spendfuse.Stopped as reason:
                stopped.append(reason.reason)
    say(stopped=stopped, asked_after=len(provider.asked) - before)


asyncio.run(play())
assert connection.close() == 0
