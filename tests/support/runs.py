"""Drives the rules about order over the calls of one run, as the engine does."""

from collections.abc import Iterable, Sequence
from typing import Any

from models.detectors.base import SequenceDetector
from models.rules.finding import Finding
from models.state.units.call_history import CallHistory
from schemas.usage import LlmCall, ToolCall


def drive_steps(
    detectors: Sequence[SequenceDetector[Any]],
    calls: Iterable[ToolCall | LlmCall],
    cost_of_a_call_nanousd: int = 0,
) -> list[tuple[int, str, Finding]]:
    """Every finding of every detector, in order, as (index of the call, detector, finding).

    The rules are asked where the engine would ask them, and the run has cost as much for each of its calls.
    """
    history = CallHistory()
    found = []
    for at, call in enumerate(calls):
        kind = "tool" if isinstance(call, ToolCall) else "model"
        if isinstance(call, ToolCall):
            finishes = any(detector.finishes(call.tool) for detector in detectors)
            is_asked = history.tool(call, None, (at + 1) * cost_of_a_call_nanousd, finishes)
        else:
            is_asked = history.model(call, (at + 1) * cost_of_a_call_nanousd)
        for detector in detectors if is_asked else ():
            finding = detector.step(history, call) if kind in detector.calls else None
            if finding is not None:
                found.append((at, detector.name, finding))
    return found


def drive(
    detectors: Sequence[SequenceDetector[Any]],
    calls: Iterable[ToolCall | LlmCall],
    cost_of_a_call_nanousd: int = 0,
) -> list[Finding]:
    """Every finding of every detector, in order."""
    return [finding for _, _, finding in drive_steps(detectors, calls, cost_of_a_call_nanousd)]
