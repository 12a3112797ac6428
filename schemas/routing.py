"""Who is notified, as the policy file says it: `receivers`, `route`, `owners`, `inhibit`, `quiet` and `review`."""

import re
from collections.abc import Iterator, Mapping
from datetime import time
from typing import Annotated, Any, Final, Literal, get_args
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from schemas.alert import AlertState
from schemas.errors import PolicyError
from schemas.policy import CALL_DIMENSIONS, Mode, RuleName, Settings, Severity, epoch_ms
from schemas.usage import ATTRIBUTION

ReceiverType = Literal["slack", "pagerduty", "webhook", "console"]
"""Each is a folder of `alerting/receivers`, and an entry of `NEEDS`."""
NEEDS: dict[ReceiverType, tuple[str, ...]] = {
    "slack": ("channel",), "pagerduty": ("key_env",), "webhook": ("url", "url_env"), "console": (),
}  # fmt: skip
"""Settings of a receiver of which it must have one at least."""
PAGERS: frozenset[ReceiverType] = frozenset({"pagerduty"})
"""Types whose messages wake somebody: each stands for one incident, because it is acknowledged by itself."""
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TABLES = ("receivers", "route", "owners", "inhibit", "quiet", "review")
"""Tables of the policy file that belong to routing."""
CONSOLE = "console"
"""The receiver of what no route takes. It is there without being written down."""

_OF_ALERTS = ("severity", "rule", "detector", "tenant_id", "run_id", "incident_id", "state", "mode")
_VALUES: Final[dict[str, tuple[str, ...]]] = {
    "severity": get_args(Severity),
    "state": get_args(AlertState),
    "mode": get_args(Mode),
}
"""Labels whose values are a closed list: a misspelt one would match nothing, and nobody would be told."""


def _label(name: str) -> str:
    known = (*_OF_ALERTS, *ATTRIBUTION, *CALL_DIMENSIONS)
    if name in known or (name.startswith("tags.") and len(name) > len("tags.")):
        return name
    raise ValueError(f"there is no label {name!r}; use one of {', '.join(known)} or tags.<name>")


def _equal(name: str) -> str:
    return name if name in ("scope", "parent", "period") else _label(name)


def _listed(names: Any) -> Any:
    return [names] if isinstance(names, str) else names


Label = Annotated[str, AfterValidator(_label)]


def _known_values(matcher: dict[str, str | list[str]]) -> dict[str, str | list[str]]:
    for name, known in _VALUES.items():
        for value in _listed(matcher.get(name, [])):
            if value not in known:
                raise ValueError(f"{name} is never {value!r}; it is one of {', '.join(known)}")
    return matcher


LabelMatcher = Annotated[dict[Label, str | list[str]], AfterValidator(_known_values)]


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"there is no time zone {name!r}; use a name such as Europe/Berlin") from None
    return name


def _time_of_day(text: str) -> str:
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text):
        raise ValueError(f'{text!r} is no time of day; write it as "08:30"')
    return text


