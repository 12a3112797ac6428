"""Settings: one reader, every fault at once, secrets kept out of sight."""

from pathlib import Path

import pytest

from schemas.errors import SettingsError
from schemas.signing import OperatorKey
from streams.settings import read_settings, unknown_variables


def test_every_fault_is_reported_at_once() -> None:
    """Two wrong variables are both named, as they are written in the environment."""
    with pytest.raises(SettingsError) as caught:
        read_settings({"SPENDFUSE_PARTITIONS": "none", "SPENDFUSE_SLOT": "a b"})
    assert "SPENDFUSE_PARTITIONS" in str(caught.value)
    assert "SPENDFUSE_SLOT" in str(caught.value)
    assert caught.value.exit_code == 2


def test_variables_go_before_the_file(tmp_path: Path) -> None:
    """The file fills in what the environment leaves open."""
    path = tmp_path / "settings.toml"
    path.write_text('slot = "7"\nprefix = "prod."\n')
    settings = read_settings({"SPENDFUSE_SETTINGS": str(path), "SPENDFUSE_SLOT": "8"})
    assert (settings.slot, settings.prefix) == ("8", "prod.")


@pytest.mark.parametrize("text", ["slot = ", 'slto = "7"'])
def test_faulty_file_is_refused(tmp_path: Path, text: str) -> None:
    """A file that is not TOML, or names what is no setting, is an error that names the file."""
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"settings\.toml"):
        read_settings({"SPENDFUSE_SETTINGS": str(path)})


def test_secrets_are_not_printed() -> None:
    """Neither the settings' text nor an error shows a key."""
    secrets = {"SPENDFUSE_ENGINE_KEY": "hunter2" * 6, "SPENDFUSE_KAFKA_SASL_PASSWORD": "hunter3"}
    settings = read_settings({**secrets, "SPENDFUSE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL"})
    assert "hunter" not in repr(settings)
    with pytest.raises(SettingsError) as caught:
        read_settings({"SPENDFUSE_ENGINE_KEY": "hunter2" * 6, "SPENDFUSE_PARTITIONS": "x"})
    assert "hunter" not in str(caught.value)
    with pytest.raises(SettingsError) as caught:
        read_settings(secrets)
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ({"KAFKA_SASL_USERNAME": "ana"}, "set SASL_SSL or SASL_PLAINTEXT"),
        ({"KAFKA_SASL_USERNAME": "ana", "KAFKA_SECURITY_PROTOCOL": "SSL"}, "set SASL_SSL or SASL_PLAINTEXT"),
        ({"KAFKA_SSL_CA": "/ca.pem"}, "set SSL or SASL_SSL"),
        ({"KAFKA_SSL_CA": "/ca.pem", "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"}, "set SSL or SASL_SSL"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(given: dict[str, str], hint: str) -> None:
    """One of the two would count in silence: traffic without TLS, or a client without a name."""
    with pytest.raises(SettingsError) as caught:
        read_settings({f"SPENDFUSE_{name}": value for name, value in given.items()})
    assert hint in str(caught.value)


def test_misspelt_variables_are_found() -> None:
    """What looks like a setting and is none is told."""
    names = {"SPENDFUSE_POLCY": "x", "SPENDFUSE_POLICY": "y", "SPENDFUSE_CACHE": "z", "PATH": "p"}
    assert unknown_variables(names) == ["SPENDFUSE_POLCY"]


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("ENGINE_KEY", "k" * 31, "shorter than 32 bytes"),
        ("OPERATOR_KEY", "hunter2", "shorter than 32 bytes"),
        ("OPERATOR_PUBLIC_KEY", "00" * 31, "write public keys as"),
        ("OPERATOR_PUBLIC_KEY", "the root key of operators, in tests", "write public keys as"),
        ("OPERATOR_PUBLIC_KEY", f"{'00' * 32},zz", "write public keys as"),
        ("OPERATOR_HMAC_UNTIL", "2026-12-01T00:00", "time zone"),
    ],
)
def test_a_key_that_can_be_none_is_refused(name: str, value: str, hint: str) -> None:
    """Short keys can be guessed, and a key that was cut off by the way would refuse every order in silence."""
    with pytest.raises(SettingsError, match=f"SPENDFUSE_{name}: .*{hint}") as caught:
        read_settings({f"SPENDFUSE_{name}": value})
    assert name == "OPERATOR_HMAC_UNTIL" or value not in str(caught.value)


@pytest.mark.parametrize("url", ["spend.example.com", "https://x.example/{tenant_id}", "https://x.example/?a=b"])
def test_an_address_that_leads_nowhere_is_refused(url: str) -> None:
    """Messages would carry a link that is none."""
    with pytest.raises(SettingsError, match=r"SPENDFUSE_CONSOLE_URL: .*write where people reach the live page"):
        read_settings({"SPENDFUSE_CONSOLE_URL": url})


def test_who_gives_orders_can_check_them() -> None:
    """Public keys are read as printed, several while one replaces another; who has a private one needs none."""
    root = "the root key of operators, in tests"
    own = OperatorKey(root.encode()).public_key
    assert read_settings({}).operator_public_keys == ()
    assert read_settings({"SPENDFUSE_OPERATOR_KEY": root}).operator_public_keys == (own,)
    given = {"SPENDFUSE_OPERATOR_KEY": root, "SPENDFUSE_OPERATOR_PUBLIC_KEY": f" {own.hex()} , {'07' * 32},"}
    assert read_settings(given).operator_public_keys == (own, b"\7" * 32)
