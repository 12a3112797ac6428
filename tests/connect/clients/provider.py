"""OpenAI's and Anthropic's interfaces on loopback, for whoever has no key: fixed answers, counted calls."""

import itertools
import json
import os
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MARKER = "somebody-s-own-words-4711"
INPUT, CACHED, OUTPUT, REASONING = 100, 40, 20, 5


class Provider:
    """Counts what it was asked. `tool` is what the model asks for, as long as that is set."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.tool: str | None = None
        self.args: dict[str, Any] = {"query": MARKER}
        self.status = 200
        self.breaks_off = False
        """Whether a stream ends in its midst, by a connection that is cut."""
        self._calls = itertools.count()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # headers and body would be 40 ms apart

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                provider.asked.append(body)
                if provider.status != 200:
                    self._send(
                        json.dumps({"error": {"message": MARKER, "type": "server_error"}}).encode(), "application/json"
                    )
                    return
                kind = self.path.partition("?")[0].rsplit("/", 1)[-1]
                if kind == "count_tokens":
                    self._send(b'{"input_tokens": 1}', "application/json")
                    return
                answer = getattr(provider, kind)(body)
                if not body.get("stream"):
                    self._send(json.dumps(answer).encode(), "application/json")
                    return
                parts = getattr(provider, f"{kind}_parts")(answer, body)
                if provider.breaks_off:
                    parts = parts[: len(parts) // 2 + 1]
                text = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in parts)
                done = "" if provider.breaks_off else "data: [DONE]\n\n"
                self._send((text + done).replace("event: \n", "").encode(), "text/event-stream")

            def _send(self, body: bytes, content_type: str) -> None:
                self.send_response(provider.status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body) + provider.breaks_off))
                self.end_headers()
                self.wfile.write(body)
                self.close_connection = provider.breaks_off

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def _id(self, kind: str) -> str:
        self.ids.append(f"{kind}{uuid.uuid4().hex}")
        return self.ids[-1]

    def completions(self, body: dict[str, Any]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": MARKER}
        if self.tool is not None and body.get("tools"):
            function = {"name": self.tool, "arguments": json.dumps(self.args)}
            call = {"id": f"call_{uuid.uuid4().hex}", "type": "function", "function": function}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        finish = "tool_calls" if "tool_calls" in message else "stop"
        return {
            "id": self._id("chatcmpl-"), "object": "chat.completion", "created": 1, "model": "gpt-5-2025-08-07",
            "service_tier": "default", "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": {
                "prompt_tokens": INPUT, "completion_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT,
                "prompt_tokens_details": {"cached_tokens": CACHED},
                "completion_tokens_details": {"reasoning_tokens": REASONING},
            },
        }  # fmt: skip

    def completions_parts(self, answer: dict[str, Any], body: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        whole = {name: answer[name] for name in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
        said = [{"role": "assistant"}, {"content": MARKER}, {"content": MARKER}]
        parts = [whole | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in said]
        parts.append(whole | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if (body.get("stream_options") or {}).get("include_usage"):
            parts.append(whole | {"choices": [], "usage": answer["usage"]})
        return [("", part) for part in parts]

    def responses(self, body: dict[str, Any]) -> dict[str, Any]:
        text = {"type": "output_text", "text": MARKER, "annotations": []}
        item: dict[str, Any] = {
            "type": "message",
            "id": "m",
            "role": "assistant",
            "status": "completed",
            "content": [text],
        }
        if self.tool is not None and body.get("tools"):
            call_id = f"call_{uuid.uuid4().hex}"
            item = {"type": "function_call", "id": "f", "call_id": call_id, "name": self.tool, "status": "completed",
                    "arguments": json.dumps(self.args)}  # fmt: skip
        return {
            "id": self._id("resp_"), "object": "response", "created_at": 1, "model": "gpt-5-2025-08-07",
            "status": "completed", "output": [item], "parallel_tool_calls": False, "tool_choice": "auto", "tools": [],
            "usage": {
                "input_tokens": INPUT, "output_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT,
                "input_tokens_details": {"cached_tokens": CACHED},
                "output_tokens_details": {"reasoning_tokens": REASONING},
            },
        }  # fmt: skip

    def responses_parts(self, answer: dict[str, Any], _: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        begun = {
            "type": "response.created",
            "sequence_number": 0,
            "response": {**answer, "status": "in_progress", "usage": None},
        }
        ended = {"type": "response.completed", "sequence_number": 1, "response": answer}
        return [("response.created", begun), ("response.completed", ended)]

    def embeddings(self, _: dict[str, Any]) -> dict[str, Any]:
        vector = {"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}
        return {
            "object": "list",
            "model": "text-embedding-3-small",
            "data": [vector],
            "usage": {"prompt_tokens": INPUT, "total_tokens": INPUT},
        }

    def messages(self, body: dict[str, Any]) -> dict[str, Any]:
        content: list[dict[str, Any]] = [{"type": "text", "text": MARKER}]
        if self.tool is not None and body.get("tools"):
            content = [{"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex}", "name": self.tool, "input": self.args}]
        return {
            "id": self._id("msg_"), "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
            "content": content, "stop_reason": "tool_use" if content[0]["type"] == "tool_use" else "end_turn",
            "stop_sequence": None,
            "usage": {
                "input_tokens": INPUT - CACHED - 10, "output_tokens": OUTPUT, "cache_read_input_tokens": CACHED,
                "cache_creation_input_tokens": 10, "service_tier": "standard",
                "cache_creation": {"ephemeral_1h_input_tokens": 4, "ephemeral_5m_input_tokens": 6},
            },
        }  # fmt: skip

    def messages_parts(self, answer: dict[str, Any], _: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        begun = {**answer, "content": [], "stop_reason": None, "usage": {**answer["usage"], "output_tokens": 1}}
        (block,) = answer["content"]
        if block["type"] == "text":
            empty, deltas = {"type": "text", "text": ""}, [{"type": "text_delta", "text": MARKER}] * 2
        else:
            empty, deltas = (
                {**block, "input": {}},
                [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}],
            )
        parts: list[dict[str, Any]] = [
            {"type": "message_start", "message": begun},
            {"type": "content_block_start", "index": 0, "content_block": empty},
            *[{"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas],
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": answer["stop_reason"], "stop_sequence": None},
             "usage": {"output_tokens": OUTPUT}},
            {"type": "message_stop"},
        ]  # fmt: skip
        return [(part["type"], part) for part in parts]


if __name__ == "__main__":  # for whoever measures: a model that takes no time from its agent
    alone = Provider()
    alone.tool, alone.args = os.environ.get("TOOL"), {"command": "true", "description": "nothing"}
    print(alone.url, flush=True)
    threading.Event().wait()
