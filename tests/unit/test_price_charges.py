"""What calls are charged: names as they come, parts and tiers, the policy's own prices, doubtful costs."""

import random
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from models.prices.book import Charge, PriceBook
from models.rules.policy import read_policy_json, read_policy_toml
from schemas.errors import PolicyError
from schemas.usage import LlmCall
from tests.support.messages import llm_call

COUNT_NAMES = (
    "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "cache_write_1h_tokens", "input_audio_tokens",
    "output_audio_tokens", "output_image_tokens", "web_searches", "images",
)  # fmt: skip


def at_ms(*moment: int) -> int:
    """Epoch milliseconds of a moment in UTC, given as year, month, day and so on."""
    return int(datetime(*moment, tzinfo=UTC).timestamp()) * 1000  # type: ignore[misc,arg-type]


NOVEMBER_MS = at_ms(2026, 11, 22, 12)
USD = 10**9
SONNET = 30_000_000 + 15_000_000
"""10,000 tokens in and 1,000 out of Claude Sonnet 4.5, in nano-dollars: $3 and $15 per million."""
SONNET_REGIONAL = SONNET * 11 // 10
OPUS_FAST = 100_000_000 + 50_000_000
"""Of Claude Opus 4.8 and 5 in fast mode: $10 and $50 per million (platform.claude.com, "Fast mode")."""
GPT_4O = 25_000_000 + 10_000_000
GEMINI_PRO = 12_500_000 + 10_000_000
LLAMA_AT_GROQ = 5_900_000 + 790_000


def charge(
    model: str, provider: str | None = None, *, policy: str = "", ts_ms: int = NOVEMBER_MS, **own: Any
) -> Charge:
    """The charge of one call under a policy: 10,000 tokens in and 1,000 out unless counted otherwise."""
    counts = (
        own if any(name.endswith("tokens") for name in own) else {"input_tokens": 10_000, "output_tokens": 1000, **own}
    )
    call = LlmCall(event_id="e", ts_ms=ts_ms, tenant_id="acme", run_id="r", model=model, provider=provider, **counts)
    return PriceBook(read_policy_toml(policy).header).charge(call)


