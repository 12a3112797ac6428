"""Drives the rules about order over the calls of one run, as the engine does."""

from collections.abc import Iterable, Sequence
from typing import Any

from models.detectors.base import SequenceDetector
from models.rules.finding import Finding
from models.state.units.call_history import CallHistory
from schemas.usage import LlmCall, ToolCall


def drive_steps(
    detectors: Sequence[SequenceDetector[Any]], calls: Iterable[ToolCall | LlmCall]
) -> list[tuple[int, str, Finding]]:
    """Every finding of every detector, in order, as (index of the call, detector, finding)."""
    history = CallHistory()
    found = []
    for at, call in enumerate(calls):
        kind = "tool" if isinstance(call, ToolCall) else "model"
        if isinstance(call, ToolCall):
            history.tool(call)
        else:
            history.model(call)
        for detector in detectors:
            finding = detector.step(history, call) if kind in detector.calls else None
            if finding is not None:
                found.append((at, detector.name, finding))
    return found


def drive(detectors: Sequence[SequenceDetector[Any]], calls: Iterable[ToolCall | LlmCall]) -> list[Finding]:
    """Every finding of every detector, in order."""
    return [finding for _, _, finding in drive_steps(detectors, calls)]
