"""The gateway as users start it, a key for it, and a client that knows nothing but HTTP."""

import http.client
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from infra.kafka.local import free_ports
from schemas.edge.access_key import AccessScope
from streams.settings import Settings
from streams.tools.access_keys import run_create
from tests.support.kafka import TopicSpace
from tests.support.service_process import ServiceProcess

ANSWER_S = 20


class GatewayProcess(ServiceProcess):
    """`python -m streams gateway` with a spool of its own; another one with the same `port` and folder takes over."""

    def __init__(self, bootstrap: str, prefix: str, spool: Path, port: int | None = None, **more: object) -> None:
        self.gateway_port = port or free_ports(1)[0]
        settings = {
            "KAFKA_BOOTSTRAP": bootstrap, "PREFIX": prefix, "GATEWAY_PORT": self.gateway_port, "SPOOL_FOLDER": spool,
        }  # fmt: skip
        super().__init__(["streams", "gateway"], {**settings, **more})

    def wait_ready(self) -> None:
        """Wait until it takes usage."""
        self.wait_said("taking usage")

    def post(self, path: str, body: bytes, token: str | None, method: str = "POST", **headers: str) -> tuple[int, Any]:
        """Status and answer of a request; (0, None) if nobody answered."""
        return post(self.gateway_port, path, body, token, method, **headers)


def post(port: int, path: str, body: bytes, token: str | None, method: str = "POST", **headers: str) -> tuple[int, Any]:
    """Status and answer of a request to a gateway on that port; (0, None) if nobody answered."""
    given = {"Content-Type": "application/json", **headers}
    if token is not None:
        given["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, given, method=method)
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
            return answer.status, _read(answer.read())
    except urllib.error.HTTPError as refused:
        return refused.code, _read(refused.read())
    except (OSError, ValueError, http.client.HTTPException):
        return 0, None


def _read(body: bytes) -> Any:
    """JSON as what it says; anything else as it is."""
    try:
        return json.loads(body or b"null")
    except ValueError:
        return body


def operator_of(topics: TopicSpace) -> Settings:
    """The settings of somebody who makes and revokes keys."""
    return Settings(kafka_bootstrap=topics.bootstrap, prefix=topics.prefix, operator_name="ana")


def new_key(
    bootstrap: str,
    prefix: str,
    tenant_id: str,
    *scopes: AccessScope,
    capture: Any,
    when_blind: str = "continue",
    charge: list[str] | None = None,
) -> str:
    """The token of a new key. `capture` is pytest's capsys: tokens are printed, and nowhere else to be had."""
    capture.readouterr()
    settings = Settings(kafka_bootstrap=bootstrap, prefix=prefix, operator_name="ana")
    assert run_create(settings, tenant_id, scopes or ("ingest",), None, when_blind, charge) == 0
    return str(capture.readouterr().out.strip())
