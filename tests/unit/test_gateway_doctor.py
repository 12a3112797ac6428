"""What the gateway's doctor makes of messages: who tells a call twice, and what counts once."""

from typing import Any

import pytest

from schemas.codec import decode_usage, encode
from schemas.edge.access_key import AccessKey
from streams.gateway.origin import DIRECT, HEADER, Origin, read_origin
from streams.tools.gateway_doctor.arrivals import Arrivals
from streams.tools.gateway_doctor.doctor import arrived

CLAUDE, LITELLM, OTHER = Origin("otlp-logs", "aa"), Origin("litellm", "bb"), Origin("litellm", "cc")
AT_MS = 1_795_811_970_000
KEY = AccessKey(key_id="aa", tenant_id="acme", scopes=("ingest",), secret_sha256="0" * 64, created_ms=1, created_by="t")


def found(*calls: tuple[Origin, dict[str, Any]]) -> Arrivals:
    """The calls arrived in this order, a tenth of a second apart unless they say another time."""
    arrivals = Arrivals()
    for number, (origin, more) in enumerate(calls):
        told = {"type": "llm_call", "event_id": f"e{number}", "ts_ms": AT_MS + 100 * number, "tenant_id": "acme",
                "run_id": "r1", "model": "claude-sonnet-4-5", "input_tokens": 1212, "output_tokens": 42}  # fmt: skip
        arrivals.add(decode_usage(encode(told | more)), origin, AT_MS)
    return arrivals


def test_a_call_that_two_sources_tell_is_told_twice() -> None:
    """Under whatever name a gateway has for the model; each is matched once, so that three make no three pairs."""
    arrivals = found((CLAUDE, {}), (LITELLM, {"model": "anthropic/Claude-Sonnet-4-5"}), (OTHER, {}))
    assert arrivals.told_twice == {(LITELLM, CLAUDE): 1}


@pytest.mark.parametrize(
    "other",
    [
        (CLAUDE, {}),
        (LITELLM, {"event_id": "e0"}),
        (LITELLM, {"ts_ms": AT_MS + 5_001}),
        (LITELLM, {"input_tokens": 1213}),
        (LITELLM, {"model": "claude-opus-4-8"}),
    ],
    ids=["the same source", "the same event", "too long after", "other tokens", "another model"],
)
def test_calls_that_only_look_alike_are_not(other: tuple[Origin, dict[str, Any]]) -> None:
    """Two agents may well ask the same, and an event that comes again counts once as it is."""
    assert not found((CLAUDE, {}), other).told_twice


def test_calls_without_tokens_are_not_compared() -> None:
    """Requests that failed all look alike."""
    failed = {"input_tokens": 0, "output_tokens": 0, "status": "error", "cost_nanousd": 0}
    assert not found((CLAUDE, failed), (LITELLM, failed)).told_twice


def test_a_key_with_which_nothing_came_is_told_so() -> None:
    """Also where others' messages came: whoever sets up a system wants to know of theirs."""
    told = [finding.text for about, finding in arrived(found((OTHER, {})), KEY, AT_MS, AT_MS) if about == "arrived"]
    assert "nothing with this key" in told[0]
    assert "the key cc: 1 model call" in told[1]


def test_what_a_gateway_answers_by_itself_is_nobody_who_reports_past_it() -> None:
    """Whoever has stopped a first run over HTTP looks for no second system that writes to Kafka."""
    ack = {"type": "command_ack", "event_id": "a", "ts_ms": AT_MS, "tenant_id": "acme", "run_id": "r1",
           "command_id": "c1", "acted": "stopped"}  # fmt: skip
    arrivals = found((CLAUDE, {}))
    arrivals.add(decode_usage(encode(ack)), DIRECT, AT_MS)
    arrivals.add(decode_usage(encode(ack)), CLAUDE, AT_MS)
    assert {origin: stream.others for origin, stream in arrivals.streams.items()} == {CLAUDE: 1}


def test_the_run_of_what_came_last_is_named() -> None:
    """Whoever has just connected a system knows what to stop for a try; one that came again is the last, too."""
    came = found(
        (CLAUDE, {"run_id": "first"}), (CLAUDE, {"run_id": "second"}), (CLAUDE, {"event_id": "e0", "run_id": "first"})
    )
    (told,) = [finding.text for about, finding in arrived(came, KEY, AT_MS, AT_MS) if about == "arrived"]
    assert told.endswith("2 model calls of 2 runs; 1 told before, which count once, last 0 ms ago in the run first")


def test_how_a_record_came_is_read_from_its_header() -> None:
    """A record without one, or with somebody else's, came through no gateway."""
    assert read_origin([(HEADER, b"otlp-logs/aa")]) == CLAUDE
    assert read_origin([("other", b"otlp-logs/aa")]) == read_origin(None) == DIRECT
