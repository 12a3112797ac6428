"""The recipes of docs/connect/prefork.md run as they stand, under real gunicorn and Celery, on the embedded broker."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer
from spendfuse import derive_keys
from spendfuse._control.command import parse, record_key
from spendfuse._control.signing import signed_headers

from infra.kafka.embedded import EmbeddedBroker
from infra.kafka.local import free_ports
from tests.support.kafka import read_all, wait_until

RECIPES = Path(__file__).parents[2] / "docs/connect/prefork.md"
ROOT = b"the root key of the engine, in tests"
CALLS = 12
TIMEOUT_S = 40.0
CELERY_SETTINGS = """
broker_url = "filesystem://"
broker_transport_options = {"data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"}
task_ignore_result = True
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The recipes' files, as a reader would write them."""
    files = re.findall(r"^```python (\S+)\n(.*?)^```$", RECIPES.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert [name for name, _ in files] == ["gunicorn.conf.py", "agent.py", "tasks.py"]
    for name, text in files:
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "celeryconfig.py").write_text(CELERY_SETTINGS, encoding="utf-8")
    (tmp_path / "queue").mkdir()
    (tmp_path / "control").mkdir()
    return tmp_path


@pytest.fixture
def killed(embedded: EmbeddedBroker) -> str:
    """A run that was killed before anybody started; its id."""
    embedded.create_topics("", 2)
    now_ms = time.time_ns() // 1_000_000
    body = {
        "command_id": "c1", "action": "kill", "tenant_id": "acme", "target": {"type": "run", "id": "killed"}, "seq": 1,
        "reason": "cap reached", "issued_ms": now_ms, "expires_ms": now_ms + 3_600_000,
    }  # fmt: skip
    value = json.dumps(body).encode()
    command = parse(value)
    producer = Producer({"bootstrap.servers": embedded.bootstrap, "log_level": 0})
    headers: list[tuple[str, str | bytes | None]] = [*signed_headers(ROOT, "engine", command, value)]
    producer.produce("control.v1", key=record_key(command.tenant_id, command.target), value=value, headers=headers)
    assert producer.flush(30) == 0
    return "killed"


def environment(embedded: EmbeddedBroker) -> dict[str, str]:
    keys = derive_keys(ROOT, "acme")
    return os.environ | {
        "PYTHONPATH": ":".join(path for path in sys.path if path),
        "SPENDFUSE_KAFKA_BOOTSTRAP": embedded.bootstrap,
        "SPENDFUSE_PREFIX": "",
        "SPENDFUSE_TENANT_KEY": keys["engine"].hex(),
        "SPENDFUSE_LIFT_KEY": keys["lift"].hex(),
    }


@contextmanager
def running(*command: str, folder: Path, embedded: EmbeddedBroker) -> Iterator[Path]:
    """A program in the recipes' folder, ended by SIGTERM and in order; what it writes is in the file."""
    output = folder / "output.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=folder, env=environment(embedded), stdout=file, stderr=file
        )
        try:
            yield output
            process.terminate()
            assert process.wait(TIMEOUT_S) == 0, output.read_text(encoding="utf-8")
        finally:
            process.kill()
            process.wait()


def events_of(embedded: EmbeddedBroker, kind: str) -> list[str]:
    """The runs that events of a kind on usage.v1 are of, sorted."""
    events = [json.loads(record.value or b"") for record in read_all(embedded.bootstrap, "usage.v1")]
    return sorted(event["run_id"] for event in events if event["type"] == kind)


def asked(port: int, run_id: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{run_id}", timeout=TIMEOUT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def answers(port: int) -> bool:
    try:
        return asked(port, "first")[0] == 200
    except OSError:
        return False


@pytest.mark.parametrize("hooks", [True, False], ids=["hooks", "preload, emitter and guard made before the fork"])
def test_agents_under_gunicorn(embedded: EmbeddedBroker, folder: Path, killed: str, hooks: bool) -> None:
    """Every worker reports its calls, each event once and the last ones too; a run that was killed is stopped in it."""
    [port] = free_ports(1)
    options = ["--workers", "2", "--bind", f"127.0.0.1:{port}", "--worker-tmp-dir", str(folder)]
    if not hooks:
        (folder / "gunicorn.conf.py").unlink()
        with (folder / "agent.py").open("a", encoding="utf-8") as file:
            file.write("\n\nbegin()\n")
        options.append("--preload")
    runs = [f"run-{number}" for number in range(CALLS)]
    with running("gunicorn", *options, "agent:application", folder=folder, embedded=embedded) as output:
        wait_until(lambda: answers(port), TIMEOUT_S, f"gunicorn answers; {output.read_text(encoding='utf-8')}")
        for run in runs:
            assert asked(port, run) == (200, "answered")
        assert asked(port, killed) == (429, "stopped: cap reached")
    said = output.read_text(encoding="utf-8")
    assert "not in the log" not in said, said
    assert "SIGSEGV" not in said, said
    assert [run for run in events_of(embedded, "llm_call") if run != "first"] == sorted(runs)
    assert events_of(embedded, "command_ack") == [killed]


def ended(output: Path) -> int:
    """How many tasks Celery says have ended, by the kill or not."""
    return len(re.findall(r"succeeded in|raised unexpected", output.read_text(encoding="utf-8")))


@pytest.mark.skipif(importlib.util.find_spec("celery") is None, reason="Celery is not installed: pip install celery")
def test_agents_under_celery(embedded: EmbeddedBroker, folder: Path, killed: str) -> None:
    """Every child of the pool reports its calls, and at its end, which is `os._exit`, the last ones too."""
    runs = [f"run-{number}" for number in range(CALLS)]
    ask = f"import tasks\nfor run in {[*runs, killed]!r}: tasks.answer.delay(run)"
    options = ["--pool", "prefork", "--concurrency", "2", "--loglevel", "INFO", "--without-gossip", "--without-mingle"]
    with running("celery", "-A", "tasks", "worker", *options, folder=folder, embedded=embedded) as output:
        subprocess.run(
            [sys.executable, "-c", ask], cwd=folder, env=environment(embedded), check=True, timeout=TIMEOUT_S
        )
        wait_until(lambda: ended(output) == CALLS + 1, TIMEOUT_S, "every task has ended")
    said = output.read_text(encoding="utf-8")
    assert "not in the log" not in said, said
    assert events_of(embedded, "llm_call") == sorted(runs)
    assert events_of(embedded, "command_ack") == [killed]