NAMES = [
    ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", None, SONNET_REGIONAL),
    ("eu.anthropic.claude-sonnet-4-5-20250929-v1:0", None, SONNET_REGIONAL),
    ("jp.anthropic.claude-sonnet-4-5-20250929-v1:0", "aws.bedrock", SONNET_REGIONAL),
    ("au.anthropic.claude-sonnet-4-5-20250929-v1:0", None, SONNET_REGIONAL),
    ("anthropic.claude-sonnet-4-5-20250929-v1:0", None, SONNET_REGIONAL),
    ("global.anthropic.claude-sonnet-4-5-20250929-v1:0", None, SONNET),
    ("bedrock/global.anthropic.claude-sonnet-4-5-20250929-v1:0", None, SONNET),
    ("bedrock/converse/us.anthropic.claude-sonnet-4-5-20250929-v1:0", None, SONNET_REGIONAL),
    ("bedrock/eu-central-1/anthropic.claude-sonnet-4-5-20250929-v1:0", None, SONNET_REGIONAL),
    ("arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0", None,
     SONNET_REGIONAL),
    ("arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-pro-v1:0", None, 8_000_000 + 3_200_000),
    ("apac.amazon.nova-pro-v1:0", None, 8_000_000 + 3_200_000),
    ("azure/gpt-4o", None, GPT_4O),
    ("gpt-4o", "azure.ai.openai", GPT_4O),
    ("gpt-4o", "az.ai.openai", GPT_4O),
    ("gpt-4o", "openai.chat", GPT_4O),
    ("GPT-4o", "OpenAI", GPT_4O),
    ("gpt-4o-2024-08-06", None, GPT_4O),
    ("gpt-4o-2029-01-01", None, GPT_4O),
    ("gpt-4o-2024-05-13", None, 65_000_000),
    ("litellm_proxy/openai/gpt-4o", None, GPT_4O),
    ("openrouter/openai/gpt-4o:nitro", None, GPT_4O),
    ("vertex_ai/gemini-2.5-pro", None, GEMINI_PRO),
    ("models/gemini-2.5-pro", "gcp.gemini", GEMINI_PRO),
    ("publishers/google/models/gemini-2.5-pro", None, GEMINI_PRO),
    ("gemini-2.5-pro", "gcp.vertex_ai", GEMINI_PRO),
    ("projects/p/locations/us-east5/publishers/anthropic/models/claude-sonnet-4-5@20250929", None, SONNET),
    ("claude-sonnet-4-5@20250929", None, SONNET),
    ("claude-sonnet-4-5@20250929", "google-vertex", SONNET),
    ("anthropic/claude-sonnet-4.5", None, SONNET),
    ("openrouter/anthropic/claude-3.5-sonnet", None, SONNET),
    ("openrouter/anthropic/claude-sonnet-4-5", None, SONNET),
    ("claude-sonnet-4-5", "anthropic.messages", SONNET),
    ("groq/llama-3.3-70b-versatile", None, LLAMA_AT_GROQ),
    ("llama-3.3-70b-versatile", "groq", LLAMA_AT_GROQ),
    ("grok-3", "x_ai", 30_000_000 + 15_000_000),
    ("ft:gpt-4o-2024-08-06:acme::x1", None, 37_500_000 + 15_000_000),
    ("openai:gpt-4o", None, GPT_4O),
    ("openai:gpt-4o", "openai", GPT_4O),
    ("openai-responses:gpt-4o", None, GPT_4O),
    ("gateway/openai:gpt-4o", None, GPT_4O),
    ("litellm:openai/gpt-4o", None, GPT_4O),
    ("google-gla:gemini-2.5-pro", None, GEMINI_PRO),
    ("google_vertexai:gemini-2.5-pro", None, GEMINI_PRO),
    ("openrouter:anthropic/claude-3.5-sonnet", None, SONNET),
    ("groq:llama-3.3-70b-versatile", None, LLAMA_AT_GROQ),
    ("gpt-4o", "microsoft.foundry", GPT_4O),
    ("gpt-4o", " ", GPT_4O),
    ("claude-opus-5-fast", "anthropic", OPUS_FAST),
    ("claude-opus-5-fast", None, OPUS_FAST),
    ("claude-opus-5-fast-20260724", None, OPUS_FAST),
    ("anthropic/claude-opus-4.8-fast", "openrouter", OPUS_FAST),
    ("anthropic/claude-opus-5-fast", "vercel", OPUS_FAST),
    ("openrouter/anthropic/claude-opus-5-fast", None, OPUS_FAST),
    ("claude-opus-5", "anthropic", OPUS_FAST // 2),
    ("claude-opus-4.8-fast", "github-copilot", OPUS_FAST),
]  # fmt: skip
"""Model and provider as they are reported -> what 10,000 tokens in and 1,000 out of it cost."""


@pytest.mark.parametrize(("model", "provider", "cost_nanousd"), NAMES)
def test_names_as_clouds_and_gateways_write_them_cost_the_published_price(
    model: str, provider: str | None, cost_nanousd: int
) -> None:
    """Prefixed, dated, versioned and regional names are resolved; a region's surcharge is in the price."""
    charged = charge(model, provider)
    assert (charged.cost_nanousd, charged.problems) == (cost_nanousd, ())


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("claude-sonnet-4-5", "openai"),
        ("openai/gpt-4o", "anthropic"),
        ("acme/gpt-4o", None),
        ("anthropic:gpt-4o", "openai"),
        ("claude-opus-5-fast", "openai"),
        ("claude-sonnet-4-5-fast", "anthropic"),
        ("anthropic/claude-sonnet-4-5-fast", "openrouter"),
        ("mistral:7b", "ollama"),
        ("ollama/llama3", None),
        ("gpt-4o", "acme-gateway"),
        ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3", None),
    ],
)
def test_names_that_contradict_their_provider_or_say_nobody_known_have_no_price(
    model: str, provider: str | None
) -> None:
    """A guess would look like a price: they are unpriced, loudly."""
    assert charge(model, provider).problems == ("unpriced",)


