"""`keys`: what is made is taken, what is derived is what others check with, and a wrong key is found in time."""

import re

import pytest
from spendfuse import derive_keys

from infra.kafka.embedded import EmbeddedBroker
from schemas.signing import OperatorKey
from streams.__main__ import main
from streams.kafka.records import Records
from streams.settings import read_settings
from tests.support.kafka import Record, produce

ENGINE = "the root key of the engine, in tests"
OPERATOR = "the root key of operators, in tests"
PUBLIC = OperatorKey(OPERATOR.encode()).public_key.hex()


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, str]:
    """Settings that a command printed, by name."""
    capsys.readouterr()
    assert main(["keys", *words]) == code
    return dict(re.findall(r"^SPENDFUSE_(\w+)=(\w[\w ,]*)$", capsys.readouterr().out, re.MULTILINE))


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENGINE_KEY", "ENGINE_KEY_BEFORE", "OPERATOR_KEY", "OPERATOR_PUBLIC_KEY"):
        monkeypatch.delenv(f"SPENDFUSE_{name}", raising=False)


def test_what_is_generated_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    """New keys each time, long enough, and the public key belongs to the private one."""
    first, second = said(capsys, "generate"), said(capsys, "generate")
    assert first.keys() == {"ENGINE_KEY", "OPERATOR_KEY", "OPERATOR_PUBLIC_KEY"}
    assert not set(first.values()) & set(second.values())
    settings = read_settings({f"SPENDFUSE_{name}": value for name, value in first.items()})
    assert settings.operator_public_keys == (OperatorKey(first["OPERATOR_KEY"].encode()).public_key,)


def test_what_is_derived_is_what_others_check_with(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Agents get the keys of their tenant and no root; both pairs while one root replaces another."""
    monkeypatch.setenv("SPENDFUSE_ENGINE_KEY", ENGINE)
    assert main(["keys", "derive"]) == 2
    assert "--tenant" in capsys.readouterr().err
    keys = derive_keys(ENGINE.encode(), "acme")
    assert said(capsys, "derive", "--tenant", "acme") == {
        "TENANT_KEY": keys["engine"].hex(), "LIFT_KEY": keys["lift"].hex(),
    }  # fmt: skip
    monkeypatch.setenv("SPENDFUSE_ENGINE_KEY_BEFORE", "the root key of the engine before, in tests")
    monkeypatch.setenv("SPENDFUSE_OPERATOR_KEY", OPERATOR)
    before = derive_keys(b"the root key of the engine before, in tests", "acme")
    assert said(capsys, "derive", "--tenant", "acme") == {
        "TENANT_KEY": f"{keys['engine'].hex()},{before['engine'].hex()}",
        "LIFT_KEY": f"{keys['lift'].hex()},{before['lift'].hex()}",
        "OPERATOR_PUBLIC_KEY": PUBLIC,
    }


def test_a_key_is_replaced_with_an_overlap(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed is taken as it stands, and lets both the old and the new key be believed for the time."""
    for whose in ("engine", "operator"):
        assert main(["keys", "rotate", whose]) == 2
        assert "is what is to be replaced" in capsys.readouterr().err
    monkeypatch.setenv("SPENDFUSE_ENGINE_KEY", ENGINE)
    monkeypatch.setenv("SPENDFUSE_OPERATOR_KEY", OPERATOR)
    engine = said(capsys, "rotate", "engine")
    assert engine["ENGINE_KEY_BEFORE"] == ENGINE != engine["ENGINE_KEY"]
    operator = said(capsys, "rotate", "operator")
    new = OperatorKey(operator["OPERATOR_KEY"].encode()).public_key.hex()
    assert operator["OPERATOR_PUBLIC_KEY"] == f"{new},{PUBLIC}"
    read_settings({f"SPENDFUSE_{name}": value for name, value in {**engine, **operator}.items()})


def test_wrong_keys_are_found(
    embedded: EmbeddedBroker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compared is what workers have written: nothing, the right keys, another engine's, another operator's."""
    embedded.create_topics("", 2)
    monkeypatch.setenv("SPENDFUSE_KAFKA_BOOTSTRAP", embedded.bootstrap)
    monkeypatch.setenv("SPENDFUSE_ENGINE_KEY", ENGINE)
    monkeypatch.setenv("SPENDFUSE_OPERATOR_KEY", OPERATOR)
    said(capsys, "check")
    worker = Records(read_settings({"SPENDFUSE_ENGINE_KEY": ENGINE, "SPENDFUSE_OPERATOR_PUBLIC_KEY": PUBLIC}))
    check = worker.key_check("acme")
    assert check is not None
    produce(embedded.bootstrap, "control.v1", [Record(check.value, check.key, tuple(check.headers or ()))])
    assert main(["keys", "check"]) == 0
    assert "1 of 1 tenants have the keys" in capsys.readouterr().out
    monkeypatch.setenv("SPENDFUSE_ENGINE_KEY", "another root key of an engine, in tests")
    assert main(["keys", "check"]) == 3
    assert "acme: the worker signs with another engine key" in capsys.readouterr().out
    monkeypatch.setenv("SPENDFUSE_OPERATOR_KEY", "another root key of operators, in tests")
    assert main(["keys", "check", "--tenant", "acme"]) == 3
    assert "refuses orders of the operator's key here" in capsys.readouterr().out
