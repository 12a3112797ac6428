"""The README's examples run as they stand, in order, against a mock cluster."""

import re
from pathlib import Path

import pytest
from confluent_kafka import Producer

from spendfuse import derive_keys

README = Path(__file__).parents[1] / "README.md"


def test_the_examples_run(bootstrap: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A reader can paste them one after the other; line numbers of a failure are the README's."""
    service = Producer({"bootstrap.servers": bootstrap})
    service.produce("control.v1", value=b"not a command", key=b"any")
    assert service.flush(30) == 0
    monkeypatch.setenv("SPENDFUSE_KAFKA_BOOTSTRAP", bootstrap)
    keys = derive_keys(b"the root key of the engine, in tests", "acme")
    monkeypatch.setenv("SPENDFUSE_TENANT_KEY", keys["engine"].hex())
    monkeypatch.setenv("SPENDFUSE_LIFT_KEY", keys["lift"].hex())
    text = README.read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert len(blocks) >= 6
    names: dict[str, object] = {}
    for block in blocks:
        lines_before = text.count("\n", 0, block.start(1))
        exec(compile("\n" * lines_before + block[1], str(README), "exec"), names)
    assert capsys.readouterr().out == "answered with gpt-5\n"
