"""Anthropic's, OpenAI's and Google's APIs on loopback, with one model behind them that runs one command.

It asks for the command again and again, as often as it is told to; once it is denied it gives up, and says so.
"""

import json
from collections.abc import Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.loopback import Loopback

INPUT, CACHED, WRITTEN, OUTPUT, REASONING = 1200, 1000, 150, 42, 7
"""Tokens of every answer; the second and third are parts of the first, the last one of the fourth."""


class FakeModels(Loopback):
    """Answers while it is entered.

    Args:
        command: what to run in a shell.
        times: how often.
    """

    protocol = "HTTP/1.1"

    def __init__(self, command: str, times: int) -> None:
        super().__init__()
        self.command = command
        self.times = times
        self.calls = 0
        """How many answers it has given."""
        self.heard: list[str] = []
        """What it was told of each command it asked for."""
        self.asked: list[str] = []
        """All that it was asked, whole."""

    @property
    def url(self) -> str:
        """Where it is."""
        return self.address

    @property
    def answer_id(self) -> str:
        """Of the last answer, and of no other in any process."""
        return f"{self.address.rpartition(':')[2]}_{self.calls}"

    def goes_on(self, results: list[str]) -> bool:
        """Whether it asks for the command once more, after all it has heard."""
        self.heard = results
        self.calls += 1
        return len(results) < self.times and not any("Stopped" in result for result in results)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer in the words of whose path it is; anything that is no question to a model gets an empty object."""
        path = request.path.partition("?")[0]
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if request.command == "POST":
            self.asked.append(body.decode())
        with suppress(ConnectionError):  # programs end without a word
            if request.command == "POST" and path.endswith("/v1/messages"):
                self._events(request, self._anthropic(json.loads(body)))
            elif request.command == "POST" and path.endswith("/responses"):
                self._events(request, self._openai(json.loads(body)))
            elif request.command == "POST" and "streamGenerateContent" in path:
                self._events(request, [self._google(json.loads(body))])
            elif request.command == "POST" and "enerateContent" in path:
                self._json(request, self._google(json.loads(body)))
            else:
                self._json(request, {})

    def _anthropic(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        parts = [part for message in asked["messages"] if isinstance(message["content"], list)
                 for part in message["content"]]  # fmt: skip
        goes_on = self.goes_on([_text(part["content"]) for part in parts if part.get("type") == "tool_result"])
        given = {"input_tokens": INPUT - CACHED - WRITTEN, "cache_read_input_tokens": CACHED,
                 "cache_creation_input_tokens": WRITTEN, "output_tokens": 1}  # fmt: skip
        tool = {"type": "tool_use", "id": f"toolu_{self.answer_id}", "name": "Bash", "input": {}}
        command = json.dumps({"command": self.command})
        start = tool if goes_on else {"type": "text", "text": ""}
        delta = (
            {"type": "input_json_delta", "partial_json": command} if goes_on else {"type": "text_delta", "text": "done"}
        )
        message = {"id": f"msg_{self.answer_id}", "type": "message", "role": "assistant",
                   "model": asked["model"], "content": [], "stop_reason": None, "usage": given}  # fmt: skip
        return [
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": start},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use" if goes_on else "end_turn"},
             "usage": {"output_tokens": OUTPUT}},
            {"type": "message_stop"},
        ]  # fmt: skip

    def _openai(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        goes_on = self.goes_on(
            [_text(item["output"]) for item in asked["input"] if item.get("type") == "function_call_output"]
        )
        number = self.answer_id
        arguments = json.dumps({"cmd": self.command})
        tool = {"type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}", "name": "exec_command",
                "arguments": arguments}  # fmt: skip
        said = {"type": "message", "id": f"m_{number}", "role": "assistant",
                "content": [{"type": "output_text", "text": "done"}]}  # fmt: skip
        usage = {"input_tokens": INPUT, "input_tokens_details": {"cached_tokens": CACHED}, "output_tokens": OUTPUT,
                 "output_tokens_details": {"reasoning_tokens": REASONING}, "total_tokens": INPUT + OUTPUT}  # fmt: skip
        return [
            {"type": "response.created", "response": {"id": f"resp_{number}"}},
            {"type": "response.output_item.done", "output_index": 0, "item": tool if goes_on else said},
            {"type": "response.completed", "response": {"id": f"resp_{number}", "usage": usage}},
        ]  # fmt: skip

    def _google(self, asked: dict[str, Any]) -> dict[str, Any]:
        parts = [part for content in asked["contents"] for part in content.get("parts", [])]
        goes_on = self.goes_on([_text(part["functionResponse"]) for part in parts if "functionResponse" in part])
        tool = {"functionCall": {"name": "run_shell_command", "args": {"command": self.command}}}
        usage = {"promptTokenCount": INPUT, "cachedContentTokenCount": CACHED, "candidatesTokenCount": OUTPUT,
                 "thoughtsTokenCount": REASONING, "totalTokenCount": INPUT + OUTPUT + REASONING}  # fmt: skip
        content = {"role": "model", "parts": [tool if goes_on else {"text": "done"}]}
        return {"responseId": f"g{self.answer_id}", "modelVersion": "gemini-2.5-pro", "usageMetadata": usage,
                "candidates": [{"content": content, "finishReason": "STOP", "index": 0}]}  # fmt: skip

    def _json(self, request: BaseHTTPRequestHandler, answer: dict[str, Any]) -> None:
        self.send(request, 200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _events(self, request: BaseHTTPRequestHandler, events: Iterable[dict[str, Any]]) -> None:
        """As a stream, whose end is that of the connection."""
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.send_header("request-id", f"req_{self.answer_id}")
        request.send_header("Connection", "close")
        request.end_headers()
        for event in events:
            name = f"event: {event['type']}\n" if "type" in event else ""
            request.wfile.write(f"{name}data: {json.dumps(event)}\n\n".encode())
        request.close_connection = True


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
