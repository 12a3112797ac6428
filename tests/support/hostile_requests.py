"""What nobody should send to a gateway, kind by kind, with the answer that each has to get."""

import gzip
import json
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from streams.clock import wall_ms
from streams.gateway.bodies import MOST_BYTES
from tests.support.systems import helicone, signed

EVENTS, TRACES = "/v1/events", "/v1/traces"
Shown = Literal["own", "none", "guard only", "made up", "in the address"]
"""Whose key a request shows."""


class Hostile(NamedTuple):
    """A whole request that is wrong. `word` is found in the answer."""

    body: bytes
    statuses: tuple[int, ...]
    word: str = ""
    path: str = EVENTS
    headers: dict[str, str] = {}
    method: str = "POST"
    key: Shown = "own"


class Raw(NamedTuple):
    """Bytes of a connection, with `{token}` for the key; its answer begins so, or it is closed without one."""

    sent: bytes
    begins: tuple[bytes, ...]


def call(event_id: str = "hostile", **more: Any) -> dict[str, Any]:
    """A model call that is right but for what is given."""
    return {
        "type": "llm_call", "event_id": event_id, "ts_ms": wall_ms(), "run_id": "run-1", "model": "gpt-4.1",
        "input_tokens": 1000, "output_tokens": 100, "cost_nanousd": 2_800_000, **more,
    }  # fmt: skip


def _one(**more: Any) -> bytes:
    return json.dumps(call(**more)).encode()


def _with(field: str, text: str) -> bytes:
    """A call with one field as it is written here, whether or not that is JSON."""
    return _one(**{field: "HERE"}).replace(b'"HERE"', text.encode())


GZIP = {"Content-Encoding": "gzip"}
PROTOBUF = {"Content-Type": "application/x-protobuf"}

BODIES: dict[str, Hostile] = {
    "empty": Hostile(b"", (400,), "empty"),
    "JSON cut off": Hostile(b"[", (400,), "JSON array"),
    "arrays within arrays": Hostile(b"[" * 100_000, (400,), "JSON array"),
    "objects within objects": Hostile(b'{"a":' * 100_000, (400,)),
    "no UTF-8": Hostile(b"\xff\xfe", (400,)),
    "UTF-16": Hostile(json.dumps(call()).encode("utf-16"), (400,)),
    "Latin-1": Hostile(json.dumps(call(model="é"), ensure_ascii=False).encode("latin-1"), (400,)),
    "no objects": Hostile(b"[1, null, []]", (400,)),
    "NaN": Hostile(_with("cost_nanousd", "NaN"), (400,)),
    "infinity": Hostile(_with("cost_nanousd", "Infinity"), (400,)),
    "a number of 400 digits": Hostile(_with("input_tokens", "9" * 400), (400,)),
    "a float beyond floats": Hostile(_with("input_tokens", "1e999"), (400,)),
    "negative tokens": Hostile(_one(input_tokens=-1), (400,), "wrong_value"),
    "money as text": Hostile(_one(cost_nanousd="2800000"), (400,), "wrong_value"),
    "true as money": Hostile(_with("cost_nanousd", "true"), (400,), "wrong_value"),
    "a name twice, with another's tenant": Hostile(
        _one(tenant_id="acme")[:-1] + b', "tenant_id": "globex"}', (400,), "wrong_tenant"
    ),
    "another's tenant": Hostile(_one(tenant_id="globex"), (400,), "wrong_tenant"),
    "a lone surrogate": Hostile(_one().replace(b'"run-1"', b'"\\ud800"'), (400,)),
    "an id without end": Hostile(_one(run_id="r" * 129), (400,), "wrong_value"),
    "tags beyond their number": Hostile(_one(tags={str(number): "v" for number in range(17)}), (400,), "wrong_value"),
    "a tag beyond its size": Hostile(_one(tags={"k": "v" * 257}), (400,), "wrong_value"),
    "a message too large": Hostile(_one(workflow="w" * 70_000), (400,), "too_large"),
    "too many messages": Hostile(b"{}\n" * 10_001, (400,), "in several"),
    "seconds for milliseconds": Hostile(_one(ts_ms=1_790_000_000), (400,), "bad_time"),
    "a time in the year 9999": Hostile(_one(ts_ms=253_370_764_800_000), (400,), "bad_time"),
    "a type nobody knows": Hostile(_one(type="root_shell"), (400,)),
    "not packed, and said to be": Hostile(b"not packed", (400,), "unpacked", headers=GZIP),
    "gzip cut off": Hostile(gzip.compress(_one() * 20)[:-20], (400,), headers=GZIP),
    "gzip within gzip": Hostile(gzip.compress(gzip.compress(_one())), (400,), headers=GZIP),
    "gzip with a wrong sum": Hostile(gzip.compress(_one())[:-8] + bytes(8), (400,), headers=GZIP),
    "zlib under the name of gzip": Hostile(zlib.compress(_one()), (400,), headers=GZIP),
    "a bomb": Hostile(gzip.compress(bytes(MOST_BYTES + 1)), (413,), "MiB", headers=GZIP),
    "a packing nobody knows": Hostile(lzma.compress(_one()), (400,), headers={"Content-Encoding": "lzma"}),
    "protobuf to a door for JSON": Hostile(b"\x00\x01", (400,), headers=PROTOBUF),
    "protobuf garbage": Hostile(b"\xff" * 4_096, (400,), path=TRACES, headers=PROTOBUF),
    "protobuf cut off": Hostile(b"\x0a\xff\xff\xff\x7f" + b"x", (400,), path=TRACES, headers=PROTOBUF),
    "protobuf within protobuf": Hostile(b"\x0a\x80\x80\x01" * 20_000, (400,), path=TRACES, headers=PROTOBUF),
    "JSON said to be protobuf": Hostile(_one(), (400,), path=TRACES, headers=PROTOBUF),
    "a page said to be a trace": Hostile(b"<html>", (400, 415), path=TRACES, headers={"Content-Type": "text/html"}),
    "spans within spans": Hostile(b'{"resourceSpans":' * 50_000, (400,), path=TRACES),
    "a webhook with no signature": Hostile(b"{}", (401,), path="/in/helicone/support", key="none"),
    "a webhook of nobody": Hostile(b"{}", (401,), path="/in/helicone/nobody", key="none"),
    "no key": Hostile(_one(), (401,), "no key", key="none"),
    "a key that is made up": Hostile(_one(), (401,), "not known", key="made up"),
    "a key for other work": Hostile(_one(), (403,), "may not ingest", key="guard only"),
    "a key in the address": Hostile(_one(), (401,), "no key", key="in the address"),
    "a way up": Hostile(_one(), (404,), path="/v1/../../etc/passwd"),
    "a way up, encoded": Hostile(_one(), (404,), path="/v1/%2e%2e/%2e%2e/etc/passwd"),
    "a zero byte in the path": Hostile(_one(), (400, 404), path="/v1/events%00"),
    "a path without end": Hostile(_one(), (400, 404, 414), path="/" + "v" * 60_000),
    "a method nobody takes": Hostile(b"", (405,), method="DELETE"),
    "an answer with a path for an id": Hostile(b"{}", (400, 404), path="/v1/control/..%2f..%2fx/ack"),
}
"""Kind -> a request, and the status and a word that it is answered with."""

