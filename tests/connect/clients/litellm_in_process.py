"""Each kind of call that LiteLLM makes in an agent's own process; prints what is reported of them."""

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import litellm
from spendfuse import Connection, Emitter, Guard, Stopped
from spendfuse.litellm import SpendfuseLogger
from spendfuse.testing import FakeControl, MemoryTransport

TEXT = "a-secret-that-must-not-pass-4711"
MESSAGES = [{"role": "user", "content": TEXT}]


@dataclass
class Run:
    """A run that a command can be for."""

    tenant_id: str
    run_id: str
    session_id: str | None = None
    root_run_id: str | None = None
    workflow: str | None = None


def options(run_id: str | None, answer: object = TEXT, **more: Any) -> dict[str, Any]:
    """A call's arguments."""
    metadata = {"session_id": run_id, "tags": ["feature:search"]}
    return {"model": "gpt-4o", "mock_response": answer, "metadata": metadata, **more}


class Model(litellm.CustomLLM):
    """A provider that prints what it is asked."""

    async def acompletion(self, *_: Any, messages: list[dict[str, str]], model_response: Any, **__: Any) -> Any:
        """An answer without content."""
        print(json.dumps({"asked": [message["content"] for message in messages]}))
        return model_response


async def nudged(control: FakeControl) -> None:
    """Two calls of a run that is to be told something once."""
    control.nudge(Run("acme", "nudged"), "you have asked this before")
    await asyncio.sleep(1)  # the guard follows in a thread of its own
    for _ in range(2):
        await litellm.acompletion(messages=MESSAGES, **{**options("nudged", None), "model": "mine/model"})
        await asyncio.sleep(0.5)


def stopped(connection: Connection, control: FakeControl) -> None:
    """A synchronous call and a stream of a run that is killed; neither asks the model."""
    with connection.run(run_id="sync stopped") as run:
        control.kill(run)
        assert run.stop_event.wait(10)
        for more in ({}, {"stream": True}):
            try:
                litellm.completion(messages=MESSAGES, **options(None, **more))
            except Stopped as order:
                print(json.dumps({"stopped": order.rule}))


async def routed(connection: Connection, control: FakeControl) -> None:
    """Calls by a router, which gives each a trace of its own, in the block of a run; then the run is killed."""
    deployments = [
        {"model_name": name, "litellm_params": {"model": "mine/model", "api_key": "none"}} for name in ("main", "other")
    ]
    router = litellm.Router(model_list=deployments, num_retries=2, fallbacks=[{"main": ["other"]}])
    with connection.run(run_id="routed") as run:
        await router.acompletion(model="main", messages=MESSAGES)
        control.kill(run)
        try:
            await router.acompletion(model="main", messages=MESSAGES)
        except Stopped as order:
            print(json.dumps({"routed": order.rule}))
        await asyncio.sleep(0.5)


async def asynchronous(connection: Connection, control: FakeControl) -> None:
    """A stream, the responses API, a nudge, and a call that names no run in the block of one."""
    await nudged(control)
    stream = await litellm.acompletion(messages=MESSAGES, stream=True, **options("stream"))
    async for _ in stream:
        pass
    with connection.run(run_id="block"):
        await litellm.acompletion(messages=MESSAGES, **options(None))
        await asyncio.sleep(0.5)
    litellm.pre_call_rules = []  # a callback alone stops what is awaited
    await routed(connection, control)
    await litellm.aresponses(input=TEXT, **options("responses"))
    await asyncio.sleep(1)  # callbacks run behind the answers


def main() -> None:
    """Make the calls."""
    transport = MemoryTransport()
    emitter = Emitter(transport)
    litellm.custom_provider_map = [{"provider": "mine", "custom_handler": Model()}]
    control = FakeControl()
    guard = Guard(control, emitter, when_blind="continue")
    connection = Connection("acme", emitter, guard)
    logger = SpendfuseLogger(connection, workflow="support")
    litellm.callbacks, litellm.pre_call_rules = [logger], [logger.rule]
    litellm.completion(messages=MESSAGES, **options("sync"))
    with connection.run(run_id="sync block"):
        litellm.completion(messages=MESSAGES, **options(None))
    for _ in litellm.completion(messages=MESSAGES, stream=True, **options("sync stream")):
        pass
    with suppress(Exception):
        litellm.completion(messages=MESSAGES, **options("sync failure", Exception(TEXT)))
    stopped(connection, control)
    asyncio.run(asynchronous(connection, control))
    time.sleep(1)
    emitter.flush()
    for event in transport.events:
        print(json.dumps(event))


main()
