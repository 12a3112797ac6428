"""An agent that reports to Langfuse by its own client. langfuse_spans.py BASE_URL PUBLIC_KEY SECRET_KEY"""

import json
import sys

from langfuse import Langfuse
from langfuse.api import Prompt_Text
from langfuse.model import TextPromptClient

TEXT = "a-secret-that-must-not-pass-4711"


def main(base_url: str, public_key: str, secret_key: str) -> None:
    """One agent's span with two model calls and a tool below it; prints the ids that Langfuse's API would name."""
    client = Langfuse(public_key=public_key, secret_key=secret_key, base_url=base_url, environment="prod")
    prompt = TextPromptClient(
        Prompt_Text(
            name="support", version=3, prompt=TEXT, type="text", config={}, labels=[], tags=[], commitMessage=None,
            resolutionGraph=None,
        )  # type: ignore[call-arg]
    )  # fmt: skip
    told = {}
    with client.start_as_current_observation(name="agent", as_type="agent", input=TEXT) as agent:
        with agent.start_as_current_observation(
            name="answer", as_type="generation", model="claude-sonnet-4-5", input=TEXT, output=TEXT, prompt=prompt,
            usage_details={"input": 12, "input_cache_read": 900, "input_cache_creation": 100, "output": 40},
            cost_details={"input": 0.001, "output": 0.00025, "total": 0.00125},
        ) as call:  # fmt: skip
            told["answer"] = {"id": call.id, "traceId": call.trace_id}
        with agent.start_as_current_observation(
            name="check", as_type="generation", model="gpt-4.1", input=TEXT,
            usage_details={"prompt_tokens": 500, "completion_tokens": 20, "total_tokens": 520},
        ) as call:  # fmt: skip
            call.update(level="ERROR", status_message=TEXT)
        with agent.start_as_current_observation(name="search", as_type="tool", input={"q": TEXT}, output=TEXT):
            pass
    client.flush()
    client.shutdown()
    print(json.dumps(told))


main(*sys.argv[1:])
