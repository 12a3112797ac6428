"""The ways to log in, on a real Kafka that lets nobody in without: all parts of the service, each way by settings."""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from spendfuse import Emitter, Guard, derive_keys
from spendfuse.kafka import KafkaControl, KafkaTransport

from infra.kafka.access import rights, roles
from infra.kafka.jars import KafkaUnavailableError
from infra.kafka.local import LocalKafka
from streams.__main__ import main
from streams.clock import wall_ms
from streams.kafka.client import Admin
from streams.settings import read_settings
from tests.conftest import do_without
from tests.support.alerting_process import TO_THE_HOOK, Listening
from tests.support.certificates import issue, make_ca
from tests.support.kafka import fresh_prefix, wait_until
from tests.support.receivers import Answer, Received, Receiver, webhook
from tests.support.service_process import ENGINE_KEY, ServiceProcess

ADMINISTRATOR = "administrator"
PASSWORD = "only-in-this-test"
USERS = dict.fromkeys((ADMINISTRATOR, *roles()), PASSWORD)
TENANT = "acme"
POLICY = """
[[cap]]
name = "run-cost"
limit_usd = 10
at_limit = "kill"
mode = "enforce"
"""
VARIABLES = {
    "security.protocol": "KAFKA_SECURITY_PROTOCOL",
    "sasl.mechanism": "KAFKA_SASL_MECHANISM",
    "sasl.username": "KAFKA_SASL_USERNAME",
    "sasl.password": "KAFKA_SASL_PASSWORD",
    "ssl.ca.location": "KAFKA_SSL_CA",
    "ssl.certificate.location": "KAFKA_SSL_CERTIFICATE",
    "ssl.key.location": "KAFKA_SSL_KEY",
}


class Cluster(NamedTuple):
    """A broker that lets nobody in without a login."""

    broker: LocalKafka
    login: Callable[[str], dict[str, str]]
    """User -> the variables by which it logs in."""


def named(broker: LocalKafka, user: str) -> dict[str, str]:
    """What a client of this user is given, as variables."""
    return {VARIABLES[name]: value for name, value in broker.client_config(user).items()}


def by_scram(_folder: Path, _stack: ExitStack) -> Cluster:
    broker = LocalKafka(logins=USERS, mechanism="SCRAM-SHA-512")
    return Cluster(broker, partial(named, broker))


def by_certificate(folder: Path, _stack: ExitStack) -> Cluster:
    make_ca(folder)
    for name in ("broker", *USERS):
        issue(folder, name)
    broker = LocalKafka(logins=USERS, certificates=folder)
    return Cluster(broker, partial(named, broker))


def by_token(_folder: Path, stack: ExitStack) -> Cluster:
    issuer = stack.enter_context(Listening(Receiver(lambda asked, _: token_for(asked))))

    def login(user: str) -> dict[str, str]:
        return {
            "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "KAFKA_SASL_MECHANISM": "OAUTHBEARER",
            "KAFKA_SASL_OAUTH_TOKEN_URL": f"{issuer.url}/token",
            "KAFKA_SASL_OAUTH_CLIENT_ID": user,
            "KAFKA_SASL_OAUTH_CLIENT_SECRET": PASSWORD,
        }

    return Cluster(LocalKafka(logins=USERS, mechanism="OAUTHBEARER"), login)


def token_for(asked: Received) -> Answer:
    """A token for the client that asks, if it knows the password. It has no signature: this broker believes those."""
    login = asked.headers["authorization"].removeprefix("Basic ")
    user, _, password = base64.b64decode(login).decode().partition(":")
    if password != PASSWORD or b"grant_type=client_credentials" not in asked.body:
        return Answer(401)
    now_s = wall_ms() // 1000
    parts = ({"alg": "none"}, {"sub": user, "iat": now_s, "exp": now_s + 3600})
    token = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return Answer(body=json.dumps({"access_token": f"{token}.", "expires_in": 3600}).encode())


@pytest.fixture(params=[by_scram, by_certificate, by_token], ids=["scram", "certificates", "tokens"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """A broker that asks for a login in one of the ways, and allows nothing by itself."""
    start: Callable[[Path, ExitStack], Cluster] = request.param
    with ExitStack() as stack:
        try:
            made = start(tmp_path, stack)
        except KafkaUnavailableError as error:
            do_without(str(error))
        yield made
        made.broker.stop()


def test_a_run_is_killed_and_told_of_under_each_login(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Topics are made, a worker and alerting work under their own rights, an agent reports and is stopped, somebody is
    told: whoever it is, the login is a few variables, the same ones for all.
    """
    prefix = fresh_prefix()

    def variables(role: str) -> dict[str, str]:
        return {"KAFKA_BOOTSTRAP": cluster.broker.bootstrap, "PREFIX": prefix, **cluster.login(role)}

    def act_as(role: str) -> None:
        for name, value in {**variables(role), "PARTITIONS": "1"}.items():
            monkeypatch.setenv(f"SPENDFUSE_{name}", value)

    act_as(ADMINISTRATOR)
    admin = Admin(read_settings())
    for role in roles():
        wanted = [right.binding(f"User:{role}") for right in rights(role, prefix)]
        for granted in admin.create_acls(wanted, request_timeout=10).values():
            granted.result(20)
    act_as("installer")
    assert main(["topics", "apply"]) == 0
    policy = tmp_path / "policy.toml"
    act_as("agent")
    with Listening(webhook()) as hook:
        policy.write_text(TO_THE_HOOK.format(url=hook.url) + POLICY, encoding="utf-8")
        with (
            ServiceProcess(["streams", "worker"], {**variables("worker"), "POLICY": policy, "SLOT": "0"}) as worker,
            ServiceProcess(["alerting"], {**variables("alerting"), "POLICY": policy}) as alerting,
            Emitter(KafkaTransport()) as emitter,
            Guard(
                KafkaControl(), emitter,
                when_blind="stop", tenant_id=TENANT, keys=derive_keys(ENGINE_KEY.encode(), TENANT),
            ) as guard,
            emitter.run(tenant_id=TENANT, workflow="docs", owner="ana") as run,
        ):  # fmt: skip
            assert guard.wait_ready(60), guard.waiting_for
            run.llm_call(model="in-house", input_tokens=10, output_tokens=10, cost_usd=12)
            assert emitter.flush(30) == 0
            worker.wait_for(run.stop_event.is_set, 60, "the agent is stopped")
            alerting.wait_for(lambda: hook.bodies, 60, "somebody is told")
            wait_until(lambda: "run-cost" in str(hook.bodies), 30, "of the cap")
            assert (worker.stop(), alerting.stop()) == (0, 0), worker.tail() + alerting.tail()
