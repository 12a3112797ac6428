"""Anthropic's, OpenAI's and Google's APIs on loopback, with one model behind them that runs one command.

It asks for the command again and again, as often as it is told to; once it is denied it gives up, and says so.
"""

import json
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

INPUT, CACHED, WRITTEN, OUTPUT, REASONING = 1200, 1000, 150, 42, 7
"""Tokens of every answer; the second and third are parts of the first, the last one of the fourth."""


class FakeModels:
    """Serves from entering to leaving.

    Args:
        command: what to run in a shell.
        times: how often.
    """

    def __init__(self, command: str, times: int) -> None:
        self.command = command
        self.times = times
        self.calls = 0
        """How many answers it has given."""
        self.heard: list[str] = []
        """What it was told of each command it asked for."""
        self.asked: list[str] = []
        """All that it was asked, whole."""
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"models": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def answer_id(self) -> str:
        """Of the last answer, and of no other in any process."""
        return f"{self._server.server_port}_{self.calls}"

    def goes_on(self, results: list[str]) -> bool:
        """Whether it asks for the command once more, after all it has heard."""
        self.heard = results
        self.calls += 1
        return len(results) < self.times and not any("Stopped" in result for result in results)


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Programs end without a word."""


class _Handler(BaseHTTPRequestHandler):
    models: FakeModels
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._json({})

    do_GET = do_HEAD  # noqa: N815

    def do_POST(self) -> None:
        """Answer in the words of whose path it is."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.models.asked.append(body.decode())
        path = self.path.partition("?")[0]
        if path.endswith("/v1/messages"):
            self._anthropic(json.loads(body))
        elif path.endswith("/responses"):
            self._openai(json.loads(body))
        elif "enerateContent" in path:
            self._google(json.loads(body), in_stream="stream" in path)
        else:
            self._json({})

    def _anthropic(self, asked: dict[str, Any]) -> None:
        parts = [part for message in asked["messages"] if isinstance(message["content"], list)
                 for part in message["content"]]  # fmt: skip
        goes_on = self.models.goes_on([_text(part["content"]) for part in parts if part.get("type") == "tool_result"])
        given = {"input_tokens": INPUT - CACHED - WRITTEN, "cache_read_input_tokens": CACHED,
                 "cache_creation_input_tokens": WRITTEN, "output_tokens": 1}  # fmt: skip
        tool = {"type": "tool_use", "id": f"toolu_{self.models.answer_id}", "name": "Bash", "input": {}}
        command = json.dumps({"command": self.models.command})
        start = tool if goes_on else {"type": "text", "text": ""}
        delta = (
            {"type": "input_json_delta", "partial_json": command} if goes_on else {"type": "text_delta", "text": "done"}
        )
        message = {"id": f"msg_{self.models.answer_id}", "type": "message", "role": "assistant",
                   "model": asked["model"], "content": [], "stop_reason": None, "usage": given}  # fmt: skip
        self._events([
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": start},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use" if goes_on else "end_turn"},
             "usage": {"output_tokens": OUTPUT}},
            {"type": "message_stop"},
        ])  # fmt: skip

    def _openai(self, asked: dict[str, Any]) -> None:
        goes_on = self.models.goes_on(
            [_text(item["output"]) for item in asked["input"] if item.get("type") == "function_call_output"]
        )
        number = self.models.answer_id
        arguments = json.dumps({"cmd": self.models.command})
        tool = {"type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}", "name": "exec_command",
                "arguments": arguments}  # fmt: skip
        said = {"type": "message", "id": f"m_{number}", "role": "assistant",
                "content": [{"type": "output_text", "text": "done"}]}  # fmt: skip
        usage = {"input_tokens": INPUT, "input_tokens_details": {"cached_tokens": CACHED}, "output_tokens": OUTPUT,
                 "output_tokens_details": {"reasoning_tokens": REASONING}, "total_tokens": INPUT + OUTPUT}  # fmt: skip
        self._events([
            {"type": "response.created", "response": {"id": f"resp_{number}"}},
            {"type": "response.output_item.done", "output_index": 0, "item": tool if goes_on else said},
            {"type": "response.completed", "response": {"id": f"resp_{number}", "usage": usage}},
        ])  # fmt: skip

    def _google(self, asked: dict[str, Any], *, in_stream: bool) -> None:
        parts = [part for content in asked["contents"] for part in content.get("parts", [])]
        goes_on = self.models.goes_on([_text(part["functionResponse"]) for part in parts if "functionResponse" in part])
        tool = {"functionCall": {"name": "run_shell_command", "args": {"command": self.models.command}}}
        usage = {"promptTokenCount": INPUT, "cachedContentTokenCount": CACHED, "candidatesTokenCount": OUTPUT,
                 "thoughtsTokenCount": REASONING, "totalTokenCount": INPUT + OUTPUT + REASONING}  # fmt: skip
        content = {"role": "model", "parts": [tool if goes_on else {"text": "done"}]}
        answer = {"responseId": f"g{self.models.answer_id}", "modelVersion": "gemini-2.5-pro", "usageMetadata": usage,
                  "candidates": [{"content": content, "finishReason": "STOP", "index": 0}]}  # fmt: skip
        if in_stream:
            self._events([answer])
        else:
            self._json(answer)

    def _json(self, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _events(self, events: Iterable[dict[str, Any]]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("request-id", f"req_{self.models.answer_id}")
        self.send_header("Connection", "close")
        self.end_headers()
        for event in events:
            name = f"event: {event['type']}\n" if "type" in event else ""
            self.wfile.write(f"{name}data: {json.dumps(event)}\n\n".encode())
        self.close_connection = True


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
