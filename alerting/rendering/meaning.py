"""What an operator's order means, in a sentence for people. Its names are foreign text, made harmless."""

from collections.abc import Mapping

from alerting.rendering.figures import clock
from alerting.rendering.foreign import clean, name
from schemas.control import Target
from schemas.money import format_usd
from schemas.operator import Acknowledge, Feedback, Kill, LimitException, OperatorMessage, Resume, Silence, Verdict

_VERDICTS: dict[Verdict, str] = {
    "useful": "was worth a message: the weekly review counts it",
    "noise": "is noise: nobody is reminded of it, and the weekly review counts it",
    "planned": "was planned: nobody is reminded of it, and its hour is no part of what is normal",
}
_TARGETS = {
    "run": "Run", "session": "Session", "run_tree": "Run tree", "workflow": "Workflow", "tenant": "Tenant",
    "scope": "Scope",
}  # fmt: skip


def meaning(order: OperatorMessage) -> str:
    """What an order changes, and until when."""
    tenant = name(order.tenant_id)
    match order:
        case Silence(match=match, until_ms=until_ms):
            return f"Nobody is notified of {_matched(tenant, match)} until {clock(until_ms)}."
        case Acknowledge(incident_id=incident_id):
            return f"Incident {name(incident_id)} of {tenant} is in hand: nobody is reminded of it any more."
        case Feedback(incident_id=incident_id, verdict=verdict):
            return f"Incident {name(incident_id)} of {tenant} {_VERDICTS[verdict]}."
        case LimitException(rule=rule, scope=scope, limit_nanousd=limit_nanousd, until_ms=until_ms):
            limit = format_usd(limit_nanousd)
            return f"The budget {name(rule)} of {name(scope)} is {limit} until {clock(until_ms)}."
        case Kill(target=target, until_ms=until_ms):
            end = "until somebody resumes it" if until_ms is None else f"until {clock(until_ms)}"
            return f"{subject(target, tenant)} must stop, and stays stopped {end}."
        case Resume(target=target):
            return f"{subject(target, tenant)} may go on, and spend again{terms(order)}."


def acknowledgement(order: OperatorMessage) -> str:
    """Who acknowledged an incident, for those who were notified of it: `Acknowledged by ana: rolling back`."""
    match order:
        case Feedback(verdict=verdict):
            return f"Marked as {verdict} by {author(order)}"
        case Silence(until_ms=until_ms):
            return f"Snoozed until {clock(until_ms)} by {author(order)}"
        case _:
            return f"Acknowledged by {author(order)}"


def author(order: OperatorMessage) -> str:
    """Who gave an order, and why."""
    return f"{clean(order.who)}: {clean(order.why, 240)}"


def terms(order: Resume) -> str:
    """On what terms a target may go on, as the end of a sentence."""
    limit = "" if order.limit_nanousd is None else f", up to {format_usd(order.limit_nanousd)} in all"
    end = "" if order.until_ms is None else f", until {clock(order.until_ms)}"
    return f"{limit}{end}" or ", with one more allowance of the limit that stopped it"


def subject(target: Target, tenant: str) -> str:
    """What an order is about: `Run r-7 of acme`."""
    of_tenant = "" if target.type == "tenant" else f" of {tenant}"
    return f"{_TARGETS[target.type]} {name(target.id)}{of_tenant}"


def _matched(tenant: str, match: Mapping[str, str]) -> str:
    if match.keys() == {"incident_id"}:
        return f"incident {name(match['incident_id'])} of {tenant}"
    if not match:
        return f"any alert of {tenant}"
    labels = " and ".join(f"{name(label, 60)} {name(value)}" for label, value in sorted(match.items()))
    return f"alerts of {tenant} whose {labels}"
