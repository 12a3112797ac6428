"""Somebody who has only the interpreter finds out what this is, which one, and how to use it."""

import pydoc
import re
import textwrap
from importlib.metadata import version

import pytest
from confluent_kafka import Producer

import spendfuse


def test_the_version_is_that_of_the_distribution() -> None:
    """One number, for people and for pip."""
    assert spendfuse.__version__ == version("spendfuse")
    assert re.fullmatch(r"\d+\.\d+\.\d+", spendfuse.__version__)


def test_help_has_an_example_that_runs(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `help(spendfuse)` shows first can be pasted: it reports a run, asks the guard, and loses nothing."""
    service = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    service.produce("control.v1", value=b"not a command", key=b"any")
    assert service.flush(30) == 0
    keys = spendfuse.derive_keys(b"the root key of the engine, in tests", "acme")
    monkeypatch.setenv("SPENDFUSE_KAFKA_BOOTSTRAP", bootstrap)
    monkeypatch.setenv("SPENDFUSE_TENANT_KEY", keys["engine"].hex())
    monkeypatch.setenv("SPENDFUSE_LIFT_KEY", keys["lift"].hex())
    shown = pydoc.plain(pydoc.render_doc(spendfuse))
    start = shown.index("        from spendfuse import")
    example = textwrap.dedent(shown[start : shown.index("`help(spendfuse.Emitter)`")])
    names: dict[str, object] = {}
    exec(example, names)
    assert names["missing"] == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", [name for name in spendfuse.__all__ if name != "__version__"])
def test_everything_exported_says_what_it_is(name: str) -> None:
    """No name without a sentence."""
    assert (getattr(spendfuse, name).__doc__ or "").strip()
