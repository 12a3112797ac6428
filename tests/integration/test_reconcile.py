"""Reconciliation as users start it: stand-ins for the providers' reports, our own side on a real broker."""

import json
from pathlib import Path

import pytest

from schemas.codec import encode
from schemas.duration import DAY_MS, HOUR_MS
from schemas.usage import LlmCall
from streams.__main__ import main
from streams.clock import wall_ms
from streams.reconcile.days import day_of
from tests.support.consoles import (
    COMPLETIONS,
    COST_REPORT,
    COSTS,
    EMBEDDINGS,
    MESSAGES,
    Consoles,
    cents,
    completions,
    cost,
    embeddings,
    messages,
)
from tests.support.kafka import Record, TopicSpace, produce, read_all
from tests.support.messages import llm_call
from tests.support.providers import SECRET
from tests.support.service_process import ServiceProcess

FILE = """
[[console]]
name = "claude"
source = "anthropic"
secret_env = "ANTHROPIC_ADMIN_KEY"
base_url = "{address}"
tenant_id = "acme"
lag_hours = 0
floor_tokens = 100

[[console]]
name = "gpt"
source = "openai"
secret_env = "OPENAI_ADMIN_KEY"
base_url = "{address}"
key_tag = "api_key"
lag_hours = 0
floor_tokens = 100
"""


def calls(noon_ms: int) -> list[LlmCall]:
    """Yesterday's, counted by hand: of acme's Claude 3,000 tokens in, 300 out and 3 dollars, one of them written twice;
    of GPT 1,000 and 100 by one key, 5,000 and 500 by another, for 50 cents and 2 dollars.
    """
    claude = {"provider": "anthropic", "model": "claude-opus-4-5"}
    gpt = {"provider": "openai", "model": "gpt-5"}
    made = [
        llm_call(noon_ms, usd=1, input_tokens=1000, output_tokens=100, event_id="c1", **claude),
        llm_call(noon_ms, usd=2, input_tokens=2000, output_tokens=200, cache_read_tokens=400, event_id="c2", **claude),
        llm_call(noon_ms, usd=9, input_tokens=9000, output_tokens=900, event_id="c3", tenant_id="globex", **claude),
        llm_call(noon_ms, usd=0.5, input_tokens=1000, output_tokens=100, tags={"api_key": "key_1"}, **gpt),
        llm_call(noon_ms, usd=2, input_tokens=5000, output_tokens=500, tags={"api_key": "key_2"}, **gpt),
    ]
    return [*made, made[1]]


def fill(consoles: Consoles, day: str) -> None:
    """What the providers say of it: one key of GPT has used more than we know of."""
    consoles.rows[MESSAGES][day] = [messages("apikey_1", "claude-opus-4-5-20251101", 2500, 300, 400, 100)]
    consoles.rows[COST_REPORT][day] = [
        cents("claude-opus-4-5-20251101", "Claude Opus 4.5 - Input", "100.0"),
        cents("claude-opus-4-5-20251101", "Claude Opus 4.5 - Output", "200.00"),
    ]
    consoles.rows[COMPLETIONS][day] = [
        completions("key_1", "gpt-5-2025-08-07", 1000, 100), completions("key_2", "gpt-5-2025-08-07", 8000, 500),
    ]  # fmt: skip
    consoles.rows[EMBEDDINGS][day] = [embeddings("key_1", "text-embedding-3-small", 7)]
    consoles.rows[COSTS][day] = [
        cost("key_1", "gpt-5-2025-08-07, input", 0.5), cost("key_2", "gpt-5-2025-08-07, input", 2.0),
    ]  # fmt: skip
    consoles.days_a_page = 1


def test_a_day_counted_by_hand_is_held_against_what_its_providers_say(
    kafka_topics: TopicSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What agrees agrees to the token and the cent; what a provider counted and we did not is told, with exit code 3
    and as a metric; its late correction is written with what it had said before, and then nothing is told any more.
    """
    today_ms = wall_ms() // DAY_MS * DAY_MS
    noon_ms, day = today_ms - 12 * HOUR_MS, day_of(today_ms - DAY_MS)
    records = [Record(encode(one), one.tenant_id.encode(), (), one.ts_ms, 0) for one in calls(noon_ms)]
    produce(kafka_topics.bootstrap, kafka_topics.name("usage.v1"), records)
    secrets = {"ANTHROPIC_ADMIN_KEY": SECRET, "OPENAI_ADMIN_KEY": SECRET}
    settings = {"KAFKA_BOOTSTRAP": kafka_topics.bootstrap, "PREFIX": kafka_topics.prefix}
    for name, value in {**secrets, **{f"SPENDFUSE_{name}": value for name, value in settings.items()}}.items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "reconcile.toml"
    with Consoles() as consoles:
        file.write_text(FILE.format(address=consoles.address))
        fill(consoles, day)
        assert main(["reconcile", "run", str(file), "--json"]) == 3
        said = capsys.readouterr()
        days = {(one["console"], one["report"]): one for one in json.loads(said.out)["days"] if one["day"] == day}
        assert {place: one["standing"] for place, one in days.items()} == {
            ("claude", "usage"): "agrees", ("claude", "cost"): "agrees", ("gpt", "usage"): "differs",
            ("gpt", "cost"): "agrees",
        }  # fmt: skip
        assert [line for line in days["gpt", "usage"]["lines"] if line["told"]] == [
            {"key": "key_2", "model": "gpt-5", "measure": "input_tokens", "ours": 5000, "theirs": 8000, "share": 0.375,
             "told": True},
        ]  # fmt: skip
        assert all(line["ours"] == line["theirs"] for line in days["claude", "cost"]["lines"])

        with ServiceProcess(["streams", "reconcile", "run", str(file), "--every", "1s"], settings, secrets) as process:
            share, corrections = "spendfuse_reconcile_difference_share", "spendfuse_reconcile_corrections_total"
            process.wait_for(lambda: process.metric(share).get('console="gpt",report="usage"', 0) > 0.3, 60, "told")
            assert process.metric(share)['console="claude",report="usage"'] == 0
            consoles.rows[COMPLETIONS][day][1] |= {"input_tokens": 5000}
            process.wait_for(lambda: process.metric(corrections).get('console="gpt"') == 1, 30, "a correction")
            process.wait_for(lambda: process.metric(share)['console="gpt",report="usage"'] == 0, 30, "agreement")
            consoles.refusals.extend([(401, {})] * 2)
            unknown = "spendfuse_reconcile_days_not_known"
            process.wait_for(lambda: max(process.metric(unknown).values()) > 0, 30, "days that are not known")
            process.wait_for(lambda: max(process.metric(unknown).values()) == 0, 30, "knowledge again")
            assert process.health == "ok"
            assert process.stop() == 0
            log = process.text
        assert main(["reconcile", "run", str(file)]) == 0
        said = capsys.readouterr()
    assert f"gpt  {day}  usage  agrees" in said.out
    written = read_all(kafka_topics.bootstrap, kafka_topics.name("provider_usage.v1"))
    facts = [json.loads(one.value or b"") for one in written]
    assert len(facts) == 9
    assert facts[-1]["before"]["counts"]["input_tokens"] == 8000
    assert facts[-1]["figures"]["counts"]["input_tokens"] == 5000
    assert SECRET not in log + said.out + said.err + json.dumps(facts)
