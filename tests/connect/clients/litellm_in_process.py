"""Each kind of call that LiteLLM makes in an agent's own process; prints what is reported of them."""

import asyncio
import json
import time
from contextlib import suppress
from typing import Any

import litellm
from spendfuse import Connection, Emitter, Guard
from spendfuse.litellm import SpendfuseLogger
from spendfuse.testing import FakeControl, MemoryTransport

TEXT = "a-secret-that-must-not-pass-4711"
MESSAGES = [{"role": "user", "content": TEXT}]


def options(run_id: str, answer: object = TEXT, **more: Any) -> dict[str, Any]:
    """A call's arguments."""
    metadata = {"session_id": run_id, "tags": ["feature:search"]}
    return {"model": "gpt-4o", "mock_response": answer, "metadata": metadata, **more}


async def asynchronous() -> None:
    """A stream, and the responses API."""
    stream = await litellm.acompletion(messages=MESSAGES, stream=True, **options("stream"))
    async for _ in stream:
        pass
    await litellm.aresponses(input=TEXT, **options("responses"))
    await asyncio.sleep(1)  # callbacks run behind the answers


def main() -> None:
    """Make the calls."""
    transport = MemoryTransport()
    emitter = Emitter(transport)
    guard = Guard(FakeControl(), emitter, when_blind="continue")
    litellm.callbacks = [SpendfuseLogger(Connection("acme", emitter, guard), workflow="support")]
    litellm.completion(messages=MESSAGES, **options("sync"))
    for _ in litellm.completion(messages=MESSAGES, stream=True, **options("sync stream")):
        pass
    with suppress(Exception):
        litellm.completion(messages=MESSAGES, **options("sync failure", Exception(TEXT)))
    asyncio.run(asynchronous())
    time.sleep(1)
    emitter.flush()
    for event in transport.events:
        print(json.dumps(event))


main()
