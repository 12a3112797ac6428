"""What people at a terminal ask of an installation at work: why, incidents, dlq, doctor, on a real broker."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.control import Target
from schemas.operator import Kill
from schemas.signing import OperatorKey
from streams.__main__ import main
from streams.clock import wall_ms
from streams.kafka.order_writer import OrderWriter
from streams.settings import read_settings
from tests.support.kafka import Record, TopicSpace, produce, read_all
from tests.support.worker_process import ENGINE_KEY, OPERATOR_KEY, WorkerProcess

TENANT = "acme"
POLICY = """
version = "first"
[[cap]]
name = "run-cost"
limit_usd = 10
thresholds = [1.0]
at_limit = "kill"
mode = "enforce"
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A cap of ten dollars a run."""
    path = tmp_path / "policy.toml"
    path.write_text(POLICY, encoding="utf-8")
    return path


@pytest.fixture
def here(kafka_topics: TopicSpace, monkeypatch: pytest.MonkeyPatch) -> TopicSpace:
    """The environment of an operator."""
    given = {
        "KAFKA_BOOTSTRAP": kafka_topics.bootstrap, "PREFIX": kafka_topics.prefix, "OPERATOR_KEY": OPERATOR_KEY,
        "OPERATOR_NAME": "ana",
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(f"SPENDFUSE_{name}", value)
    return kafka_topics


@pytest.fixture
def worker(here: TopicSpace, policy: Path) -> Iterator[WorkerProcess]:
    """A worker under the published policy."""
    assert main(["policy", "publish", str(policy)]) == 0
    with WorkerProcess(here.bootstrap, here.prefix) as process:
        process.wait_said("state restored")
        yield process
        assert process.stop() == 0, process.tail()


def spend(space: TopicSpace, run: str, usd: int, **fields: str) -> None:
    """A model call of a run."""
    now_ms = wall_ms()
    call = {
        "type": "llm_call", "event_id": f"{run}-{now_ms}", "ts_ms": now_ms, "tenant_id": TENANT, "run_id": run,
        "model": "m", "cost_nanousd": usd * 10**9, **fields,
    }  # fmt: skip
    produce(space.bootstrap, space.name("usage.v1"), [Record(json.dumps(call).encode(), TENANT.encode(), (), now_ms)])


def test_an_installation_at_work_answers(
    here: TopicSpace,
    worker: WorkerProcess,
    policy: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A run that its cap killed, one that its session's kill reaches, one that nobody stopped; its incident, and that
    of unreadable data; a dead letter; and the doctor, who finds what is well, what another policy file and a wrong key
    here are, and no alerting; it counts what waits to be told, and not what ends a transaction.
    """
    spend(here, "dear-0815", 12)
    worker.wait_said("command")
    spend(here, "quiet-1", 1)
    spend(here, "of-session-1", 1, session_id="s1")
    order = Kill(
        message_id="m1", ts_ms=wall_ms(), tenant_id=TENANT, who="ana", why="odd", target=Target("session", "s1")
    )
    OrderWriter(read_settings()).write(order)
    worker.wait_said("command", 2)
    produce(here.bootstrap, here.name("usage.v1"), [Record(b"{}", TENANT.encode())])
    worker.wait_said("dead letter")

    said = {words: _said(words, capsys) for words in ("why dear", "why quiet", "why of-session", "incidents", "dlq")}
    assert said["why dear"].startswith("Run dear-0815 of acme is killed.\n")
    assert "figure  $12.00 of $10.00\nby      the rule run-cost, policy first\n" in said["why dear"]
    assert said["why quiet"].startswith("Run quiet-1 of acme is not stopped: nothing stands against it.\n")
    assert said["why of-session"].startswith("Run of-session-1 of acme is killed, as all of session s1.\nwhy     odd\n")
    assert said["incidents"].startswith("2 open incidents\n\nCRITICAL  ")
    assert said["dlq"].startswith(
        "1 dead letter, by reason and source, the newest first\n\nmissing_field  1 record of "
    )

    doctor = _said("doctor", capsys, code=1)
    for well in ("broker", "topics", "running", "owners", "lag", "state", "policy", "keys", "guards", "clocks"):
        assert f"ok       {well}" in doctor, doctor
    waiting = Counter(record.partition for record in read_all(here.bootstrap, here.name("alerts.v1")))
    numbered = ", ".join(f"{number}: {waiting[number]}" for number in range(here.partitions))
    assert f"that no alerting process has committed, by partition: {numbered}" in " ".join(doctor.split()), doctor
    wrong = [line for line in doctor.splitlines() if line.startswith(("wrong", "warning"))]
    assert wrong == ["wrong    running  no alerting process runs"]

    policy.write_text(POLICY.replace("first", "second").replace("10", "11"), encoding="utf-8")
    monkeypatch.setenv("SPENDFUSE_POLICY", str(policy))
    monkeypatch.setenv("SPENDFUSE_OPERATOR_PUBLIC_KEY", OperatorKey(ENGINE_KEY.encode()).public_key.hex())
    doctor = _said("doctor", capsys, code=1)
    assert "warning  policy   the file that SPENDFUSE_POLICY names here is another: second" in doctor
    assert "wrong    keys" in doctor
    assert "the worker refuses orders of the operator's key here" in " ".join(doctor.split())


def test_the_wrong_prefix_is_named(
    here: TopicSpace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who forgot the prefix, or mistyped it, is shown which there are; nothing is created by looking."""
    monkeypatch.setenv("SPENDFUSE_PREFIX", "prdo.")
    doctor = " ".join(_said("doctor", capsys, code=1).split())
    assert "wrong topics missing, or not to be seen, under the prefix 'prdo.'" in doctor
    assert repr(here.prefix) in doctor
    for words in ("why r", "incidents", "dlq"):
        assert main(words.split()) == 4
        assert "topics are missing" in capsys.readouterr().err
    doctor = " ".join(_said("doctor", capsys, code=1).split())
    assert "missing, or not to be seen" in doctor


def _said(words: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    """What a command prints, which is no wider than a terminal."""
    found = main(words.split())
    out = capsys.readouterr().out
    assert found == code, out
    assert max(map(len, out.splitlines())) <= 80, out
    return out
