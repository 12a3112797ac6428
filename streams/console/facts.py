"""What is looked at before an order is given, from memory: see `streams.tools.orders.verb.Facts`."""

from models.rules.policy import Policy
from schemas.alert import Alert
from schemas.control import Command, Target, TargetType
from schemas.operator import Kill
from streams.console.state.book import Book, TenantBook
from streams.tools.order import holds, is_pending


class BookFacts:
    """Facts of the book. Hold its lock."""

    def __init__(self, book: Book, now_ms: int) -> None:
        self._book = book
        self._now_ms = now_ms

    def policy(self) -> Policy:
        """The policy in force."""
        return self._book.policy

    def active_command(self, tenant_id: str, target: Target) -> Command | None:
        """The last command to a target if it still holds."""
        command = self._tenant(tenant_id).commands.active(target, tenant_id)
        return command if command is not None and holds(command, self._now_ms) else None

    def commanded(self, tenant_id: str) -> list[Command]:
        """Every command that holds."""
        return [one for one in self._tenant(tenant_id).commands.standing.values() if holds(one, self._now_ms)]

    def pending_kills(self, tenant_id: str) -> list[Kill]:
        """Operators' kills that no worker has obeyed yet."""
        tenant = self._tenant(tenant_id)
        last = tenant.commands.active
        return [one for one in tenant.killed.values() if is_pending(one, last(one.target, tenant_id), self._now_ms)]

    def seen(self, tenant_id: str, kind: TargetType, typed: str) -> set[str]:
        """The ids of that kind that are known here and begin as was typed; the typed one alone if it is one of them."""
        found = self._known(self._tenant(tenant_id), kind)
        return {typed} if typed in found else {one for one in found if one.startswith(typed)}

    def incidents(self, tenant_id: str) -> dict[str, Alert]:
        """The tenant's incidents by id, each with its newest alert."""
        return self._tenant(tenant_id).incidents.newest()

    def _tenant(self, tenant_id: str) -> TenantBook:
        return self._book.known(tenant_id) or TenantBook(tenant_id)

    def _known(self, tenant: TenantBook, kind: TargetType) -> set[str]:
        runs = [*tenant.runs.live.values(), *tenant.runs.finished()]
        found = {one.target.id for one in tenant.commands.standing.values() if one.target.type == kind}
        match kind:
            case "run":
                alerts = tenant.incidents.newest().values()
                found |= {one.run_id for one in runs} | {one.run_id for one in alerts if one.run_id}
            case "run_tree":
                found |= {one.root_run_id or one.run_id for one in runs}
            case "session":
                found |= {one.session_id for one in runs if one.session_id}
            case "workflow":
                found |= {one.workflow for one in runs if one.workflow}
            case _:
                found.add(tenant.tenant_id)
        return found
