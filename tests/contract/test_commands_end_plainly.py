"""Whatever happens to a command, it ends with an exit code and a sentence: no tracebacks for what is no fault of ours.

A table for each thing that happens: no broker, nobody who reads on, files and folders that cannot be used, a port that
is taken, somebody who presses Ctrl-C.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import pytest

from infra.compiled.__main__ import main as compiled
from infra.demo.__main__ import main as demo
from infra.kafka.embedded import EmbeddedBroker
from schemas.errors import SettingsError
from streams.__main__ import main
from streams.commands.registry import add_all
from streams.process.ending import INTERRUPTED, NOBODY_READS, run_to_end

ROOT = Path(__file__).parents[2]
POLICY = "infra/demo/policy.toml"
EVENTS = "infra/demo/usage.jsonl.gz"
KEY = "the root key of operators, in tests"
TAIL_S = 60
HEEDING = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
"""Runs a module as `python -m` does, and heeds Ctrl-C also where whoever runs the tests does not."""

AWAY = [
    "ack i1 --tenant acme --why w",
    "snooze i1 --tenant acme --why w",
    "feedback i1 noise --tenant acme --why w",
    "silence --tenant acme --all --for 1h --why w",
    "exception --rule r --limit-usd 1 --for 1h --tenant acme --why w",
    "kill --run r1 --tenant acme --why w",
    "resume --run r1 --tenant acme --why w",
    "orders",
    "why r1",
    "story --run r1",
    "incidents",
    "dlq",
    "doctor",
    "gateway doctor --key sf_0123456789ab_0",
    "poll --from langfuse --tenant acme --once",
    "keys check",
    "keys create --tenant acme",
    "keys list",
    "keys revoke 0123456789ab",
    "topics apply",
    "topics check",
    f"policy publish {POLICY}",
    f"policy diff {POLICY}",
    "record --since 1h --out {folder}/f.jsonl",
    "backfill --since 1h --yes",
    "backtest --topic usage.v1 --since 1h --out {folder}/f.jsonl",
    "tune --topic usage.v1 --since 1h",
    "report weekly",
    "rebuild --from-input",
    "deliveries check",
    "deliveries repair --save {folder}/f.jsonl",
    "enforcer history",
    "reconcile run {folder}/reconcile.toml",
    "sink --to duckdb:///{folder}/f.duckdb --once",
]
CONSOLES = '[[console]]\nname = "bill"\nsource = "google"\nfile = "bill.csv"\n'
WITHOUT_BROKER = {"import", "routes"}
PROCESSES = {"worker", "up", "gateway", "console", "enforcer"}
"""What goes on until it is told to end; `test_broker_away` looks at their starts."""


@pytest.fixture
def here(embedded: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> EmbeddedBroker:
    """A broker with topics, and the environment of somebody who may do everything."""
    embedded.create_topics("", 2)
    for name, value in _settings(embedded.bootstrap).items():
        monkeypatch.setenv(name, value)
    return embedded


def _settings(bootstrap: str) -> dict[str, str]:
    given = {"KAFKA_BOOTSTRAP": bootstrap, "OPERATOR_KEY": KEY, "OPERATOR_NAME": "ana", "KAFKA_CHECK_CRCS": "false"}
    return {f"SPENDFUSE_{name}": value for name, value in given.items()}


def test_every_command_is_looked_at() -> None:
    """A new one needs a line in the table."""
    parsers = argparse.ArgumentParser().add_subparsers()
    add_all(parsers)
    assert set(parsers.choices) == {words.split()[0] for words in AWAY} | WITHOUT_BROKER | PROCESSES


@pytest.mark.parametrize("words", AWAY)
def test_a_broker_that_is_away(
    words: str,
    here: EmbeddedBroker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Code 4, with the address and the setting that names it."""
    monkeypatch.setattr("streams.kafka.admin.REQUEST_TIMEOUT_S", 0.3)
    monkeypatch.chdir(ROOT)
    (tmp_path / "reconcile.toml").write_text(CONSOLES, encoding="utf-8")
    here.take_down()
    assert main(words.format(folder=tmp_path).split()) == 4
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"spendfuse: no broker answers at {here.bootstrap}")
    assert "SPENDFUSE_KAFKA_BOOTSTRAP" in said


