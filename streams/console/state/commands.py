"""The commands of one tenant, as control.v1 has them, and what became of each."""

from collections import OrderedDict
from typing import NamedTuple

from schemas.alert import Alert
from schemas.control import Command, Target
from schemas.run import RunRecord
from schemas.signing import control_key

MOST_STANDING = 20_000
MOST_GIVEN = 500


class Stopped(NamedTuple):
    """What became of a command, as far as anybody has said."""

    acted: str
    after_ms: int | None
    """From its cause, or else from the command, to the answer."""
    overshoot_nanousd: int | None


class Commands:
    """The last command to each target, and those given last."""

    def __init__(self) -> None:
        self.standing: OrderedDict[str, Command] = OrderedDict()
        self.given: OrderedDict[str, Command] = OrderedDict()
        """By id; resumes and nudges among them."""
        self._confirmed: OrderedDict[str, Stopped] = OrderedDict()
        """Command -> what alerts have said of its end."""

    def take(self, command: Command) -> None:
        """Go on with a command. One that is known is written again for those who have not heard it."""
        if command.action != "nudge":
            key = control_key(command.tenant_id, command.target.type, command.target.id)
            if _is_replayed(command, self.standing.get(key)):
                return
            self.standing[key] = command
            self.standing.move_to_end(key)
            if len(self.standing) > MOST_STANDING:
                self.standing.popitem(last=False)
        self.given.setdefault(command.command_id, command)
        if len(self.given) > MOST_GIVEN:
            self.given.popitem(last=False)

    def take_alert(self, alert: Alert) -> None:
        """An alert may say when a command was obeyed, and what was spent until then."""
        command_id, after_ms = alert.evidence.get("command_id"), alert.evidence.get("cause_to_stop_ms")
        if not isinstance(command_id, str) or not isinstance(after_ms, int):
            return
        overshoot = alert.evidence.get("overshoot_nanousd")
        self._confirmed[command_id] = Stopped("stopped", after_ms, overshoot if isinstance(overshoot, int) else None)
        if len(self._confirmed) > 2 * MOST_GIVEN:
            self._confirmed.popitem(last=False)

    def active(self, target: Target, tenant_id: str) -> Command | None:
        """The last command to a target, whether or not it holds."""
        return self.standing.get(control_key(tenant_id, target.type, target.id))

    def run_command(self, tenant_id: str, run_id: str) -> Command | None:
        """What stands on a run itself."""
        found = self.standing.get(control_key(tenant_id, "run", run_id))
        return None if found is None or found.action == "resume" else found

    def outcome(self, command: Command, run: RunRecord | None) -> Stopped | None:
        """What became of a command: what its incident says goes before what its run does."""
        if found := self._confirmed.get(command.command_id):
            return found
        order = None if run is None else run.order
        if run is None or order is None or order.command_id != command.command_id or order.acted is None:
            return None
        after_ms = None if order.acted_ms is None else max(0, order.acted_ms - order.issued_ms)
        return Stopped(order.acted, after_ms, max(0, run.cost_nanousd - order.spent_nanousd))


def _is_replayed(command: Command, standing: Command | None) -> bool:
    """Whether it is a copy of an old command, while a later one to the same target lasts: guards ignore it."""
    return standing is not None and command.seq < standing.seq and command.issued_ms < standing.expires_ms
