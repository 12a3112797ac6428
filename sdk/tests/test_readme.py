"""The README's examples run as they stand, in order, against a mock cluster."""

import re
from pathlib import Path

import pytest
from confluent_kafka import Producer

from spendfuse import derive_tenant_key

README = Path(__file__).parents[1] / "README.md"


def test_the_examples_run(bootstrap: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A reader can paste them one after the other; line numbers of a failure are the README's."""
    service = Producer({"bootstrap.servers": bootstrap})
    service.produce("control.v1", value=b"not a command", key=b"any")
    assert service.flush(30) == 0
    monkeypatch.setenv("SPENDFUSE_KAFKA_BOOTSTRAP", bootstrap)
    monkeypatch.setenv("ACME_ENGINE_KEY", derive_tenant_key(b"engine root", "acme").hex())
    monkeypatch.setenv("ACME_OPERATOR_KEY", derive_tenant_key(b"operator root", "acme").hex())
    text = README.read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert len(blocks) >= 6
    names: dict[str, object] = {}
    for block in blocks:
        lines_before = text.count("\n", 0, block.start(1))
        exec(compile("\n" * lines_before + block[1], str(README), "exec"), names)
    assert capsys.readouterr().out == "answered with gpt-5\n"
