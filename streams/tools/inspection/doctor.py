"""`doctor`: everything that can be known from here about an installation, a line each, and what to do."""

from collections.abc import Iterator
from typing import Final

from confluent_kafka import KafkaError

from schemas.errors import SpendfuseError
from streams.clock import wall_ms
from streams.kafka.admin import BrokerRefusedError, BrokerUnreachableError, UnsupportedByBrokerError, topics_on_broker
from streams.kafka.client import NOT_ALLOWED, Admin
from streams.settings import Settings, unknown_variables
from streams.tools.inspection import cluster_checks, service_checks
from streams.tools.inspection.finding import Check, Finding, Surroundings
from streams.tools.inspection.terminal import entry

CHECKS: Final[dict[str, Check]] = {
    "topics": cluster_checks.topics,
    "running": cluster_checks.groups,
    "owners": cluster_checks.owners,
    "lag": cluster_checks.lag,
    "state": service_checks.state,
    "policy": service_checks.policy,
    "keys": service_checks.keys,
    "guards": service_checks.guards,
    "clocks": cluster_checks.clocks,
    "hosts": service_checks.hosts,
    "health": service_checks.health,
}
INDENT: Final = 18
MOST_LINES: Final = 4
GRANT: Final = "python -m infra.kafka.access reader --principal User:NAME prints the commands that grant it"

NOT_YET: Final = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
    }
)
AGAIN: Final = "look again in a moment: a new cluster takes a while to know its groups"


def run_doctor(settings: Settings) -> int:
    """Say how everything is; 1 if something is wrong, else 0. Raises `BrokerUnreachableError`."""
    admin = Admin(settings)
    found = topics_on_broker(admin)
    _print("broker", Finding("ok", f"answers at {settings.kafka_bootstrap}"))
    around = Surroundings(settings, admin, found, wall_ms())
    wrong = 0
    for about, finding in findings(around):
        _print(about, finding)
        wrong += finding.health == "wrong"
    return 1 if wrong else 0


def findings(around: Surroundings) -> Iterator[tuple[str, Finding]]:
    """Each check's findings. What it may not or cannot look at is a finding as well."""
    if unknown := unknown_variables():
        text = f"these variables are no settings: {', '.join(unknown)}"
        yield "settings", Finding("warning", text, "look at their spelling: streams/settings.py")
    for about, check in CHECKS.items():
        try:
            for finding in check(around):
                yield about, finding
            if around.missing:
                return  # all else lies on them
        except UnsupportedByBrokerError:
            yield about, Finding("warning", "not known: this broker cannot say")
        except BrokerUnreachableError as error:
            topics_on_broker(around.admin)  # is it there at all?
            yield about, Finding("warning", f"not known: {error}")
        except BrokerRefusedError as error:
            yield about, Finding("warning", f"not known: {error}", advice(error.code))
        except SpendfuseError as error:
            yield about, Finding("warning", f"not known: {error}")


def advice(code: int) -> str:
    """What to do about a question that the broker refused with this code."""
    if code in NOT_ALLOWED:
        return GRANT
    return AGAIN if code in NOT_YET else ""


def lines(about: str, finding: Finding) -> list[str]:
    """A finding for a terminal."""
    label = f"{finding.health:<9}{about}"
    to_do = entry("", f"→ {finding.advice}", MOST_LINES, indent=INDENT) if finding.advice else []
    return [*entry(label, finding.text, MOST_LINES, indent=INDENT), *to_do]


def _print(about: str, finding: Finding) -> None:
    print("\n".join(lines(about, finding)), flush=True)
