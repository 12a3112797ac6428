"""The engine given a list of things that happen."""

from collections.abc import Iterable
from typing import Any

from models.effects import Effect
from models.engine import Engine


def replay(engine: Engine, stimuli: Iterable[Any]) -> list[Effect]:
    """Handle everything in order and return all effects."""
    for stimulus in stimuli:
        engine.handle(stimulus)
    return engine.drain_effects()