FILES = [
    f"backtest --events {EVENTS} --out {{file}}/o.jsonl",
    f"backtest --events {EVENTS} --out {{folder}}",
    "backtest --events {file}/f.jsonl --out o.jsonl",
    "backtest --events {folder} --out {folder}/o.jsonl",
    "tune --events {folder}",
    f"tune --events {EVENTS} --labels {{folder}}",
    f"tune --events {EVENTS} --policy {{folder}}",
    f"backtest --events {EVENTS} --policy {{folder}}",
    f"backtest --events {EVENTS} --out /dev/full",
    "policy check {folder}",
    "policy publish {file}/p.toml",
    "routes test --labels a=b --policy {folder}",
    "record --since 1h --out {file}/r.jsonl",
    "report weekly --effects {file}/o.jsonl",
    "report weekly --effects {folder}",
    "enforcer check {folder}",
    "reconcile run {folder}",
    "reconcile run {file}/reconcile.toml",
    "sink --to duckdb:///{file}/f.duckdb --once",
    "sink tenant acme --to duckdb:///{file}/f.duckdb",
]


@pytest.mark.parametrize("words", FILES)
def test_files_that_cannot_be_used(
    words: str,
    here: EmbeddedBroker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Code 2, and which file it is, or that the disk is full."""
    monkeypatch.chdir(ROOT)
    (tmp_path / "file").touch()
    assert main(words.format(file=tmp_path / "file", folder=tmp_path).split()) == 2
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("spendfuse: ")
    assert str(tmp_path) in said or "No space left" in said


@pytest.mark.parametrize("setting", ["SETTINGS", "POLICY"])
def test_settings_that_cannot_be_read(
    setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Code 2, and which variable names what."""
    monkeypatch.setenv(f"SPENDFUSE_{setting}", str(tmp_path))
    assert main(["routes", "test", "--labels", "a=b"]) == 2
    assert f"SPENDFUSE_{setting}: {tmp_path} cannot be read" in capsys.readouterr().err


def test_folders_of_demo_and_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where they may not write, they say so before they begin."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPENDFUSE_DEMO_FOLDER", str(tmp_path / "file" / "out"))
    assert run_to_end(lambda: demo(["--once"]), "demo") == 2
    assert "Name another folder with SPENDFUSE_DEMO_FOLDER" in capsys.readouterr().err
    assert run_to_end(lambda: compiled([str(tmp_path / "file" / "build")])) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_faults_of_ours_keep_their_traceback() -> None:
    """Nobody could mend them otherwise."""

    def faulty() -> int:
        raise LookupError("ours")

    with pytest.raises(LookupError):
        run_to_end(faulty)


