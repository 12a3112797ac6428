"""The environment, as the service reads it: one set of `SPENDFUSE_…` variables serves both."""

import os
from collections.abc import Mapping
from typing import Any

PREFIX = "SPENDFUSE_"
_LIBRDKAFKA = {
    "KAFKA_SECURITY_PROTOCOL": "security.protocol",
    "KAFKA_SASL_MECHANISM": "sasl.mechanism",
    "KAFKA_SASL_USERNAME": "sasl.username",
    "KAFKA_SASL_PASSWORD": "sasl.password",
    "KAFKA_SASL_OAUTH_TOKEN_URL": "sasl.oauthbearer.token.endpoint.url",
    "KAFKA_SASL_OAUTH_CLIENT_ID": "sasl.oauthbearer.client.id",
    "KAFKA_SASL_OAUTH_CLIENT_SECRET": "sasl.oauthbearer.client.secret",
    "KAFKA_SASL_OAUTH_SCOPE": "sasl.oauthbearer.scope",
    "KAFKA_SSL_CA": "ssl.ca.location",
    "KAFKA_SSL_CERTIFICATE": "ssl.certificate.location",
    "KAFKA_SSL_KEY": "ssl.key.location",
    "KAFKA_SSL_KEY_PASSWORD": "ssl.key.password",
}


def setting(name: str) -> str | None:
    """Return a variable without what a file leaves around it, such as a line's end of Windows; None if it is empty.

    A password may begin or end with spaces, and loses no more than the end of its line.
    """
    value = os.environ.get(PREFIX + name, "")
    return (value.strip("\r\n") if name.endswith(("_PASSWORD", "_SECRET")) else value.strip()) or None


def topic_prefix(given: str | None) -> str:
    """Return what stands before every topic's name: `given`, else SPENDFUSE_PREFIX."""
    return (setting("PREFIX") or "") if given is None else given


def kafka_config(bootstrap: str | None, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return librdkafka settings: where the brokers are and how to log in. What is given goes before the environment.

    Raises ValueError when nobody says where they are.
    """
    config: dict[str, Any] = {key: value for name, key in _LIBRDKAFKA.items() if (value := setting(name))}
    if "sasl.oauthbearer.token.endpoint.url" in config:
        config["sasl.oauthbearer.method"] = "oidc"
    config |= dict(given or {})
    config.setdefault("bootstrap.servers", bootstrap or setting("KAFKA_BOOTSTRAP"))
    if not config["bootstrap.servers"]:
        raise ValueError(f"nobody says where Kafka is: give its address, or set {PREFIX}KAFKA_BOOTSTRAP")
    return config


def gateway_url(given: str | None) -> str:
    """Return where the gateway is: `given`, else SPENDFUSE_URL. Raises ValueError when nobody says it."""
    url = (given or "").strip() or setting("URL")
    if not url:
        raise ValueError(f"nobody says where the gateway is: give its address, or set {PREFIX}URL")
    return url.rstrip("/")


def gateway_key(given: str | None) -> str:
    """Return the key to show there: `given`, else SPENDFUSE_KEY. Raises ValueError when there is none."""
    key = (given or "").strip() or setting("KEY") or ""
    if not key.isascii() or not key.isprintable() or not key:
        raise ValueError(f"no key for the gateway: set {PREFIX}KEY to what `python -m streams keys create` prints")
    return key


def keys_from_environment() -> dict[str, tuple[bytes, ...]]:
    """Return a tenant's keys out of SPENDFUSE_TENANT_KEY and SPENDFUSE_LIFT_KEY, as `keys derive` prints them.

    Raises ValueError, without quoting a key, for one that is not there or is none.
    """
    return {"engine": _keys("TENANT_KEY"), "lift": _keys("LIFT_KEY")}


def _keys(name: str) -> tuple[bytes, ...]:
    try:
        keys = tuple(bytes.fromhex(part.strip()) for part in (setting(name) or "").split(",") if part.strip())
    except ValueError:
        keys = ()
    if not keys:
        raise ValueError(f"{PREFIX}{name} is not set to keys as `python -m streams keys derive` prints them")
    return keys
