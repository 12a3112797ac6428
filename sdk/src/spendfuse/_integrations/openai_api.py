"""OpenAI's interface, which many providers speak: chat completions, responses and embeddings."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from spendfuse._integrations.base import ToolResult, Usage, count, listed, part, text

PATHS = {
    "/chat/completions": "chat", "/responses": "responses", "/embeddings": "embeddings", "/completions": "completions",
}  # fmt: skip
TIERS = {"default": "standard", "standard": "standard", "flex": "flex", "priority": "priority", "batch": "batch"}

WRITTEN = ("content", "tool_calls", "function_call", "refusal", "reasoning", "reasoning_content")
"""Where a part of a chat has what the model has written, by OpenAI and by others who speak its interface."""


class OpenAI:
    """How a call to OpenAI is read and changed."""

    def __init__(self, provider: str = "openai") -> None:
        self.provider = provider

    def kind(self, path: str) -> str | None:
        """What is called there; None for what is no model."""
        return PATHS.get(path.partition("?")[0])

    def prompt(self, kind: str, body: Mapping[str, Any]) -> object:
        """What the model is asked."""
        return body.get("messages" if kind == "chat" else "prompt" if kind == "completions" else "input")

    def told(self, kind: str, body: dict[str, Any], sentence: str) -> dict[str, Any]:
        """The body with a sentence before the model."""
        said = {"role": "user", "content": sentence}
        if kind == "chat":
            return {**body, "messages": [*body.get("messages", ()), said]}
        before = body.get("input")
        before = [{"role": "user", "content": before}] if isinstance(before, str) else list(before or ())
        return {**body, "input": [*before, said]}

    def takes_nudges(self, kind: str) -> bool:
        """Whether a sentence can be put before the model."""
        return kind in ("chat", "responses")

    def streamed(self, kind: str, body: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """The body with which a stream tells its usage, and whether that adds a chunk which nobody has asked for."""
        options = part(body, "stream_options")
        if kind not in ("chat", "completions") or count_flag(options, "include_usage"):
            return body, False
        given = dict(options) if isinstance(options, Mapping) else {}
        return {**body, "stream_options": {**given, "include_usage": True}}, True

    def is_added(self, chunk: object) -> bool:
        """Whether it is the chunk that only tells the usage."""
        return part(chunk, "usage") is not None and not part(chunk, "choices")

    def is_output(self, chunk: object) -> bool:
        """Whether a part of a stream holds something that the model has written."""
        if (text(chunk, "type") or "").endswith(".delta"):
            return True
        choices = part(chunk, "choices")
        return any(
            part(choice, "text") or any(part(choice, "delta", name) for name in WRITTEN)
            for choice in (choices if isinstance(choices, list) else ())
        )

    def usage(self, answer: object) -> Usage | None:
        """What an answer, or a part of a stream, says of usage; None if it says nothing."""
        whole = part(answer, "response") if part(answer, "type") in FINAL_EVENTS else answer
        usage = part(whole, "usage")
        return None if usage is None else openai_usage(usage, text(whole, "service_tier"))

    def response_id(self, answer: object) -> str | None:
        """The provider's id of the answer."""
        return text(answer, "response", "id") or text(answer, "id")

    def model(self, answer: object) -> str | None:
        """Which model has answered."""
        return text(answer, "response", "model") or text(answer, "model")

    def asked(self, answer: object) -> Iterator[tuple[str, object]]:
        """The tools that an answer asks for, by the ids of their calls."""
        whole = part(answer, "response") if part(answer, "type") in FINAL_EVENTS else answer
        for item in listed(whole, "output"):
            if part(item, "type") == "function_call" and (call_id := text(item, "call_id")):
                yield call_id, item

    def tools(self, kind: str, body: Mapping[str, Any], asked: Mapping[str, object]) -> Iterator[ToolResult]:
        """The tools whose results a conversation shows. What is `asked` was so in answers that it does not repeat."""
        if kind == "chat":
            yield from _tools_of_messages(body.get("messages") or ())
        elif kind == "responses" and not isinstance(body.get("input"), str):
            yield from _tools_of_items(body.get("input") or (), asked)


FINAL_EVENTS = ("response.completed", "response.incomplete", "response.failed")


def count_flag(thing: object, name: str) -> bool:
    """Whether a flag is set."""
    return part(thing, name) is True


def openai_usage(usage: object, tier: str | None = None) -> Usage:
    """Usage as chat completions, responses and embeddings write it."""
    inputs = part(usage, "prompt_tokens_details") or part(usage, "input_tokens_details")
    outputs = part(usage, "completion_tokens_details") or part(usage, "output_tokens_details")
    found: Usage = {
        "input_tokens": count(usage, "prompt_tokens") or count(usage, "input_tokens"),
        "output_tokens": count(usage, "completion_tokens") or count(usage, "output_tokens"),
        "cache_read_tokens": count(inputs, "cached_tokens"),
        "cache_write_tokens": count(inputs, "cache_write_tokens"),
        "reasoning_tokens": count(outputs, "reasoning_tokens"),
        "input_audio_tokens": count(inputs, "audio_tokens"),
        "output_audio_tokens": count(outputs, "audio_tokens"),
    }
    if tier in TIERS:
        found["service_tier"] = TIERS[tier]
    return found


def _tools_of_messages(messages: Any) -> Iterator[ToolResult]:
    asked: dict[str, Any] = {}
    for message in messages:
        for call in part(message, "tool_calls") or ():
            asked[str(part(call, "id"))] = part(call, "function")
        call_id = text(message, "tool_call_id")
        if call_id in asked:
            function = asked[call_id]
            args = parsed(part(function, "arguments"))
            yield ToolResult(call_id, text(function, "name") or "unnamed", args, part(message, "content"))


def _tools_of_items(items: Any, before: Mapping[str, object]) -> Iterator[ToolResult]:
    asked: dict[str, object] = {}
    for item in items:
        call_id, kind = text(item, "call_id"), part(item, "type")
        if kind == "function_call" and call_id:
            asked[call_id] = item
        elif kind == "function_call_output" and call_id and (call := asked.get(call_id) or before.get(call_id)):
            args = parsed(part(call, "arguments"))
            yield ToolResult(call_id, text(call, "name") or "unnamed", args, part(item, "output"))


def parsed(arguments: object) -> object:
    """Arguments as what they say: two ways to write the same are the same."""
    try:
        return json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        return arguments
