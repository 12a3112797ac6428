"""LiteLLM's proxy and Portkey's gateway as docs/connect sets them up, with Spendfuse as their guardrail."""

import json
from pathlib import Path

from tests.support.connect import ClientProcess

MARKER = "a-secret-that-must-not-pass-4711"
MASTER = f"sk-{'0123456789abcdef' * 4}"
"""A proxy of today refuses to start without a key of its own."""
MODEL = {"model_name": "main", "litellm_params": {"model": "openai/gpt-4o", "api_key": "none", "mock_response": MARKER}}


def proxy_settings(gateway_port: int, token: str, fallback: str) -> str:
    """What a proxy is told, as JSON, which is YAML too."""
    headers = {"Authorization": f"Bearer {token}"}
    return json.dumps({
        "model_list": [MODEL],
        "litellm_settings": {
            "callbacks": ["spendfuse"],
            "turn_off_message_logging": True,
        },
        "callback_settings": {"spendfuse": {
            "callback_type": "generic_api", "endpoint": f"http://127.0.0.1:{gateway_port}/in/litellm",
            "headers": headers, "max_retries": 5,
        }},
        "guardrails": [{"guardrail_name": "spendfuse", "litellm_params": {
            "guardrail": "generic_guardrail_api", "mode": "pre_call", "default_on": True,
            "api_base": f"http://127.0.0.1:{gateway_port}/guard/litellm", "headers": headers,
            "unreachable_fallback": fallback,
        }}],
    })  # fmt: skip


def proxy_of(settings: Path, port: int, **environment: str) -> ClientProcess:
    """The real proxy, that sends each report at once."""
    return ClientProcess(
        "litellm", "bin/litellm", "--config", settings, "--host", "127.0.0.1", "--port", port,
        LITELLM_MASTER_KEY=MASTER, DEFAULT_BATCH_SIZE="1", DEFAULT_FLUSH_INTERVAL_SECONDS="1", **environment,
    )  # fmt: skip


def portkey_config(provider: str, gateway_port: int, token: str, *, fail_on_error: bool) -> str:
    """What a client of Portkey names in `x-portkey-config`."""
    webhook = {"webhookURL": f"http://127.0.0.1:{gateway_port}/guard/portkey",
               "headers": {"Authorization": f"Bearer {token}"}, "failOnError": fail_on_error}  # fmt: skip
    checks = [{"id": "default.webhook", "parameters": webhook}]
    return json.dumps({
        "provider": "openai", "api_key": "none", "custom_host": f"{provider}/v1",
        "before_request_hooks": [{"type": "guardrail", "id": "spendfuse", "deny": True, "checks": checks}],
        "after_request_hooks": [{"type": "guardrail", "id": "spendfuse-usage", "checks": checks}],
    })  # fmt: skip