def test_an_area_whose_surcharge_the_tables_lack_is_told() -> None:
    """The price without it is charged, and what is left out stands in the charge."""
    charged = charge("azure/eu/gpt-4o-2024-08-06")
    assert charged.cost_nanousd == GPT_4O
    assert (charged.problems, charged.note) == (("not_fully_priced",), "not fully priced: regional surcharge")


WRITTEN = {"input_tokens": 1000, "cache_write_tokens": 1000}
PARTS: list[tuple[str, dict[str, Any], int, tuple[str, ...]]] = [
    ("claude-opus-5", WRITTEN, 6_250_000, ()),
    ("claude-opus-5", WRITTEN | {"cache_write_1h_tokens": 1000}, 10_000_000, ()),
    ("claude-opus-5", WRITTEN | {"cache_write_1h_tokens": 400}, 7_750_000, ()),
    # The tables have no price for the hour of this one: Anthropic charges twice the input.
    ("openrouter/anthropic/claude-3.5-sonnet", WRITTEN | {"cache_write_1h_tokens": 1000}, 6_000_000, ()),
    ("claude-opus-4-6", {"input_tokens": 18, "output_tokens": 43, "service_tier": "batch"}, 582_500, ()),
    ("claude-opus-4-6", {"input_tokens": 18, "output_tokens": 43, "service_tier": "standard"}, 1_165_000, ()),
    ("gpt-5", {"input_tokens": 1000, "output_tokens": 100, "service_tier": "flex"}, 1_125_000, ()),
    ("gpt-5", {"input_tokens": 1000, "output_tokens": 100, "service_tier": "priority"}, 4_500_000, ()),
    ("azure/gpt-4o", {"input_tokens": 1000, "output_tokens": 100, "service_tier": "batch"}, 1_750_000, ()),
    ("azure/gpt-4o", {"input_tokens": 1000, "output_tokens": 100, "service_tier": "priority"}, 3_500_000,
     ("priority tier",)),
    ("gpt-audio", {"input_tokens": 1000, "input_audio_tokens": 600, "output_tokens": 100, "output_audio_tokens": 100},
     400 * 2500 + 600 * 32_000 + 100 * 64_000, ()),
    ("gpt-4o", {"input_tokens": 1000, "input_audio_tokens": 600}, 2_500_000, ("audio input",)),
    ("gpt-4o", {"output_tokens": 1000, "output_image_tokens": 600}, 10_000_000, ("image output",)),
    ("gpt-4o", {"input_tokens": 1000, "web_searches": 2}, 2_500_000 + 20_000_000, ()),
    ("gpt-4o-audio-preview", {"input_tokens": 1000, "web_searches": 2}, 2_500_000, ("web searches",)),
    ("gpt-4o", {"output_tokens": 100, "images": 3}, 1_000_000, ("images",)),
    ("gpt-4o", {"input_tokens": 1000, "images": 3}, 2_500_000, ()),
    ("gemini-2.5-pro", {"input_tokens": 200_000}, 250_000_000, ()),
    ("gemini-2.5-pro", {"input_tokens": 200_001}, 500_002_500, ()),
]  # fmt: skip
"""Model, counts -> cost worked out by hand, and what has no price."""


@pytest.mark.parametrize(("model", "counts", "cost_nanousd", "missing"), PARTS)
def test_parts_and_tiers_are_priced_or_told_as_not_priced(
    model: str, counts: dict[str, Any], cost_nanousd: int, missing: tuple[str, ...]
) -> None:
    """Hour-long cache writes, audio, images, searches and service tiers never count as plain text in silence."""
    charged = charge(model, **counts)
    assert (charged.cost_nanousd, charged.missing) == (cost_nanousd, missing)
    assert charged.problems == (("not_fully_priced",) if missing else ())


