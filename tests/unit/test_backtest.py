"""The backtest command, from the outside: files in, JSON lines and a scorecard out."""

import gc
import json
from pathlib import Path

import pytest

from models.engine import Engine
from models.rules.policy import read_policy_toml
from models.stimuli import UsageSeen
from streams.__main__ import main
from streams.tools.event_log import read_log

T0_MS = 1_795_000_000_000
ROOT = Path(__file__).parents[2]
DEMO = ROOT / "infra" / "demo"

POLICY = """
version = "t-1"
[[cap]]
name = "run-cost"
limit_usd = 1.0
at_limit = "kill"
mode = "enforce"
"""


def write_calls(path: Path, count: int, cost_nanousd: int) -> None:
    """A log of one run with so many calls, a second apart."""
    path.write_text(
        "\n".join(
            json.dumps(
                {
                    "type": "llm_call",
                    "event_id": f"e{n}",
                    "ts_ms": T0_MS + n * 1000,
                    "tenant_id": "acme",
                    "run_id": "r1",
                    "workflow": "docs",
                    "model": "house-model",
                    "input_tokens": 100 + n,
                    "cost_nanousd": cost_nanousd,
                }
            )
            for n in range(count)
        )
    )


def test_effects_and_scorecard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run over its cap is killed at the call that reached it; what came after is what would have been saved."""
    events, policy, out = tmp_path / "e.jsonl", tmp_path / "p.toml", tmp_path / "o.jsonl"
    write_calls(events, 10, 250_000_000)
    policy.write_text(POLICY)
    assert main(["backtest", "--policy", str(policy), "--events", str(events), "--out", str(out)]) == 0
    effects = [json.loads(line) for line in out.read_text().splitlines()]
    assert {frozenset(effect) for effect in effects} == {frozenset({"topic", "key", "value"})}
    kills = [effect for effect in effects if effect["topic"] == "control.v1"]
    assert [(kill["key"], kill["value"]["cause_event_id"]) for kill in kills] == [("acme/run/r1", "e3")]
    levels = [
        effect["value"]["level"]
        for effect in effects
        if effect["value"].get("rule") == "run-cost" and effect["value"].get("state") in ("open", "escalated")
    ]
    assert levels == [0.5, 1.0], "0.8 is jumped over, and only the highest level is told"
    printed = capsys.readouterr().out
    assert "kills: 1" in printed
    assert "spent after the cause of a kill: $1.50" in printed
    assert "acme / docs: $1.50" in printed


def test_effects_go_to_standard_output_without_a_file(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Without --out, standard output holds JSON lines and nothing else."""
    events = tmp_path / "e.jsonl"
    write_calls(events, 30, 1)
    assert main(["backtest", "--events", str(events)]) == 0
    captured = capfdbinary.readouterr()
    assert [json.loads(line)["topic"] for line in captured.out.splitlines()]
    assert b"30 events" in captured.err


def test_two_policies_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--against` tells which alerts only one of the policies gives."""
    events, policy, other = tmp_path / "e.jsonl", tmp_path / "p.toml", tmp_path / "q.toml"
    write_calls(events, 10, 250_000_000)
    policy.write_text(POLICY)
    other.write_text(POLICY.replace("1.0", "100.0"))
    arguments = ["backtest", "--policy", str(policy), "--events", str(events), "--out", str(tmp_path / "o")]
    assert main([*arguments, "--against", str(other)]) == 0
    printed = capsys.readouterr().out
    assert "only with the first policy: 2 alerts" in printed
    assert "only with the second: 0 alerts" in printed


@pytest.mark.parametrize(
    ("policy", "events", "said"),
    [
        (POLICY, None, "there is no file"),
        ("[[cap]]\nname = 'x'\nlimit_uds = 1", "", 'cap[0] "x"'),
        ("version = ", "", "not TOML"),
    ],
)
def test_wrong_input_is_exit_2_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], policy: str, events: str | None, said: str
) -> None:
    """What cannot be used is named, and the exit code is 2."""
    policy_path, events_path = tmp_path / "p.toml", tmp_path / "e.jsonl"
    policy_path.write_text(policy)
    if events is not None:
        events_path.write_text(events)
    assert main(["backtest", "--policy", str(policy_path), "--events", str(events_path)]) == 2
    assert said in capsys.readouterr().err


def test_same_log_same_bytes(tmp_path: Path) -> None:
    """Two backtests over the same log write the same bytes."""
    outs = [tmp_path / "1", tmp_path / "2"]
    for out in outs:
        arguments = ["--policy", str(DEMO / "policy.toml"), "--events", str(DEMO / "usage.jsonl.gz"), "--out", str(out)]
        assert main(["backtest", *arguments]) == 0
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert outs[0].stat().st_size > 100_000


def test_engine_makes_no_cyclic_garbage() -> None:
    """The worker runs without the cycle collector, so nothing that an engine drops may need it."""
    engine = Engine(read_policy_toml((DEMO / "policy.toml").read_text()))
    gc.collect()
    gc.disable()
    try:
        for number, stimulus in enumerate(read_log(DEMO / "usage.jsonl.gz")):
            assert isinstance(stimulus, UsageSeen), "the demo's log holds nothing else"
            engine.handle(stimulus)
            engine.drain_effects()
            if number % 1000 == 0:
                engine.drain_rows()
        found = gc.collect()
    finally:
        gc.enable()
    assert found == 0


def test_the_scorecard_knows_the_policys_prices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a `[[price]]` says is what the engine charges and what the card sums."""
    events, policy = tmp_path / "e.jsonl", tmp_path / "p.toml"
    call = {"type": "llm_call", "event_id": "e", "ts_ms": T0_MS, "tenant_id": "acme", "run_id": "r", "model": "house"}
    events.write_text(json.dumps(call | {"input_tokens": 1_000_000}))
    policy.write_text('[[price]]\nmodel = "house"\ninput = 3')
    arguments = ["--policy", str(policy), "--events", str(events), "--out", str(tmp_path / "o.jsonl")]
    assert main(["backtest", *arguments]) == 0
    assert "$3.00 spent" in capsys.readouterr().out