_HEAD = b"POST /v1/events HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {token}\r\n"
_BAD = (b"HTTP/1.1 400", b"HTTP/1.0 400", b"")

CONNECTIONS: dict[str, Raw] = {
    "no HTTP": Raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), _BAD),
    "thousands of headers": Raw(_HEAD + b"".join(b"X-%d: y\r\n" % number for number in range(20_000)) + b"\r\n", _BAD),
    "a header of a megabyte": Raw(_HEAD + b"X: " + b"y" * 2**20 + b"\r\n\r\n", _BAD),
    "two lengths": Raw(_HEAD + b"Content-Length: 2\r\nContent-Length: 90\r\n\r\n{}", _BAD),
    "a length and chunks": Raw(_HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", _BAD),
    "a negative length": Raw(_HEAD + b"Content-Length: -1\r\n\r\n{}", _BAD),
    "a length beyond all": Raw(_HEAD + b"Content-Length: 99999999999999\r\n\r\n{}", (b"HTTP/1.1 413", *_BAD)),
    "chunks of no size": Raw(_HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", _BAD),
    "a line break in a header": Raw(_HEAD + b"X: a\rb\r\nContent-Length: 2\r\n\r\n{}", _BAD),
    "a body that ends too early": Raw(_HEAD + b"Content-Length: 100\r\n\r\n{", (b"HTTP/1.1 408", *_BAD)),
}
"""Kind -> what is sent by a plain socket, which then says that it has no more."""


def replayed_webhook() -> Callable[[int], tuple[bytes, dict[str, str], str]]:
    """A webhook with a good signature; the n-th time it is sent a byte of it is another, but for the first two."""
    body = json.dumps(helicone("req-replayed")).encode()
    sent = signed("support", body)

    def nth(number: int) -> tuple[bytes, dict[str, str], str]:
        return (body if number < 2 else body + b" "), dict(sent.headers), sent.path

    return nth