@pytest.mark.parametrize(
    ("model", "provider", "day_ms", "cost_nanousd", "source"),
    [
        ("deepseek-chat", "deepseek", at_ms(2026, 11, 16, 12), 70_000_000, "computed:corrections@2025-09-29"),
        ("deepseek/deepseek-reasoner", None, at_ms(2026, 11, 16, 20), 70_000_000, "computed:corrections@2025-09-29"),
        ("deepseek-chat", None, at_ms(2025, 9, 10, 20), 224_000_000, "computed:corrections@2025-09-05"),
        ("deepseek-chat", None, at_ms(2025, 8, 1, 12), 137_000_000, "computed:genai-prices"),
        ("mistral-large-latest", "mistral_ai", at_ms(2026, 11, 16), 200_000_000, "computed:corrections@2025-12-02"),
        ("mistral-large-latest", None, at_ms(2025, 11, 16), 800_000_000, "computed:genai-prices"),
    ],
)
def test_prices_known_to_be_stale_in_the_packed_tables_are_corrected(
    model: str, provider: str | None, day_ms: int, cost_nanousd: int, source: str
) -> None:
    """From the day the published price changed, and the charge says whose it is; earlier days stay as they were."""
    charged = charge(model, provider, ts_ms=day_ms, input_tokens=100_000, output_tokens=100_000)
    assert charged.cost_nanousd == cost_nanousd
    assert charged.source.startswith(source)


OWN = """
version = "7"
[[price]]
model = "acme-70b*"
input = 0.8
output = 2.4
[[price]]
model = "acme-70b*"
from = 2026-11-01
input = 0.5
output = 1.5
reasoning = 3.0
[[price]]
model = "gpt-4o"
provider = "azure"
input = 2.0
output = 8.0
"""


@pytest.mark.parametrize(
    ("model", "provider", "day_ms", "cost_nanousd"),
    [
        ("acme-70b-chat", None, at_ms(2026, 10, 31, 23), 10_400_000),
        ("acme-70b-chat", "acme", at_ms(2026, 11, 1), 6_500_000),
        ("vllm/acme-70b", None, at_ms(2026, 11, 22), 6_500_000),
        ("gpt-4o", "azure.ai.openai", at_ms(2026, 11, 22), 28_000_000),
        ("azure/gpt-4o-2024-08-06", None, at_ms(2026, 11, 22), 28_000_000),
        ("gpt-4o", "openai", at_ms(2026, 11, 22), GPT_4O),
    ],
)
def test_the_policys_prices_come_first_from_their_day_on(
    model: str, provider: str | None, day_ms: int, cost_nanousd: int
) -> None:
    """By pattern and provider; of several the latest that has begun when the event happened counts."""
    charged = charge(model, provider, policy=OWN, ts_ms=day_ms)
    assert (charged.cost_nanousd, charged.problems) == (cost_nanousd, ())
    assert (charged.source == "policy:7") == (cost_nanousd != GPT_4O)


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ('model = "m"', "names no price"),
        ("input = 1", "model"),
        ('model = "m"\ninput = -1', "greater than or equal to 0"),
        ('model = "m"\ninputs = 1', "no such setting"),
        ('model = "m"\ninput = 1\nfrom = "soon"', "date"),
    ],
)
def test_a_price_with_a_fault_is_refused_by_name(entry: str, fault: str) -> None:
    """A misspelt price is no price: the whole policy is refused, and says where."""
    with pytest.raises(PolicyError, match=r"price\[0\]") as caught:
        read_policy_toml(f"[[price]]\n{entry}")
    assert fault in str(caught.value)


def test_a_price_survives_the_way_over_the_topic() -> None:
    """What policy.v1 carries is read back as it was written, dates and fractions included."""
    policy = read_policy_toml(OWN)
    assert read_policy_json(policy.to_json()).header == policy.header


