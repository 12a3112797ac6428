"""An agent that reports by Helicone's manual logger. helicone_log.py ENDPOINT KEY"""

import asyncio
import sys

from helicone_helpers import HeliconeManualLogger

TEXT = "a-secret-that-must-not-pass-4711"
SESSION = {"Helicone-Session-Id": "run-1", "Helicone-User-Id": "u-1", "Helicone-Property-Note": TEXT}


async def main(endpoint: str, key: str) -> None:
    """A call by each provider's path, a stream, a tool, and a call that failed."""
    logger = HeliconeManualLogger(api_key=key, logging_endpoint=endpoint)
    asked = {"model": "gpt-4.1", "messages": [{"role": "user", "content": TEXT}]}
    usage = {"prompt_tokens": 1000, "completion_tokens": 50, "prompt_tokens_details": {"cached_tokens": 900}}
    logger.log_request(
        asked, lambda result: result.append_results({"id": "chatcmpl-1", "choices": TEXT, "usage": usage}),
        SESSION, "openai",
    )  # fmt: skip
    usage = {"input_tokens": 12, "cache_read_input_tokens": 900, "output_tokens": 40}
    logger.log_request(
        {**asked, "model": "claude-sonnet-4-5"},
        lambda result: result.append_results({"id": "msg_1", "content": TEXT, "usage": usage}), SESSION, "anthropic",
    )  # fmt: skip
    stream = logger.log_builder(asked, SESSION)
    stream.add_chunk({"id": "chatcmpl-2", "choices": [{"delta": {"content": TEXT}}]})
    stream.add_chunk({"id": "chatcmpl-2", "choices": [], "usage": {"prompt_tokens": 700, "completion_tokens": 7}})
    await stream.send_log()
    logger.log_request(
        {"_type": "tool", "toolName": "search", "input": {"q": TEXT}},
        lambda result: result.append_results({"output": TEXT}), SESSION,
    )  # fmt: skip


asyncio.run(main(*sys.argv[1:]))
