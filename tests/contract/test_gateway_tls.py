"""The gateway's own certificate, by an authority made for the test, on loopback."""

import json
import ssl
import subprocess
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from infra.kafka.embedded import EmbeddedBroker
from streams.clock import wall_ms
from tests.support.certificates import issue, make_ca
from tests.support.gateway_process import GatewayProcess, new_key
from tests.support.kafka import read_all

MESSAGE = {"type": "run_started", "event_id": "e1", "run_id": "r1"}


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A folder with `ca.pem`, and a certificate and key of the gateway's."""
    make_ca(tmp_path)
    issue(tmp_path, "gateway")
    return tmp_path


@pytest.fixture
def broker(embedded: EmbeddedBroker) -> EmbeddedBroker:
    """A broker with all topics."""
    embedded.create_topics("", 1)
    return embedded


def gateway_of(broker: EmbeddedBroker, folder: Path, **more: object) -> GatewayProcess:
    given: dict[str, Any] = {"GATEWAY_TLS_CERTIFICATE": folder / "gateway.pem"}
    given["GATEWAY_TLS_KEY"] = folder / "gateway.key"
    return GatewayProcess(broker.bootstrap, "", folder / "spool", None, **given | more)


def post(address: str, token: str, trusts: ssl.SSLContext | None = None) -> Any:
    request = urllib.request.Request(
        f"{address}/v1/events", json.dumps(MESSAGE | {"ts_ms": wall_ms()}).encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}, method="POST",
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=20, context=trusts) as answer:
        return json.loads(answer.read())


def test_usage_is_taken_over_tls_alone(
    broker: EmbeddedBroker, authority: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who trusts the authority is served; who does not, goes no further; and nothing is taken without TLS."""
    token = new_key(broker.bootstrap, "", "acme", capture=capsys)
    with gateway_of(broker, authority) as gateway:
        gateway.wait_ready()
        at = f"127.0.0.1:{gateway.gateway_port}"
        trusting = ssl.create_default_context(cafile=str(authority / "ca.pem"))
        assert post(f"https://{at}", token, trusting) == {"accepted": 1, "rejected": []}
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            post(f"https://{at}", token, ssl.create_default_context())
        with pytest.raises(OSError, match=r"reset|closed|disconnected"):
            post(f"http://{at}", token)
        assert gateway.stop() == 0
    assert [json.loads(record.value or b"")["event_id"] for record in read_all(broker.bootstrap, "usage.v1")] == ["e1"]


def test_a_certificate_that_cannot_be_used_ends_it(broker: EmbeddedBroker, authority: Path) -> None:
    """Another's key, one with a password, a file that is not there, a key alone: a sentence with the files, and code 2;
    never plain HTTP instead.
    """
    issue(authority, "other")
    locked = ["openssl", "pkcs8", "-topk8", "-in", "gateway.key", "-out", "locked.key", "-passout", "pass:secret"]
    subprocess.run(locked, cwd=authority, check=True, capture_output=True)
    wrong: dict[str, dict[str, object]] = {
        "other.key cannot be used": {"GATEWAY_TLS_KEY": authority / "other.key"},
        "the key without a password": {"GATEWAY_TLS_KEY": authority / "locked.key"},
        "missing.pem with": {"GATEWAY_TLS_CERTIFICATE": authority / "missing.pem"},
        "SPENDFUSE_GATEWAY_TLS_KEY is set without": {"GATEWAY_TLS_CERTIFICATE": None},
    }
    with ExitStack() as stack:
        gateways = {
            said: stack.enter_context(gateway_of(broker, authority, SPOOL_FOLDER=authority / said, **given))
            for said, given in wrong.items()
        }
        for said, gateway in gateways.items():
            assert gateway.wait_exit() == 2, gateway.tail()
            assert "spendfuse: SPENDFUSE_GATEWAY_TLS_" in gateway.text
            assert said in gateway.text
            assert not gateway.said("taking usage")
