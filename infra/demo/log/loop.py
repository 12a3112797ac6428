"""The planted loop: a docs agent that searches for the same thing again and again, and is told the same every time."""

from dataclasses import replace
from pathlib import Path
from random import Random

from infra.demo.log import sources
from infra.demo.log.calendar import today_at
from infra.demo.log.cast import INITECH_DOCS
from infra.demo.log.schedule import Placed
from infra.demo.log.trajectories import Step, ToolUse, Trajectory, with_resent_context_cached

LOOP_START_MS = today_at(10) + 12 * 60_000
LOOP_STEPS = 240
"""Each after the model has thought, for as long as it takes: nothing that waits is so uneven."""
REAL_STEPS = 8
"""The run begins as a real one did, before it goes round in circles."""
# The result's hash is the beginning of SHA-256 of nothing: the search keeps finding nothing.
SAME_CALL = ToolUse("search_docs", "5f1c0a7be93d", "e3b0c44298fc", latency_ms=900)
TOKENS_PER_TURN = 280
"""What each fruitless search adds to the context: the call, the same answer, the same conclusion."""


def looping_docs_agent(data: Path, rng: Random) -> Placed:
    """A real session's first steps, then the loop, on a model that would let it go on for hours."""
    model = "gpt-4.1"
    real = max(sources.lmcache(data, "magagent", model), key=lambda run: len(run.steps)).steps[:REAL_STEPS]
    begun = [replace(step, gap_ms=max(step.gap_ms, 1_000)) for step in real]
    size = max(step.input_tokens for step in begun)
    again = [
        Step(rng.randint(12_000, 60_000), size + TOKENS_PER_TURN * turn, 70, tools=(SAME_CALL,))
        for turn in range(1, LOOP_STEPS + 1)
    ]
    run = Trajectory("planted", model, with_resent_context_cached(model, [*begun, *again]), end="failed")
    return Placed(INITECH_DOCS, run, LOOP_START_MS)