def test_the_pessimistic_price_is_for_what_nobody_can_price() -> None:
    """It charges every token, and the call stays unpriced all the same."""
    charged = charge("house-model", policy="unpriced_usd_per_million_tokens = 50")
    assert (charged.cost_nanousd, charged.source, charged.problems) == (550_000_000, "pessimistic", ("unpriced",))
    assert charge("gpt-4o", policy="unpriced_usd_per_million_tokens = 50").cost_nanousd == GPT_4O


@pytest.mark.parametrize(
    ("reported", "own", "mismatch"),
    [
        (0, {}, True),
        (GPT_4O // 2 - 1, {}, True),
        (GPT_4O // 2, {}, False),
        (GPT_4O, {}, False),
        (GPT_4O * 3 // 2, {}, False),
        (GPT_4O * 3 // 2 + 1, {}, True),
        (0, {"status": "error"}, False),
        (0, {"status": "error", "error_type": "ReadTimeout"}, True),
        (0, {"status": "cancelled"}, True),
        (0, {"cache_hit": True}, False),
        (0, {"input_tokens": 0, "output_tokens": 0}, False),
        (GPT_4O, {"input_tokens": 0, "output_tokens": 0}, False),
    ],
)
def test_a_reported_cost_off_by_more_than_half_is_told(reported: int, own: dict[str, Any], mismatch: bool) -> None:
    """It is charged as reported; failed calls that nobody bills and sources that count no tokens are no mismatch."""
    charged = charge("gpt-4o", cost_nanousd=reported, **{"input_tokens": 10_000, "output_tokens": 1000, **own})
    assert charged.problems == (("price_mismatch",) if mismatch else ())
    assert charged.cost_nanousd == reported or own.get("cache_hit")


def test_a_source_that_does_not_say_how_long_it_caches_may_have_paid_for_the_hour() -> None:
    """Twice the input for a cache write of unknown length is no mismatch; three times is."""
    written: dict[str, Any] = {"input_tokens": 100_000, "cache_write_tokens": 100_000}
    assert charge("claude-opus-5", cost_nanousd=USD, **written).problems == ()
    assert charge("claude-opus-5", cost_nanousd=2 * USD, **written).problems == ("price_mismatch",)


@pytest.mark.parametrize("reported", [None, 0])
@pytest.mark.parametrize(
    ("own", "is_told"),
    [
        ({"status": "error", "error_type": "APITimeoutError"}, True),
        ({"status": "error", "error_type": "Timed out"}, True),
        ({"status": "error", "error_type": "DEADLINE_EXCEEDED"}, True),
        ({"status": "error", "error_type": "504"}, True),
        ({"status": "cancelled"}, True),
        ({"status": "cancelled", "input_tokens": 900}, False),
        ({"status": "error", "error_type": "APITimeoutError", "input_tokens": 900}, False),
        ({"status": "error", "error_type": "ConnectTimeout"}, False),
        ({"status": "error", "error_type": "APIConnectionError"}, False),
        ({"status": "error", "error_type": "RateLimitError"}, False),
        ({"status": "error"}, False),
    ],
)  # fmt: skip
def test_a_call_that_was_given_up_and_says_nothing_of_its_tokens_is_told(
    own: dict[str, Any], is_told: bool, reported: int | None
) -> None:
    """The provider may have written the answer, and charge for it; what was refused at once cost nothing."""
    counts = {"input_tokens": 0, "cost_nanousd": reported, **own}
    assert charge("gpt-4o", **counts).problems.count("uncounted") == is_told


def test_what_was_given_up_is_not_passed_over_as_undisputed() -> None:
    """A cost of 0 is looked at, also of a model whose price is known by then."""
    book = PriceBook()
    for number in range(2):
        given_up: dict[str, Any] = {"input_tokens": 0, "output_tokens": 0, "cost_nanousd": 0, "status": "cancelled"}
        call = llm_call(NOVEMBER_MS + number, model="gpt-4o", **given_up)
        assert book.undisputed(call) is None
        assert book.charge(call).problems == ("uncounted",)


def test_the_policy_may_prefer_the_computed_price() -> None:
    """Then a known price is charged whatever was reported, and what nobody can price stays as reported."""
    prefers = "prefer_computed_price = true"
    charged = charge("gpt-4o", policy=prefers, cost_nanousd=0, price_source="litellm")
    assert (charged.cost_nanousd, charged.problems) == (GPT_4O, ("price_mismatch",))
    assert charged.source.startswith("computed:")
    unknown = charge("house-model", policy=prefers, cost_nanousd=77, price_source="litellm")
    assert (unknown.cost_nanousd, unknown.source, unknown.problems) == (77, "reported:litellm", ())


@pytest.mark.parametrize(
    ("pattern", "model", "premium"),
    [
        ("claude-opus-*", "us.anthropic.claude-opus-4-6-v1", True),
        ("claude-opus-*", "anthropic/claude-opus-4.6", True),
        ("claude-opus-*", "openrouter/anthropic/claude-opus-4-6", True),
        ("claude-opus-4-6", "anthropic/claude-opus-4.6", True),
        ("claude-opus-4-6", "arn:aws:bedrock:us-east-1:1:inference-profile/eu.anthropic.claude-opus-4-6-v1:0", True),
        ("claude-opus-4-1", "vertex_ai/claude-opus-4-1@20250805", True),
        ("claude-opus-*", "anthropic:claude-opus-4-5", True),
        ("claude-opus-*", "bedrock:us.anthropic.claude-opus-4-5-20251101-v1:0", True),
        ("mistral*", "mistral:7b", True),
        ("gpt-4o", "azure/eu/gpt-4o-2024-08-06", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-5-*", "gpt-5.4", False),
        ("openrouter/*", "openrouter/anthropic/claude-opus-4-6", True),
        ("claude-opus-*", "claude-sonnet-4-5", False),
    ],
)
def test_premium_patterns_see_through_provider_and_route(pattern: str, model: str, premium: bool) -> None:
    """A dear model is dear under whichever name it comes; patterns over the name as reported work too."""
    assert read_policy_toml(f'premium_models = ["{pattern}"]').is_premium(model) == premium


def test_what_is_undisputed_is_charged_as_reported_and_nothing_is_wrong_with_it() -> None:
    """The short way for nearly every call says the same as the long one, wherever it says anything."""
    seed = 41
    rng = random.Random(seed)
    book = PriceBook()
    answers: Counter[bool] = Counter()
    for number in range(4_000):
        counts = {"input_tokens": rng.choice([0, 1, 900, 40_000, 250_000]), "output_tokens": rng.choice([0, 700])}
        for name in rng.sample(COUNT_NAMES, rng.choice([0, 0, 1, 3])):
            counts[name] = rng.choice([1, 300, 50_000])
        call = llm_call(
            NOVEMBER_MS,
            model=rng.choice(["gpt-4.1", "claude-sonnet-4-5", "gemini-2.5-pro", "claude-3-opus", "nobody-knows-it"]),
            service_tier=rng.choice([None, None, None, "batch"]),
            cache_hit=rng.random() < 0.05,
            **counts,
        )
        computed_nanousd = book.charge(call).computed_nanousd or 1_000
        off = rng.choice([0.2, 0.49, 0.5, 1.0, 1.0, 1.5, 1.51, 3.0])
        call = msgspec.structs.replace(call, cost_nanousd=int(computed_nanousd * off))
        undisputed = book.undisputed(call)
        answers[undisputed is not None] += 1
        if undisputed is not None:
            charge = book.charge(call)
            assert (charge.cost_nanousd, charge.problems) == (undisputed, ()), (seed, number, call)
    assert min(answers[True], answers[False]) > 200, (seed, answers)
