"""`poll` against stubs made from what Langfuse documents: each call once, whoever else reported it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.identity import derived_id
from schemas.codec import decode_usage
from schemas.usage import LlmCall, ToolCall, UsageMessage
from streams.__main__ import main
from tests.support.kafka import TopicSpace, read_all
from tests.support.polled import Answer, Stub, braintrust_api, langfuse_api
from tests.support.service_process import ServiceProcess

MARKER = "a-secret-that-must-not-pass-4711"
LOGIN = "pk-lf-1:sk-lf-1"
NOW = datetime.now(UTC)
pytestmark = pytest.mark.kafka


def observation(number: int, minutes_ago: float, **more: Any) -> dict[str, Any]:
    """A generation as the API has it."""
    start = NOW - timedelta(minutes=minutes_ago)
    return {
        "id": f"{number:016x}", "traceId": f"{number // 3:032x}", "type": "GENERATION", "name": "answer",
        "startTime": start.isoformat().replace("+00:00", "Z"),
        "endTime": (start + timedelta(seconds=2)).isoformat().replace("+00:00", "Z"),
        "level": "DEFAULT", "environment": "prod", "userId": "u-1", "sessionId": "s-1", "traceName": "support",
        "model": "claude-sonnet-4-5",
        "usageDetails": {"input": 12, "input_cache_read": 900, "output": 40, "total": 952},
        "costDetails": {"input": 0.001, "output": 0.00025, "total": 0.00125}, "totalCost": 0.00125,
        "promptName": "support", "promptVersion": 3, "statusMessage": MARKER, **more,
    }  # fmt: skip


def logged(space: TopicSpace) -> list[UsageMessage]:
    return [decode_usage(record.value) for record in read_all(space.bootstrap, space.name("usage.v1"))]


@pytest.fixture(autouse=True)
def environment(kafka_topics: TopicSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPENDFUSE_KAFKA_BOOTSTRAP", kafka_topics.bootstrap)
    monkeypatch.setenv("SPENDFUSE_PREFIX", kafka_topics.prefix)
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk-lf-1")
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk-lf-1")


def poll(source: str = "langfuse", since: str = "1h") -> int:
    return main(["poll", "--from", source, "--tenant", "acme", "--since", since, "--once"])


def test_what_langfuse_knows_is_written_once_with_the_ids_of_the_push(
    kafka_topics: TopicSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked again, the poller asks for an hour that it knows already, and writes what is new there: a call that began
    before others and ended after them. What is not ended is not written; agents are not charged.
    """
    calls = [observation(number, 30 - number) for number in range(7)]
    calls.append(observation(7, 20, type="TOOL", name="search", model=None, usageDetails={}, costDetails={}))
    calls.append(observation(8, 20, type="AGENT"))
    slow = observation(9, 25, endTime=None)
    calls.append(slow)
    with Stub(langfuse_api(calls, LOGIN, page=3)) as stub:
        monkeypatch.setenv("LANGFUSE_BASE_URL", stub.url)
        assert poll() == 0
        first = logged(kafka_topics)
        assert len(first) == 8
        slow["endTime"] = NOW.isoformat().replace("+00:00", "Z")
        calls.append(observation(10, 1))
        assert poll() == 0
        assert poll() == 0
    messages = logged(kafka_topics)
    ids = [message.event_id for message in messages]
    assert len(ids) == len(set(ids)) == 10
    assert set(ids) == {derived_id("otel", one["traceId"], one["id"]) for one in calls if one["type"] != "AGENT"}
    call = next(message for message in messages if isinstance(message, LlmCall))
    assert (call.input_tokens, call.cache_read_tokens, call.output_tokens) == (912, 900, 40)
    assert (call.cost_nanousd, call.prompt_version, call.workflow) == (1_250_000, "support@3", "support")
    assert [message.tool for message in messages if isinstance(message, ToolCall)] == ["search"]
    assert all("io" not in asked["fields"].split(",") for asked in stub.asked)
    records = [*read_all(kafka_topics.bootstrap, kafka_topics.name("usage.v1")),
               *read_all(kafka_topics.bootstrap, kafka_topics.name("cursors.v1"))]  # fmt: skip
    assert not any(MARKER.encode() in (record.value or b"") for record in records)


