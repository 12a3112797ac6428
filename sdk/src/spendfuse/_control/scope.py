"""Which runs a scope means: those whose own dimensions have the scope's values. Pure.

A scope names dimensions and, for each, the values that it allows: `tenant_id`, attribution, `tags.<name>`, and of
single calls `model`, `provider` and `route`. What a run does not say of itself is "unattributed". Of a call, only what
the guard was told counts: a scope that names more does not apply to it.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypedDict, cast

from spendfuse._client.runlike import RunLike
from spendfuse._control.command import Command, Scope

CALL_DIMENSIONS = ("model", "provider", "route")
UNATTRIBUTED = "unattributed"


class CallDimensions(TypedDict, total=False):
    """What the next call will be, as far as it is known before it is made."""

    model: str | None
    provider: str | None
    route: str | None


NO_CALL: CallDimensions = {}

_Values = tuple[str, ...]


class Dimensions:
    """The values of a run and its next call, by dimension."""

    __slots__ = ("_attribution", "_call", "_run", "_tags")

    def __init__(self, run: RunLike, call: CallDimensions = NO_CALL) -> None:
        self._run = run
        self._call: Mapping[str, Any] = cast("Mapping[str, Any]", call)
        self._attribution = _mapping(getattr(run, "attribution", None))
        self._tags = _mapping(self._attribution.get("tags"))

    def value(self, name: str) -> str | None:
        """Return the value of a dimension; None if it is one of a call that is not known."""
        if name in CALL_DIMENSIONS:
            return self._call.get(name)
        if name.startswith("tags."):
            return _text(self._tags.get(name[len("tags.") :]))
        if name == "tenant_id":
            return self._run.tenant_id
        value = self._attribution.get(name)
        return _text(self._run.workflow if value is None and name == "workflow" else value)

    def are_in(self, scope: Scope) -> bool:
        """Whether every dimension that the scope names has one of its values."""
        return all(self.value(name) in allowed for name, allowed in scope.items())


class ScopeIndex:
    """Commands to scopes, found with a look-up for each set of dimensions that scopes are made of, however many.

    One thread changes it, any thread may ask: what is iterated over is replaced, never changed.
    """

    def __init__(self) -> None:
        self._by_names: dict[_Values, dict[_Values, tuple[Command, ...]]] = {}
        """Dimensions with one allowed value -> their values -> commands, whose other dimensions are still to be looked
        at."""

    def add(self, command: Command) -> None:
        """Take in a command that has a scope."""
        names, values = _place(command)
        if names not in self._by_names:
            self._by_names = {**self._by_names, names: {}}
        commands = self._by_names[names]
        commands[values] = (*commands.get(values, ()), command)

    def remove(self, command: Command) -> None:
        """Forget a command, if it is here."""
        names, values = _place(command)
        commands = self._by_names.get(names, {})
        left = tuple(each for each in commands.get(values, ()) if each is not command)
        if left:
            commands[values] = left
            return
        commands.pop(values, None)
        if not commands:
            self._by_names = {each: found for each, found in self._by_names.items() if each != names}

    def reaching(self, run: RunLike, call: CallDimensions = NO_CALL) -> Iterator[Command]:
        """Yield the commands whose scope the run, with its next call, is in."""
        if not self._by_names:
            return
        dimensions = Dimensions(run, call)
        for names, commands in self._by_names.items():
            values = tuple(dimensions.value(name) for name in names)
            for command in commands.get(cast("_Values", values), ()):
                if command.scope is not None and dimensions.are_in(command.scope):
                    yield command


def _place(command: Command) -> tuple[_Values, _Values]:
    single = sorted((name, *allowed) for name, allowed in (command.scope or {}).items() if len(allowed) == 1)
    return tuple(name for name, _ in single), tuple(value for _, value in single)


def _text(value: object) -> str:
    return value if isinstance(value, str) and value else UNATTRIBUTED


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
