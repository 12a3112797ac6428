"""Counts by kind, as whoever sent them names them: each token once."""

from typing import Any

import pytest

from streams.gateway.sources.usage_details import tokens_of

CASES: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "Langfuse's own names, each token once": (
        {"input": 100, "input_cached_tokens": 900, "output": 20, "output_reasoning_tokens": 30, "total": 1050},
        {"input_tokens": 1000, "cache_read_tokens": 900, "output_tokens": 50, "reasoning_tokens": 30},
    ),
    "LangChain's handler": (
        {"input": 12, "input_cache_read": 900, "input_cache_creation": 100, "output": 40},
        {"input_tokens": 1012, "cache_read_tokens": 900, "cache_write_tokens": 100, "output_tokens": 40},
    ),
    "LangChain's handler, writes by how long they last": (
        {"input": 12, "input_cache_creation": 0, "input_ephemeral_5m_input_tokens": 60,
         "input_ephemeral_1h_input_tokens": 40, "output": 40},
        {"input_tokens": 112, "cache_write_tokens": 100, "cache_write_1h_tokens": 40, "output_tokens": 40},
    ),
    "OpenAI's client": (
        {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050,
         "prompt_tokens_details": {"cached_tokens": 600, "audio_tokens": 5},
         "completion_tokens_details": {"reasoning_tokens": 30}},
        {"input_tokens": 1000, "cache_read_tokens": 600, "input_audio_tokens": 5, "output_tokens": 50,
         "reasoning_tokens": 30},
    ),
    "OpenAI's responses": (
        {"input_tokens": 1000, "output_tokens": 50, "total_tokens": 1050,
         "input_tokens_details": {"cached_tokens": 600}},
        {"input_tokens": 1000, "cache_read_tokens": 600, "output_tokens": 50},
    ),
    "Anthropic's client": (
        {"input_tokens": 12, "cache_read_input_tokens": 900, "cache_creation_input_tokens": 100, "output_tokens": 40},
        {"input_tokens": 1012, "cache_read_tokens": 900, "cache_write_tokens": 100, "output_tokens": 40},
    ),
    "Anthropic's counts in OpenAI's words, as Portkey writes them": (
        {"prompt_tokens": 12, "completion_tokens": 40, "total_tokens": 1052,
         "prompt_tokens_details": {"cached_tokens": 900}, "cache_read_input_tokens": 900,
         "cache_creation_input_tokens": 100},
        {"input_tokens": 1012, "cache_read_tokens": 900, "cache_write_tokens": 100, "output_tokens": 40},
    ),
    "Bedrock's, as Portkey writes them": (
        {"prompt_tokens": 1012, "completion_tokens": 40, "total_tokens": 1052,
         "prompt_tokens_details": {"cached_tokens": 900}, "cache_read_input_tokens": 900,
         "cache_creation_input_tokens": 100},
        {"input_tokens": 1012, "cache_read_tokens": 900, "cache_write_tokens": 100, "output_tokens": 40},
    ),
    "parts that the total shows to be inside": (
        {"input": 1000, "input_cached_tokens": 900, "output": 50, "total": 1050},
        {"input_tokens": 1000, "cache_read_tokens": 900, "output_tokens": 50},
    ),
    "the rate that they were served at is no part": (
        {"input": 1000, "input_priority": 1000, "output": 50}, {"input_tokens": 1000, "output_tokens": 50},
    ),
    "what is no count": ({"input": "12", "output": -3, "total": True, "note": "text"}, {}),
    "nothing": ({}, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_totals_hold_all_of_their_parts_once(name: str) -> None:
    """Whoever counted them."""
    details, expected = CASES[name]
    assert tokens_of(details) == expected
