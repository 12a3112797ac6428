"""An agent with Spendfuse's callback in its own process: it calls until it is told to stop.

litellm_guarded.py RUN_ID
"""

import asyncio
import json
import sys

import litellm
from spendfuse import Emitter, Guard, Stopped
from spendfuse.kafka import KafkaControl, KafkaTransport
from spendfuse.litellm import SpendfuseLogger

TEXT = "a-secret-that-must-not-pass-4711"
MOST_CALLS = 300


async def main(run_id: str) -> None:
    """Print how many calls were made, and what ended them."""
    emitter = Emitter(KafkaTransport())
    guard = Guard(KafkaControl(), emitter, when_blind="stop", tenant_id="acme")
    assert guard.wait_ready(30), guard.waiting_for
    litellm.callbacks = [SpendfuseLogger(emitter, guard, tenant_id="acme", workflow="support")]
    calls = 0
    try:
        for calls in range(MOST_CALLS):  # noqa: B007
            await litellm.acompletion(
                model="gpt-4o", messages=[{"role": "user", "content": TEXT}], mock_response=TEXT,
                litellm_session_id=run_id, metadata={"owner": "ana"},
            )  # fmt: skip
            await asyncio.sleep(0.1)
    except Stopped as stopped:
        print(json.dumps({"calls": calls, "reason": stopped.reason, "rule": stopped.rule}))
    await asyncio.sleep(0.5)  # callbacks run behind the answers
    guard.close()
    assert emitter.close(10) == 0


asyncio.run(main(*sys.argv[1:]))
