"""Settings: one reader, every fault at once, secrets kept out of sight."""

from pathlib import Path

import pytest

from schemas.errors import SettingsError
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
    settings = read_settings({"SPENDFUSE_ENGINE_KEY": "hunter2", "SPENDFUSE_KAFKA_SASL_PASSWORD": "hunter3"})
    assert "hunter" not in repr(settings)
    with pytest.raises(SettingsError) as caught:
        read_settings({"SPENDFUSE_ENGINE_KEY": "hunter2", "SPENDFUSE_PARTITIONS": "x"})
    assert "hunter" not in str(caught.value)


def test_misspelt_variables_are_found() -> None:
    """What looks like a setting and is none is told."""
    names = {"SPENDFUSE_POLCY": "x", "SPENDFUSE_POLICY": "y", "SPENDFUSE_CACHE": "z", "PATH": "p"}
    assert unknown_variables(names) == ["SPENDFUSE_POLCY"]