Zone = Annotated[str, AfterValidator(_zone)]
TimeOfDay = Annotated[str, AfterValidator(_time_of_day)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


class Receiver(Settings):
    """A place where people read. Secrets are named by environment variable and never written down."""

    type: ReceiverType
    channel: str | None = None
    """Slack: the channel's id or name."""
    url: str | None = None
    """Webhook: where to post. `{partition}` in it stands for that of a watchdog's sign of life."""
    url_env: str | None = None
    """Webhook: the environment variable with the address, where the address itself is a secret."""
    key_env: str | None = None
    """The environment variable with the token (Slack; SLACK_BOT_TOKEN if left out), the routing key (PagerDuty) or the
    secret that posts are signed with (webhook; unsigned if left out)."""
    fallback: str | None = None
    """Who is told instead while this receiver cannot be reached."""

    @model_validator(mode="after")
    def _complete(self) -> "Receiver":
        needs = NEEDS[self.type]
        if needs and all(getattr(self, name) is None for name in needs):
            raise ValueError(f"a {self.type} receiver needs `{needs[0]}`")
        return self

    @property
    def joins_incidents(self) -> bool:
        """Whether one message may be about several incidents. A page that is acknowledged stands for one."""
        return self.type not in PAGERS


class Route(Settings):
    """A node of the tree. What it leaves out it has from its parent."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    match: LabelMatcher = {}
    """Label -> the value or values it must have; empty matches everything."""
    receivers: list[str] | None = None
    go_on: bool = Field(default=False, alias="continue")
    """Try the following siblings as well."""
    group_by: list[Label] | None = None
    """Alerts equal in these labels are told together."""
    group_wait_seconds: Seconds | None = None
    """How long to gather what is told together; unset, it follows from the severity. Never delays `critical`."""
    hold_seconds: Seconds | None = None
    """How long something must last before it is told. Never delays `critical`."""
    digest_at: list[TimeOfDay] | None = None
    """Times of day, such as "09:00": what pages nobody is told at the next of them, together. Empty: no digest."""
    digest_timezone: Zone | None = None
    """Whose times of day they are; unset, UTC."""
    renotify_every_minutes: Annotated[int, Field(ge=1, le=7 * 24 * 60)] | None = None
    """Reminders that come sooner after the last message are left out; unset, each reminder is sent."""
    routes: list["Route"] = []


Equal = Annotated[str, AfterValidator(_equal)]
OwnerPattern = Annotated[str, Field(min_length=1, max_length=256)]
ReceiverNames = Annotated[list[str], BeforeValidator(_listed), Field(min_length=1)]


class Inhibit(Settings):
    """While an incident that `source` matches is open and was sent to a receiver, what `target` matches is not.

    A source never inhibits what is more severe than itself, nor an alert that stops something.
    """

    source: LabelMatcher = {}
    target: LabelMatcher = {}
    equal: list[Equal] = ["scope", "period"]
    """What the two must have in common beside their tenant: `scope` (the same scope or run), `parent` (the target lies
    in the source's scope), `period` (the same window), `rule`, or any label."""


SAME_FACT = Inhibit(equal=["rule", "scope", "period"])
"""A higher level inhibits a lower one of the same rule, scope and period: in force unless the policy says otherwise."""


class OfficeHours(Settings):
    """When what wakes nobody is told. Outside of it that waits for the next opening."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    weekdays: Annotated[list[Weekday], Field(min_length=1)] = ["mon", "tue", "wed", "thu", "fri"]
    opens: time = Field(alias="from")
    closes: time = Field(alias="to")
    timezone: Zone = "UTC"

    @model_validator(mode="after")
    def _in_order(self) -> "OfficeHours":
        if self.opens >= self.closes:
            raise ValueError("`from` must be before `to`, both within one day")
        if self.opens.tzinfo or self.closes.tzinfo:
            raise ValueError("give the zone as `timezone`, not with the time")
        return self


class PlannedWindow(Settings):
    """Spend that is meant to happen: nobody need be told of it. Mutes people, never brakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    start: AwareDatetime = Field(alias="from")
    until: AwareDatetime
    match: LabelMatcher = {}
    why: Annotated[str, Field(min_length=1)]

    @property
    def start_ms(self) -> int:
        """The first instant it covers."""
        return epoch_ms(self.start)

    @property
    def until_ms(self) -> int:
        """The first instant it no longer covers."""
        return epoch_ms(self.until)


class Quiet(Settings):
    """When people are left alone."""

    office_hours: OfficeHours | None = None
    planned: list[PlannedWindow] = []


class WeeklyReview(Settings):
    """When the review of the week that is over is sent, and to whom. It wakes nobody: no PagerDuty."""

    receivers: Annotated[list[str], Field(min_length=1)]
    weekday: Weekday = "mon"
    at: TimeOfDay = "08:30"
    timezone: Zone | None = None
    """Of `at`; unset, the policy's. Where a week begins is always by the policy's."""

    @property
    def time_of_day(self) -> time:
        """`at`, as a time."""
        return time.fromisoformat(self.at)


class Routing(Settings):
    """Receivers, the tree and the owners that lead to them, and what is not sent. Left out: all goes to the console."""

    receivers: dict[RuleName, Receiver] = {}
    route: list[Route] = []
    owners: dict[OwnerPattern, ReceiverNames] = {}
    """Owner, or a pattern such as `*@pay.example`, -> receivers of its alerts, beside those that routes name. The name
    itself comes before patterns, the pattern with the most letters before others; `*` is for the rest."""
    inhibit: list[Inhibit] = [SAME_FACT]
    quiet: Quiet = Quiet()
    review: WeeklyReview | None = None
    """Unset, no weekly review is sent; the command line makes one at any time."""

    @property
    def all_receivers(self) -> dict[str, Receiver]:
        """Those written down and the console."""
        return {CONSOLE: Receiver(type="console"), **self.receivers}


def parse_routing(raw: Mapping[str, Any]) -> Routing:
    """Read the routing tables of a policy; other tables are left to others.

    Raises:
        PolicyError: with every fault, each with the name of its place.
    """
    tables = {name: raw[name] for name in TABLES if name in raw}
    faults = []
    try:
        routing = Routing.model_validate(tables)
    except ValidationError as error:
        faults = list(_faults(error))
    faults += _unknown_receivers(tables)
    if faults:
        raise PolicyError(faults)
    return routing


def _faults(error: ValidationError) -> Iterator[str]:
    for fault in error.errors():
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"])
        message = "there is no such setting" if fault["type"] == "extra_forbidden" else fault["msg"]
        yield f"{path.lstrip('.')}: {message.removeprefix('Value error, ')}"


def _unknown_receivers(tables: Mapping[str, Any]) -> list[str]:
    """Names that lead nowhere, found in what was written so that they are listed beside all other faults."""
    receivers = tables.get("receivers", {})
    if not isinstance(receivers, Mapping):
        return []
    known = {CONSOLE, *receivers}
    faults = []
    for name, receiver in receivers.items():
        fallback = receiver.get("fallback") if isinstance(receiver, Mapping) else None
        if fallback == name:
            faults.append(f"receivers.{name}.fallback: a receiver cannot stand in for itself")
        elif isinstance(fallback, str) and fallback not in known:
            faults.append(f"receivers.{name}.fallback: there is no receiver {fallback!r}")
    owners = tables.get("owners", {})
    for pattern, led in owners.items() if isinstance(owners, Mapping) else ():
        unknown = [name for name in _listed(led) if name not in known] if isinstance(led, str | list) else []
        faults += [f"owners.{pattern}: there is no receiver {name!r}" for name in unknown]
    for place, node in _nodes("route", tables.get("route", [])):
        named = node.get("receivers") or []
        unknown = [name for name in named if isinstance(name, str) and name not in known]
        faults += [f"{place}.receivers: there is no receiver {name!r}" for name in unknown]
    return [*faults, *_unfit_for_review(tables.get("review"), receivers)]


def _unfit_for_review(review: Any, receivers: Mapping[str, Any]) -> Iterator[str]:
    named = review.get("receivers") if isinstance(review, Mapping) else None
    for name in named if isinstance(named, list) else []:
        receiver = receivers.get(name) if isinstance(name, str) else None
        if isinstance(name, str) and receiver is None and name != CONSOLE:
            yield f"review.receivers: there is no receiver {name!r}"
        elif isinstance(receiver, Mapping) and receiver.get("type") in PAGERS:
            yield f"review.receivers: {name!r} is a {receiver['type']} receiver, and a review wakes nobody"


def _nodes(place: str, rows: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for index, row in enumerate(rows if isinstance(rows, list) else []):
        if isinstance(row, Mapping):
            yield f"{place}[{index}]", row
            yield from _nodes(f"{place}[{index}].routes", row.get("routes"))
