"""The ways to log in to a cluster, on a real Kafka that lets nobody in without: each by settings, for every part of us."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from spendfuse import Emitter, Guard, derive_keys
from spendfuse.kafka import KafkaControl, KafkaTransport

from infra.kafka.access import rights, roles
from infra.kafka.jars import KafkaUnavailableError
from infra.kafka.local import LocalKafka
from streams.__main__ import main
from streams.kafka.client import Admin
from streams.settings import read_settings
from tests.conftest import do_without
from tests.support.alerting_process import TO_THE_HOOK, Listening
from tests.support.certificates import issue, make_ca
from tests.support.kafka import fresh_prefix, wait_until
from tests.support.receivers import webhook
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


def by_scram(_: Path) -> LocalKafka:
    return LocalKafka(logins=USERS, mechanism="SCRAM-SHA-512")


def by_certificate(folder: Path) -> LocalKafka:
    make_ca(folder)
    for name in ("broker", *USERS):
        issue(folder, name)
    return LocalKafka(logins=USERS, certificates=folder)


@pytest.fixture(params=[by_scram, by_certificate], ids=["scram", "certificates"])
def asking(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalKafka]:
    """A broker that asks for a login in one of the ways, and allows nothing by itself."""
    start: Callable[[Path], LocalKafka] = request.param
    try:
        broker = start(tmp_path)
    except KafkaUnavailableError as error:
        do_without(str(error))
    yield broker
    broker.stop()


def test_a_run_is_killed_and_told_of_under_each_login(
    asking: LocalKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Topics are made, a worker and alerting work under their own rights, an agent reports and is stopped, somebody is
    told: whoever it is, the login is a few variables, the same ones for all.
    """
    prefix = fresh_prefix()

    def variables(role: str) -> dict[str, str]:
        login = {VARIABLES[name]: value for name, value in asking.client_config(role).items()}
        return {"KAFKA_BOOTSTRAP": asking.bootstrap, "PREFIX": prefix, **login}

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
