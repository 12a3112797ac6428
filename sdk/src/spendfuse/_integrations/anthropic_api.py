"""Anthropic's Messages interface."""

from collections.abc import Iterator, Mapping
from typing import Any

from spendfuse._integrations.base import ToolResult, Usage, count, listed, part, text

TIERS = ("standard", "priority", "batch")


class Anthropic:
    """How a call to Anthropic is read and changed."""

    def __init__(self) -> None:
        self.provider = "anthropic"

    def kind(self, path: str) -> str | None:
        """What is called there; None for what is no model."""
        return "messages" if path.partition("?")[0] == "/v1/messages" else None

    def prompt(self, _: str, body: Mapping[str, Any]) -> object:
        """What the model is asked."""
        return body.get("messages")

    def told(self, _: str, body: dict[str, Any], sentence: str) -> dict[str, Any]:
        """The body with a sentence before the model."""
        return {**body, "messages": [*body.get("messages", ()), {"role": "user", "content": sentence}]}

    def takes_nudges(self, _: str) -> bool:
        """Whether a sentence can be put before the model."""
        return True

    def streamed(self, _: str, body: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """A stream tells its usage by itself."""
        return body, False

    def is_added(self, _: object) -> bool:
        """No chunk comes that nobody has asked for."""
        return False

    def is_output(self, chunk: object) -> bool:
        """Whether a part of a stream holds something that the model has written."""
        return part(chunk, "type") == "content_block_delta"

    def usage(self, answer: object) -> Usage | None:
        """What an answer, or a part of a stream, says of usage; None if it says nothing."""
        usage = part(answer, "message", "usage") or part(answer, "usage")
        return None if usage is None else anthropic_usage(usage)

    def response_id(self, answer: object) -> str | None:
        """The provider's id of the answer."""
        return text(answer, "message", "id") or text(answer, "id")

    def model(self, answer: object) -> str | None:
        """Which model has answered, and whether in fast mode."""
        usage = part(answer, "message", "usage") or part(answer, "usage")
        return in_mode(text(answer, "message", "model") or text(answer, "model"), usage)

    def asked(self, answer: object) -> Iterator[tuple[str, object]]:
        """The tools that a whole answer asks for, by the ids of their calls."""
        for block in listed(answer, "content"):
            if part(block, "type") == "tool_use" and (call_id := text(block, "id")):
                yield call_id, block

    def tools(self, _: str, body: Mapping[str, Any], asked: Mapping[str, object]) -> Iterator[ToolResult]:
        """The tools whose results a conversation shows. What is `asked` was so in answers that it does not repeat."""
        shown: dict[str, object] = {}
        for message in body.get("messages") or ():
            for block in listed(message, "content"):
                kind, call_id = part(block, "type"), text(block, "id") or text(block, "tool_use_id")
                if kind == "tool_use" and call_id:
                    shown[call_id] = block
                elif kind == "tool_result" and call_id and (call := shown.get(call_id) or asked.get(call_id)):
                    failed = part(block, "is_error") is True
                    yield ToolResult(
                        call_id, text(call, "name") or "unnamed", part(call, "input"), part(block, "content"),
                        "error" if failed else "ok",
                    )  # fmt: skip


def in_mode(model: str | None, usage: object) -> str | None:
    """The model's name as gateways write it, with fast mode in it: a setting of the call that has prices of its own."""
    return f"{model}-fast" if model and part(usage, "speed") == "fast" else model


def anthropic_usage(usage: object) -> Usage:
    """Usage as the Messages interface writes it, whose input tokens are without the cached ones.

    A stream tells the input at its beginning and the output at its end: only what is said is in the answer.
    """
    found: Usage = {}
    if part(usage, "input_tokens") is not None:
        read, written = count(usage, "cache_read_input_tokens"), count(usage, "cache_creation_input_tokens")
        found["input_tokens"] = count(usage, "input_tokens") + read + written
        found["cache_read_tokens"] = read
        found["cache_write_tokens"] = written
        found["cache_write_1h_tokens"] = count(usage, "cache_creation", "ephemeral_1h_input_tokens")
    if part(usage, "output_tokens") is not None:
        found["output_tokens"] = count(usage, "output_tokens")
    if searches := count(usage, "server_tool_use", "web_search_requests"):
        found["web_searches"] = searches
    if part(usage, "service_tier") in TIERS:
        found["service_tier"] = part(usage, "service_tier")
    return found
