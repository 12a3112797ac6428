"""Which runs a log has shown so far, as far as a backtest must know them: whom a command stops."""

from collections.abc import Iterator, Mapping

from schemas.control import Command
from schemas.policy import CALL_DIMENSIONS
from schemas.usage import ATTRIBUTION, UNATTRIBUTED, RunStarted, UsageMessage

TAGS = "tags."
Attributes = Mapping[str, str]
NO_ATTRIBUTES: Attributes = {}


class PastRun:
    """A run: its place among others, whose it is, and what became of it."""

    __slots__ = ("attributes", "has_lost_calls", "is_live", "killed_by", "root_run_id", "run_id", "session_id")

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.session_id: str | None = None
        self.root_run_id = run_id
        self.attributes: Attributes = NO_ATTRIBUTES
        self.is_live = False
        self.killed_by: set[str] | None = None
        """Ids of the kills that were for it."""
        self.has_lost_calls = False
        """Whether it made calls in the log that it would not have made."""

    @property
    def workflow(self) -> str:
        """Whose spend it is."""
        return self.attributes.get("workflow", UNATTRIBUTED)

    def kill(self, command_id: str) -> None:
        """Note that this kill was for it."""
        if self.killed_by is None:
            self.killed_by = set()
        self.killed_by.add(command_id)

    def learn(self, message: UsageMessage, parent: "PastRun | None") -> Attributes:
        """Take over what the message says of its run. Returns what is new of whose it is.

        A run's own introduction goes before what is said later.
        """
        if message.session_id is not None and self.session_id is None:
            self.session_id = message.session_id
        if message.root_run_id is not None:
            self.root_run_id = message.root_run_id
        elif message.parent_run_id is not None and self.root_run_id == self.run_id:
            self.root_run_id = message.parent_run_id if parent is None else parent.root_run_id
        said = {name: value for name in ATTRIBUTION if (value := getattr(message, name)) is not None}
        said |= {TAGS + name: value for name, value in (message.tags or {}).items()}
        if isinstance(message, RunStarted):
            return {name: value for name, value in said.items() if self.attributes.get(name) != value}
        return {name: value for name, value in said.items() if name not in self.attributes}


class PastRuns:
    """The runs of all tenants."""

    def __init__(self) -> None:
        self._tenants: dict[str, dict[str, PastRun]] = {}
        self._shared: dict[tuple[tuple[str, str], ...], Attributes] = {}
        """Most runs are somebody's who has others: one mapping serves them all."""

    def tenants(self) -> list[str]:
        """Everybody seen so far, in a fixed order."""
        return sorted(self._tenants)

    def of(self, message: UsageMessage) -> PastRun:
        """The message's run, with what the message says of it."""
        runs = self._tenants.setdefault(message.tenant_id, {})
        run = runs.get(message.run_id)
        if run is None:
            run = runs[message.run_id] = PastRun(message.run_id)
        if news := run.learn(message, runs.get(message.parent_run_id or "")):
            attributes = {**run.attributes, **news}
            run.attributes = self._shared.setdefault(tuple(sorted(attributes.items())), attributes)
        return run

    def meant_by(self, command: Command) -> Iterator[PastRun]:
        """The runs seen so far that a command is for, in the order in which they came."""
        runs = self._tenants.get(command.tenant_id, {})
        if command.target.type == "run":
            if (one := runs.get(command.target.id)) is not None:
                yield one
            return
        yield from (run for run in runs.values() if means(command, run, None))


def means(command: Command, run: PastRun, message: UsageMessage | None) -> bool:
    """Whether a command is for this run, at this message of the run where it depends on that."""
    target = command.target
    match target.type:
        case "run":
            return target.id == run.run_id
        case "session":
            return target.id == run.session_id
        case "run_tree":
            return target.id == run.root_run_id
        case "workflow":
            return target.id == _value("workflow", command.tenant_id, run.attributes, message)
        case "tenant":
            return True
        case "scope":
            scope = command.scope or {}
            tenant_id = command.tenant_id if message is None else message.tenant_id
            return all(
                _value(name, tenant_id, run.attributes, message) in values
                for name, values in scope.items()
                if message is not None or name not in CALL_DIMENSIONS
            )


def _value(name: str, tenant_id: str, attributes: Attributes, message: UsageMessage | None) -> str:
    """A dimension's value: the message's own before its run's."""
    if name == "tenant_id":
        return tenant_id
    if name.startswith(TAGS):
        own = (message.tags or {}).get(name.removeprefix(TAGS)) if message is not None else None
    else:
        own = getattr(message, name, None)
    return own or attributes.get(name) or UNATTRIBUTED