def test_settings_that_kafka_s_client_refuses(
    here: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Code 2: no broker is at fault."""
    monkeypatch.setenv("SPENDFUSE_KAFKA_SECURITY_PROTOCOL", "PLAINTXT")
    assert main(["incidents"]) == SettingsError.exit_code
    assert "of no use to Kafka's client" in capsys.readouterr().err


WRITING = [
    "streams --help",
    "streams keys generate",
    "streams routes test --labels severity=critical",
    f"streams policy check {POLICY}",
    f"streams backtest --events {EVENTS}",
    "streams orders",
    "streams incidents",
    "streams dlq",
    "streams keys check",
    "alerting --help",
    "infra.demo --once",
    "infra.kafka.access worker --principal User:x",
    "infra.kafka.embedded",
    "infra.compiled.decisions",
]


@pytest.mark.parametrize("words", WRITING)
def test_nobody_reads_on(words: str, here: EmbeddedBroker, tmp_path: Path) -> None:
    """`… | head`: it ends as other programs do, without a word."""
    ends, end = os.pipe()
    os.close(ends)
    with os.fdopen(end, "wb") as closed:
        done = _started(words, here, tmp_path, closed)
        _, said = done.communicate(timeout=TAIL_S)
    assert done.returncode in (0, NOBODY_READS), said
    assert [word for word in ("Traceback", "Exception ignored", "Broken pipe") if word in said] == []


@pytest.mark.parametrize(
    ("words", "setting"),
    [
        ("streams worker", "METRICS_PORT"),
        ("streams up", "METRICS_PORT"),
        ("alerting", "METRICS_PORT"),
        ("alerting", "ACTIONS_PORT"),
    ],
)
def test_a_port_in_use(words: str, setting: str, here: EmbeddedBroker, tmp_path: Path) -> None:
    """Code 2, with the setting that names the port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = {setting: str(taken.getsockname()[1]), "SLACK_SIGNING_SECRET": "x"}
        done = _started(words, here, tmp_path, more=port)
        _, said = done.communicate(timeout=TAIL_S)
    assert done.returncode == 2, said
    last = said.splitlines()[-1]
    assert last.startswith(f"spendfuse: SPENDFUSE_{setting}: "), said
    assert "cannot be listened on" in last


INTERRUPTED_AT = [
    ("streams worker", "state restored", signal.SIGINT, 0),
    ("alerting", "deliveries restored", signal.SIGINT, 0),
    (f"streams backtest --events {EVENTS}", '"topic"', signal.SIGINT, INTERRUPTED),
    ("infra.kafka.embedded", ":", signal.SIGINT, INTERRUPTED),
    ("infra.demo --once", "broker", signal.SIGINT, INTERRUPTED),
    ("infra.demo --once", "history", signal.SIGTERM, INTERRUPTED),
]


@pytest.mark.parametrize(
    ("words", "sign", "number", "code"),
    INTERRUPTED_AT,
    ids=[f"{row[0].split()[-1]}-{row[2].name}" for row in INTERRUPTED_AT],
)
def test_somebody_presses_ctrl_c(
    words: str, sign: str, number: signal.Signals, code: int, here: EmbeddedBroker, tmp_path: Path
) -> None:
    """What was at work ends in order, what was asked for is given up; neither complains. SIGTERM ends the demo as well,
    with the processes that it has started.
    """
    process = _started(words, here, tmp_path, both=True)
    assert process.stdout is not None
    said = _read_to(process.stdout, sign)
    process.send_signal(number)
    rest, _ = process.communicate(timeout=TAIL_S)
    assert process.returncode == code, said + rest
    assert [line for line in (said + rest).splitlines() if line.startswith(("Traceback", "Exception"))] == []


def test_ctrl_c_while_the_demo_loads(here: EmbeddedBroker, tmp_path: Path) -> None:
    """It takes a second to load what the demo needs: whoever changes their mind meanwhile sees no traceback."""
    process = _started("infra.demo --once", here, tmp_path, options=("-X", "importtime"))
    assert process.stderr is not None
    _read_to(process.stderr, "confluent_kafka")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=TAIL_S)
    assert process.returncode == INTERRUPTED
    assert "Traceback" not in said


def test_ctrl_c_while_nobody_answers(here: EmbeddedBroker, tmp_path: Path) -> None:
    """Who mistyped an address need not wait until the client gives up."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(TAIL_S)
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        process = _started("streams incidents", here, tmp_path, more={"KAFKA_BOOTSTRAP": address})
        connection, _ = silent.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=10)
    assert process.returncode == INTERRUPTED
    assert "Traceback" not in said


def _started(
    words: str,
    broker: EmbeddedBroker,
    folder: Path,
    out: IO[bytes] | None = None,
    *,
    both: bool = False,
    options: Sequence[str] = (),
    more: Mapping[str, str] | None = None,
) -> "subprocess.Popen[str]":
    """A command in a process of its own. With `both`, what it says goes to its standard output as well."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SPENDFUSE_")}
    given = {} if words.startswith("infra.demo") else _settings(broker.bootstrap) | {"SPENDFUSE_SLOT": "0"}
    given |= {"SPENDFUSE_DEMO_FOLDER": str(folder)} | {
        f"SPENDFUSE_{name}": value for name, value in (more or {}).items()
    }
    return subprocess.Popen(
        [sys.executable, *options, "-u", "-c", HEEDING, *words.split()],
        cwd=ROOT,
        env=inherited | given,
        stdin=subprocess.PIPE,
        stdout=out or subprocess.PIPE,
        stderr=subprocess.STDOUT if both else subprocess.PIPE,
        text=True,
    )


def _read_to(stream: IO[str], sign: str) -> str:
    """What a process says up to the line with this sign."""
    said = ""
    for line in _lines(stream):
        said += line
        if sign in line:
            return said
    raise AssertionError(f"it ended without {sign!r}:\n{said[-3000:]}")


def _lines(stream: IO[str]) -> Iterator[str]:
    while line := stream.readline():
        yield line
