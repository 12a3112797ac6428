"""An agent with Spendfuse's callback in its own process: it calls until it is told to stop.

litellm_guarded.py RUN_ID
"""

import asyncio
import json
import sys

import litellm
from spendfuse import Stopped, connect
from spendfuse.litellm import SpendfuseLogger

TEXT = "a-secret-that-must-not-pass-4711"
MOST_CALLS = 300


async def main(run_id: str) -> None:
    """Print how many calls were made, and what ended them."""
    spendfuse = connect()
    assert spendfuse.guard.wait_ready(30), spendfuse.guard.waiting_for
    litellm.callbacks = [SpendfuseLogger(spendfuse, workflow="support")]
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
    assert spendfuse.close() == 0


asyncio.run(main(*sys.argv[1:]))
