"""A cluster is secured from nothing: TLS, users, passwords and rights, each made once, and enough for the service."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaException

from infra.kafka.jars import KafkaUnavailableError
from infra.kafka.local import LocalKafka, free_ports
from infra.kafka.secure import main as secure
from infra.kafka.secure import secure_brokers
from infra.kafka.settings import tls_listener_settings
from streams.__main__ import main
from streams.kafka.client import Admin
from streams.process.ending import run_to_end
from streams.settings import Settings, read_settings
from tests.conftest import do_without
from tests.support.service_process import ServiceProcess

ADMINISTRATOR, PASSWORD = "administrator", "only-in-this-test"
LOOPBACK = "127.0.0.1"


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The administrator's settings for a broker's listener with TLS, made as `brokers` says."""
    folder = tmp_path_factory.mktemp("certificates")
    lines = "\n".join(secure_brokers(folder, [LOOPBACK]))
    of_listener = tls_listener_settings(folder / f"{LOOPBACK}.pem", folder / "ca.pem")
    assert all(f"\n{name}={value}" in lines for name, value in of_listener.items())
    assert lines.count(": made") == 2
    assert "made" not in "\n".join(secure_brokers(folder, [LOOPBACK]))
    own, controller, port = free_ports(3)
    listening = f"SASL_PLAINTEXT://{LOOPBACK}:{own},SASL_SSL://{LOOPBACK}:{port}"
    settings = of_listener | {
        "listeners": f"{listening},CONTROLLER://{LOOPBACK}:{controller}",
        "advertised.listeners": listening,
        "listener.security.protocol.map": "SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
    }
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("infra.kafka.local.free_ports", lambda _: [own, controller])
            started = LocalKafka(settings, logins={ADMINISTRATOR: PASSWORD}, mechanism="SCRAM-SHA-512")
    except KafkaUnavailableError as error:
        do_without(str(error))
    yield {
        "BOOTSTRAP": f"{LOOPBACK}:{port}", "SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "SCRAM-SHA-512",
        "SASL_USERNAME": ADMINISTRATOR, "SASL_PASSWORD": PASSWORD, "SSL_CA": str(folder / "ca.pem"),
    }  # fmt: skip
    started.stop()


@pytest.fixture(autouse=True)
def administrator(asking: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of this process are given by the administrator."""
    monkeypatch.setenv("SPENDFUSE_PREFIX", "prod.")
    for name, value in asking.items():
        monkeypatch.setenv(f"SPENDFUSE_KAFKA_{name}", value)


def act_by(path: Path, monkeypatch: pytest.MonkeyPatch, broker: dict[str, str]) -> None:
    """Commands of this process are given by whoever has this file, from now on."""
    for name in broker:
        monkeypatch.delenv(f"SPENDFUSE_KAFKA_{name}", raising=False)
    monkeypatch.setenv("SPENDFUSE_SETTINGS", str(path))


def settings_in(path: Path) -> Settings:
    return read_settings({"SPENDFUSE_SETTINGS": str(path)})


def test_a_cluster_is_secured_and_used(
    asking: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each role gets a user, a file that nobody else reads, and its rights; with these files topics are made and a
    worker works, and none does what is another's. A second time nothing is done. Without the authority's certificate,
    or with a wrong password, nobody gets in.
    """
    folder, made = tmp_path / "users", ("installer", "worker", "reader")
    words = ["users", str(folder), *(word for role in made for word in ("--role", role))]
    assert secure(words) == 0
    first = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in first] == [f"sf-{role}: made" for role in made]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
    assert secure(words) == 0
    again = capsys.readouterr().out.splitlines()
    assert [line.split(";")[0] for line in again] == [f"sf-{role}: kept, 0 rights granted" for role in made]
    monkeypatch.setenv("SPENDFUSE_PARTITIONS", "1")
    act_by(folder / "sf-installer.toml", monkeypatch, asking)
    assert main(["topics", "apply"]) == 0
    with ServiceProcess(["streams", "worker"], {"SETTINGS": folder / "sf-worker.toml", "SLOT": "0"}) as worker:
        worker.wait_said("state restored")
        assert worker.stop() == 0, worker.tail()
    act_by(folder / "sf-reader.toml", monkeypatch, asking)
    policy = tmp_path / "policy.toml"
    policy.write_text('version = "1"\n', encoding="utf-8")
    assert main(["topics", "check"]) == 0
    assert main(["policy", "publish", str(policy)]) == 4, "it may look, and no more"
    known = settings_in(folder / "sf-reader.toml")
    for wrong in ({"kafka_sasl_password": "wrong"}, {"kafka_ssl_ca": None}):
        with pytest.raises(KafkaException):
            Admin(Settings.model_validate(known.model_dump() | wrong)).list_topics(timeout=3)


def test_a_password_that_is_elsewhere_is_not_replaced_by_accident(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever starts it with another folder is told, and nothing is changed; --replace gives a new password. Rights
    that a user has beyond its role are counted.
    """
    here, there = tmp_path / "here", tmp_path / "there"

    def users(folder: Path, role: str, *more: str) -> int:
        return run_to_end(lambda: secure(["users", str(folder), "--role", role, "--user", "sf", *more]))

    assert users(here, "worker") == 0
    assert users(there, "worker") == 2
    assert "--replace" in capsys.readouterr().err
    assert users(here, "publisher") == 0
    assert "rights that its role does not need" in capsys.readouterr().out
    assert users(there, "worker", "--replace") == 0
    assert capsys.readouterr().out.startswith("sf: given a new password, 0 rights granted; it has ")
    with pytest.raises(KafkaException):
        Admin(settings_in(here / "sf.toml")).list_topics(timeout=3)
