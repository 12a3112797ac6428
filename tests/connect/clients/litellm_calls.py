"""An agent that calls models through LiteLLM, none of which is real, and reports by LiteLLM's own generic callback.

litellm_calls.py ENDPOINT TOKEN FORMAT kinds|many [CALLS]
"""

import asyncio
import json
import sys

import litellm
from litellm.integrations.generic_api.generic_api_callback import GenericAPILogger

PROMPT = "a-secret-that-must-not-pass-4711 "
MESSAGES = [{"role": "user", "content": PROMPT}]


async def kinds() -> None:
    """One call of each kind; the ids that it was given."""
    litellm.cache = litellm.Cache(type="local")
    answer = await litellm.acompletion(
        model="gpt-4o", messages=MESSAGES, mock_response=PROMPT, litellm_session_id="run-1", caching=True
    )
    await asyncio.sleep(0.5)  # what is to be found in the cache is put there behind the answer
    await litellm.acompletion(
        model="gpt-4o", messages=MESSAGES, mock_response=PROMPT, litellm_session_id="run-1", caching=True
    )
    stream = await litellm.acompletion(
        model="gpt-4o", messages=MESSAGES, mock_response=PROMPT * 3, stream=True, litellm_session_id="run-1"
    )
    async for _ in stream:
        pass
    await litellm.acompletion(
        model="openai/never-heard-of", messages=MESSAGES, mock_response=PROMPT, litellm_session_id="run-1"
    )
    router = litellm.Router(
        model_list=[{"model_name": "main", "litellm_params": {"model": "gpt-4o", "api_key": "none"}}],
        num_retries=2, retry_after=0,
    )  # fmt: skip
    try:
        await router.acompletion(
            model="main", messages=MESSAGES, mock_response=Exception(PROMPT), litellm_session_id="run-1"
        )
    except Exception as error:
        print(json.dumps({"error": type(error).__name__}))
    print(json.dumps({"id": answer.id}))


async def many(calls: int) -> None:
    """Calls with prompts of 100 KB, a few at a time."""
    slots = asyncio.Semaphore(8)

    async def one(number: int) -> None:
        async with slots:
            messages = [{"role": "user", "content": PROMPT * (100_000 // len(PROMPT))}]
            await litellm.acompletion(
                model="gpt-4o", messages=messages, mock_response="ok", litellm_session_id=f"run-{number}"
            )
            await asyncio.sleep(0.4)

    await asyncio.gather(*(one(number) for number in range(calls)))


async def main(endpoint: str, token: str, log_format: str, what: str, *more: str) -> None:
    """Make the calls, and wait until their reports are sent."""
    logger = GenericAPILogger(
        endpoint=endpoint, headers={"Authorization": f"Bearer {token}"}, log_format=log_format,
        max_retries=5, batch_size=50, flush_interval=1,
    )  # fmt: skip
    litellm.callbacks = [logger]
    await (kinds() if what == "kinds" else many(int(more[0])))
    await asyncio.sleep(3)  # callbacks run behind the answers
    await logger.async_send_batch()


asyncio.run(main(*sys.argv[1:]))