def test_a_call_that_lasts_for_hours_is_written_once_when_it_ends(
    kafka_topics: TopicSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began long before the newest that was written, and is not in the answers until it ends: a sweep finds it. What
    a shorter call of that time is was written then, and is not again.
    """
    calls = [observation(1, 200), observation(2, 100)]
    hours = {"endTime": (NOW - timedelta(minutes=1)).isoformat().replace("+00:00", "Z")}
    with Stub(langfuse_api(calls, LOGIN, page=3)) as stub:
        monkeypatch.setenv("LANGFUSE_BASE_URL", stub.url)
        assert poll(since="6h") == 0
        calls.append(observation(3, 1))
        assert poll(since="6h") == 0
        assert len(logged(kafka_topics)) == 3
        calls.append(observation(4, 190, **hours))
        assert poll(since="6h") == 0
        assert poll(since="6h") == 0
    expected = [derived_id("otel", one["traceId"], one["id"]) for one in calls]
    assert sorted(one.event_id for one in logged(kafka_topics)) == sorted(expected)


def test_it_goes_on_through_refusals_once_it_was_answered(
    kafka_topics: TopicSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is changed at the other side ends no process, which a supervisor would start again and again: it is
    told, counted, and asked on until it is taken again. The process ends in order.
    """
    calls = [observation(1, 5)]
    answering = langfuse_api(calls, LOGIN, page=3)
    refused = {"now": False}

    def answer(*asked: Any) -> Answer:
        return (401, {"message": "Invalid credentials"}) if refused["now"] else answering(*asked)

    with Stub(answer) as stub, PollProcess(kafka_topics, stub.url) as process:
        process.wait_for(lambda: len(logged(kafka_topics)) == 1, 30, "the first call")
        refused["now"] = True
        process.wait_said("it is asked again later")
        calls.append(observation(2, 1))
        refused["now"] = False
        process.wait_for(lambda: len(logged(kafka_topics)) == 2, 30, "the second call")
        process.wait_for(lambda: process.metric("spendfuse_poll_written_total") == {'source="langfuse"': 2.0}, 30, "it")
        assert process.metric("spendfuse_poll_failures_total")['source="langfuse"'] >= 1
        assert process.stop() == 0, process.tail()


class PollProcess(ServiceProcess):
    """`python -m streams poll`, four times a second."""

    def __init__(self, space: TopicSpace, url: str) -> None:
        variables = {"LANGFUSE_BASE_URL": url, "LANGFUSE_PUBLIC_KEY": "pk-lf-1", "LANGFUSE_SECRET_KEY": "sk-lf-1"}
        settings = {"KAFKA_BOOTSTRAP": space.bootstrap, "PREFIX": space.prefix}
        words = ["streams", "poll", "--from", "langfuse", "--tenant", "acme", "--every-s", "0.25"]
        super().__init__(words, settings, variables)


def test_what_braintrust_knows_is_written_once_with_the_ids_of_the_push(
    kafka_topics: TopicSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over its pages, and again; no column of text is asked for."""
    monkeypatch.setattr("streams.tools.polls.braintrust.PAGE", 3)
    spans = [
        {"span_id": f"{number:016x}", "root_span_id": f"{number // 3:032x}", "kind": "tool" if number == 5 else "llm",
         "created": (NOW - timedelta(minutes=30 - number)).isoformat().replace("+00:00", "Z"), "failed": False,
         "name": "search", "model": "gpt-4.1", "started_s": NOW.timestamp() - 9, "ended_s": NOW.timestamp() - number,
         "prompt_tokens": 1000, "completion_tokens": 50, "prompt_cached_tokens": 900, "estimated_cost": 0.0012}
        for number in range(7)
    ]  # fmt: skip
    monkeypatch.setenv("BRAINTRUST_API_KEY", "sk-bt")
    monkeypatch.setenv("BRAINTRUST_PROJECT_ID", "a748a67d-8213")
    with Stub(braintrust_api(spans, "sk-bt", page=3)) as stub:
        monkeypatch.setenv("BRAINTRUST_API_URL", stub.url)
        assert poll("braintrust") == 0
        assert poll("braintrust") == 0
        assert not any(word in asked["query"] for asked in stub.asked for word in ("input", "output,", "*"))
    messages = logged(kafka_topics)
    ids = [message.event_id for message in messages]
    assert sorted(ids) == sorted(derived_id("otel", one["root_span_id"], one["span_id"]) for one in spans)
    call = next(message for message in messages if isinstance(message, LlmCall))
    assert (call.input_tokens, call.cache_read_tokens, call.cost_nanousd) == (1000, 900, 1_200_000)
    assert [message.tool for message in messages if isinstance(message, ToolCall)] == ["search"]


def test_what_refuses_the_poller_is_told_in_words(
    kafka_topics: TopicSpace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong secret, a variable that is not set, and nobody there: each with its own exit code."""
    with Stub(langfuse_api([], "somebody:else", page=3)) as stub:
        monkeypatch.setenv("LANGFUSE_BASE_URL", stub.url)
        assert poll() == 2
        assert "401" in capsys.readouterr().err
    assert poll() == 4
    assert "does not answer" in capsys.readouterr().err
    monkeypatch.delenv("LANGFUSE_SECRET_KEY")
    assert poll() == 2
    assert "LANGFUSE_SECRET_KEY" in capsys.readouterr().err
