"""`POST /in/litellm`: what LiteLLM's generic callback sends, in each of its formats.

Of a payload only what is named here is read: prompts and answers are passed over unparsed.
"""

from typing import Any, Final

import msgspec
from spendfuse._litellm.payload import usage_of

from schemas.codec import UNREADABLE
from schemas.edge.access_key import AccessKey
from schemas.errors import Undecodable
from streams.gateway.sources.batch import Batch, Unreadable
from streams.gateway.sources.json_items import json_items
from streams.gateway.sources.source import Headers, Source, plain_answer, plain_problem
from streams.gateway.sources.usage_item import Usage, add_usage


class _ToolCall(msgspec.Struct, omit_defaults=True):
    name: Any = None
    namespaced_tool_name: Any = None
    arguments: Any = None
    result: Any = None


class _Metadata(msgspec.Struct, omit_defaults=True):
    is_silent_experiment: Any = None
    usage_object: Any = None
    mcp_tool_call_metadata: _ToolCall | None = None
    spend_logs_metadata: Any = None
    requester_metadata: Any = None
    user_api_key_alias: Any = None
    user_api_key_team_alias: Any = None
    user_api_key_project_alias: Any = None
    user_api_key_user_id: Any = None
    user_api_key_end_user_id: Any = None


class _Error(msgspec.Struct, omit_defaults=True):
    error_class: Any = None


class _Payload(msgspec.Struct, omit_defaults=True):
    id: Any = None
    litellm_call_id: Any = None
    trace_id: Any = None
    session_id: Any = None
    call_type: Any = None
    status: Any = None
    status_fields: Any = None
    startTime: Any = None  # noqa: N815 - as LiteLLM names it, here and below
    endTime: Any = None  # noqa: N815
    model: Any = None
    model_id: Any = None
    model_group: Any = None
    custom_llm_provider: Any = None
    cache_hit: Any = None
    prompt_tokens: Any = None
    completion_tokens: Any = None
    total_tokens: Any = None
    response_cost: Any = None
    cost_breakdown: Any = None
    request_tags: Any = None
    end_user: Any = None
    error_information: _Error | None = None
    metadata: _Metadata | None = None


_decode: Final = msgspec.json.Decoder(_Payload).decode


def read_litellm(_: Headers, body: bytes, key: AccessKey) -> Batch:
    """Check each payload. Raises `Unreadable`."""
    batch = Batch()
    for place, data in enumerate(json_items(body)):
        add_usage(batch, place, data, key, _usage)
    if not batch.items and not batch.rejected and not batch.ignored:
        raise Unreadable("the body is empty; this endpoint takes what LiteLLM's generic_api callback sends")
    return batch


def _usage(data: bytes) -> Usage | None:
    """The members of its message. Raises `Undecodable`."""
    try:
        return usage_of(msgspec.to_builtins(_decode(data)))
    except UNREADABLE:
        raise Undecodable("not_json", "this is no standard logging payload of LiteLLM") from None
    except ValueError as error:
        raise Undecodable("missing_field", f"a payload of LiteLLM: {error}") from None


LITELLM: Final = Source("litellm", read_litellm, plain_answer, plain_problem)
