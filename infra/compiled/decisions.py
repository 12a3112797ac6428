"""`python -m infra.compiled.decisions`: all that the engine of this folder decides and writes over the demo's log.

Effects and rows in order, a line each. In between the engine is made anew from its rows, as a worker does that starts:
what is read back has other types than what was written, and compiled code insists on types.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from models.engine import Engine
from models.rules.policy import Policy
from models.stimuli import UsageSeen
from streams.process.ending import run_to_end
from streams.tools.backtest import line_of, read_policy_file
from streams.tools.event_log import read_log

INFRA = Path(__file__).parents[1]
LOG = INFRA / "demo" / "usage.jsonl.gz"
POLICIES = (
    INFRA / "demo" / "policy.toml",
    INFRA / "policies" / "documentation-agent.toml",
    INFRA / "compiled" / "policy.toml",
)
"""Between them they hold every kind of rule."""
BATCH = 1_000
RESTART_EVERY = 5_000


def decisions(policy: Policy, events: Iterator[UsageSeen]) -> Iterator[bytes]:
    """What is published and written under a policy, batch by batch, each with the proof of the state."""
    engine = Engine(policy)
    rows: dict[bytes, bytes] = {}
    for number, event in enumerate(events, 1):
        engine.handle(event)
        if number % BATCH == 0:
            yield from _taken(engine, rows)
        if number % RESTART_EVERY == 0:
            engine = Engine(policy)
            engine.restore(rows)
    yield from _taken(engine, rows)


def _taken(engine: Engine, rows: dict[bytes, bytes]) -> Iterator[bytes]:
    for effect in engine.drain_effects():
        yield line_of(effect)
    for key, value in engine.drain_rows():
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = value
        yield b"row %s %s\n" % (key, b"deleted" if value is None else value.hex().encode())
    yield b"digest %016x\n" % engine.digest


def main() -> int:
    """Write the decisions under each policy to standard output; returns the exit code."""
    for path in POLICIES:
        events = (line for line in read_log(LOG) if isinstance(line, UsageSeen))
        sys.stdout.buffer.writelines(decisions(read_policy_file(path), events))
    return 0


if __name__ == "__main__":
    sys.exit(run_to_end(main))
