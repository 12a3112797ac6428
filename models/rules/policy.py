"""A policy at work: the file validated whole, its rules made detectors, and the scopes that they need."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date, time
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from pydantic import ValidationError

from models.calendar import PERIODS, Calendar
from models.detectors import REGISTRY
from models.detectors.base import (
    CommandDetector,
    ContextDetector,
    DataQualityDetector,
    Detector,
    EscalationDetector,
    ResultDetector,
    ScopeDetector,
    SequenceDetector,
    UnitDetector,
    WorkflowDetector,
)
from models.identity import derived_id
from models.prices.names import plain_names, plain_pattern
from models.state.data_quality import KINDS
from models.state.spend.scopes import Meter
from schemas.errors import PolicyError
from schemas.policy import GivenAttribution, Matcher, PolicyHeader
from schemas.routing import TABLES as ROUTING_TABLES
from schemas.routing import Routing, parse_routing
from schemas.usage import UNATTRIBUTED

MOST_POLICY_BYTES = 512 * 1024
"""Of a policy as JSON: it is a record of policy.v1, a row of every partition's state, and in part a command."""


class Policy:
    """The rules in force. Immutable; another policy is another object."""

    def __init__(
        self, header: PolicyHeader, rules: Iterable[Detector[Any]], source: Mapping[str, Any], routing: Routing
    ) -> None:
        self.header = header
        self.routing = routing
        """Who is told; no part of any decision here."""
        self.version = header.version
        self.source = source
        """What was written, as JSON values: what policy.v1 carries."""
        self.rules = {rule.rule: rule for rule in rules}
        self.calendar = Calendar(header.timezone)
        self.unit_rules = _with_match(rule for rule in self.rules.values() if isinstance(rule, UnitDetector))
        """Rules about runs, sessions and run trees, each with its match."""
        self.sequence_rules = _with_match(rule for rule in self.rules.values() if isinstance(rule, SequenceDetector))
        self.context_rules = _with_match(rule for rule in self.rules.values() if isinstance(rule, ContextDetector))
        self.workflow_rules = _with_match(rule for rule in self.rules.values() if isinstance(rule, WorkflowDetector))
        """Rules about the finished runs of workflows, each with its match."""
        self.result_rules = _with_match(rule for rule in self.rules.values() if isinstance(rule, ResultDetector))
        self.result_rules_of: dict[str, tuple[ResultDetector[Any], ...]] = {
            book_id: tuple(rule for rule, _ in self.result_rules if rule.book_id == book_id)
            for book_id in {rule.book_id for rule, _ in self.result_rules}
        }
        """Id of a kind of book -> the rules about what finished runs have come to that look at such books."""
        self.escalation_rules = _with_match(
            rule for rule in self.rules.values() if isinstance(rule, EscalationDetector)
        )
        self.command_rules = [rule for rule in self.rules.values() if isinstance(rule, CommandDetector)]
        scope_rules = [rule for rule in self.rules.values() if isinstance(rule, ScopeDetector)]
        within = [rule for rule in scope_rules if "tenant_id" in rule.group_by]
        across = [rule for rule in scope_rules if "tenant_id" not in rule.group_by]
        watching, meters = _meters(within, self.calendar, is_across=False)
        watching_across, meters_across = _meters(across, self.calendar, is_across=True)
        self.scope_rules, self.meters = watching | watching_across, meters | meters_across
        """Id of a meter -> the rules that watch its scopes; and the meters."""
        self.tenant_meters = tuple(meters.values())
        """Those that cut each tenant's spend."""
        self.across_meters = tuple(meters_across.values())
        """Those that cut the spend of all tenants together."""
        quality_rules = [rule for rule in self.rules.values() if isinstance(rule, DataQualityDetector)]
        self.quality_rules = {kind: [rule for rule in quality_rules if kind in rule.kinds] for kind in KINDS}
        """Kind of wrong data -> the rules about it."""
        self.route_dimensions = _route_dimensions(self.rules.values(), self.meters.values(), header.attribution)
        """What rules, scopes and totals tell apart: messages equal in these share a route."""
        self._given = [(one.given, canonical_match(one.match)) for one in header.attribution]
        self.by_call = any(_uses_call(meter) for meter in self.meters.values())
        """Whether a scope depends on a call's model, provider or route."""
        self.tracks = frozenset(rule.per for rule, _ in self.unit_rules)
        """Kinds of unit that some rule watches."""
        self.tracks_groups = bool(self.tracks - {"run"})
        """Whether some rule watches sessions or run trees."""
        self.boundaries_ms = sorted({moment for rule in self.rules.values() for moment in rule.boundaries_ms()})
        """Moments at which a limit changes by itself."""
        settings = {rule.rule: f"{rule.name} {rule.settings.model_dump_json()}" for rule in self.rules.values()}
        self.stamp = int(derived_id(header.model_dump_json(), *settings.values())[:8], 16) or 1
        """A number that is another one where any setting is."""
        self.unit_stamp = derived_id(*(settings[rule.rule] for rule, _ in self.unit_rules), *header.premium_models)
        """The same of what rules about runs, sessions and run trees say: equal for policies that judge them alike."""

    @property
    def gives(self) -> bool:
        """Whether `complete` has anything to add."""
        return bool(self._given)

    def complete(self, dimensions: dict[str, str]) -> None:
        """Add whose spend it is, where the dimensions do not say so and an `[[attribution]]` does; and rename what an
        `[[attribution]]` matches and says anew.
        """
        settled = set[str]()
        for given, match in self._given:
            asked = {name for name, _ in match}
            wanted = [
                name
                for name in given
                if name not in settled and (name in asked or dimensions.get(name, UNATTRIBUTED) == UNATTRIBUTED)
            ]
            if wanted and all(_has_pattern(dimensions.get(name), patterns) for name, patterns in match):
                dimensions |= {name: given[name] for name in wanted}
                settled.update(wanted)

    def is_premium(self, model: str) -> bool:
        """Whether the policy counts `model` among the expensive ones, under whichever provider and route it came."""
        names = plain_names(model)
        return any(
            fnmatchcase(model, pattern) or any(fnmatchcase(name, plain_pattern(pattern)) for name in names)
            for pattern in self.header.premium_models
        )

    def finishes(self, tool: str) -> bool:
        """Whether some rule takes a call of the tool for the end of its agent's work."""
        return any(rule.finishes(tool) for rule, _ in self.sequence_rules)

    def writes(self, tool: str) -> bool:
        """Whether a call of the tool changes something, though it does not say so."""
        return any(fnmatchcase(tool.lower(), pattern.lower()) for pattern in self.header.writing_tools)

    def is_failure(self, error_type: str) -> bool:
        """Whether a tool call with status `error` and that type has failed."""
        return not any(fnmatchcase(error_type.lower(), pattern.lower()) for pattern in self.header.no_failures)

    def to_json(self) -> bytes:
        """The policy as policy.v1 carries it."""
        return json.dumps(self.source, sort_keys=True, separators=(",", ":")).encode()


def default_policy() -> Policy:
    """What is in force where no policy was given."""
    return read_policy({})


def read_policy_toml(text: str) -> Policy:
    """Read a policy file. Raises `PolicyError` with every fault."""
    try:
        raw = tomllib.loads(text, parse_float=Decimal)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PolicyError([f"not TOML: {error}"]) from None
    return read_policy(raw)


def read_policy_json(data: bytes) -> Policy:
    """Read a policy.v1 value. Raises `PolicyError` with every fault."""
    try:
        raw = json.loads(data, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise PolicyError([f"not JSON: {error}"]) from None
    if not isinstance(raw, dict):
        raise PolicyError(["a policy is a JSON object"])
    return read_policy(raw)


def read_policy(raw: Mapping[str, Any]) -> Policy:
    """Make a policy of its tables. Raises `PolicyError` with every fault, each with the name of its place."""
    faults: list[str] = []
    above = {name: value for name, value in raw.items() if name not in REGISTRY and name not in ROUTING_TABLES}
    try:
        header = PolicyHeader.model_validate(above)
    except ValidationError as error:
        faults += _faults("", error)
        header = PolicyHeader()
    try:
        Calendar(header.timezone)  # the machine may know zones that the shipped rules do not have
    except ValueError as error:
        faults.append(f"timezone: {error}; use a name such as Europe/Berlin")
    routing = Routing()
    try:
        routing = parse_routing(raw)
    except PolicyError as error:
        faults += error.faults
    rules: list[Detector[Any]] = []
    for table, detector in REGISTRY.items():
        rules += _read_table(table, detector, raw.get(table, []), header, faults)
    names = [rule.rule for rule in rules]
    faults += [f"{name!r} names two rules; alerts could not tell them apart" for name in _twice(names)]
    if faults:
        raise PolicyError(faults)
    defaults = _default_rules(rules, header)
    source = _as_json(raw)
    if raw and "version" not in raw:
        version = f"unversioned-{derived_id(json.dumps(source, sort_keys=True))[:8]}"
        header = header.model_copy(update={"version": version})
    policy = Policy(header, [*rules, *defaults], source, routing)
    if (size := len(policy.to_json())) > MOST_POLICY_BYTES:
        raise PolicyError([f"it has {size:,} bytes as JSON; at most {MOST_POLICY_BYTES:,} are taken: shorten a list"])
    return policy


def _default_rules(given: list[Detector[Any]], header: PolicyHeader) -> list[Detector[Any]]:
    """Defaults of every detector for an empty file, else of those only that guard our own promises, or that the header
    asks for.
    """
    with_all = header.include_defaults or not given
    present = {type(rule) for rule in given}
    names = {rule.rule for rule in given}
    return [
        detector.of(detector.settings_class.model_validate(settings), header)
        for detector in dict.fromkeys(REGISTRY.values())
        if detector not in present and (with_all or detector.always_on or detector.is_asked_for(header))
        for settings in detector.defaults
        if settings["name"] not in names
    ]


def _read_table(
    table: str, detector: type[Detector[Any]], rows: Any, header: PolicyHeader, faults: list[str]
) -> list[Detector[Any]]:
    rules: list[Detector[Any]] = []
    for index, row in enumerate(rows if isinstance(rows, list) else [rows]):
        if not isinstance(row, Mapping):
            faults.append(f"{table}[{index}]: must be a table, written [[{table}]]")
            continue
        try:
            rules.append(detector.of(detector.settings_class.model_validate(row), header))
        except ValidationError as error:
            name = row.get("name")
            faults += _faults(f"{table}[{index}]" + (f' "{name}"' if name else ""), error)
    return rules


def _faults(place: str, error: ValidationError) -> list[str]:
    lines = []
    for fault in error.errors():
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = "there is no such setting"
        lines.append(f"{place}{path}: {message}".lstrip("."))
    return lines


def _twice(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


def _as_json(value: Any) -> Any:
    match value:
        case Mapping():
            return {key: _as_json(item) for key, item in value.items()}
        case list() | tuple():
            return [_as_json(item) for item in value]
        case Decimal():
            return str(value)
        case date() | time():  # a datetime is a date
            return value.isoformat()
        case _:
            return value


def _route_dimensions(
    rules: Iterable[Detector[Any]], meters: Iterable[Meter], given: Iterable[GivenAttribution]
) -> tuple[str, ...]:
    names = {"workflow", "owner"}
    for one in given:
        names.update(one.match)
    for rule in rules:
        names.update(rule.settings.match)
    for meter in meters:
        names.update(meter.group_by)
    return tuple(sorted(names))


def _uses_call(meter: Meter) -> bool:
    names = (*meter.group_by, *(name for name, _ in meter.match))
    return any(name in ("model", "provider", "route") for name in names)


Match = tuple[tuple[str, tuple[str, ...]], ...]


def canonical_match(match: Matcher) -> Match:
    """A matcher in one fixed form: sorted, every value a tuple."""
    return tuple(
        (name, tuple(sorted([value] if isinstance(value, str) else value))) for name, value in sorted(match.items())
    )


def _has_pattern(value: str | None, patterns: tuple[str, ...]) -> bool:
    return value is not None and any(fnmatchcase(value, pattern) for pattern in patterns)


def matches(match: Match, dimensions: Mapping[str, str]) -> bool:
    """Whether every dimension the matcher names has one of its values."""
    return all(dimensions.get(name) in values for name, values in match)


D = TypeVar("D", bound=Detector[Any])


def _with_match(rules: Iterable[D]) -> list[tuple[D, Match]]:
    return [(rule, canonical_match(rule.settings.match)) for rule in rules]


def _meters(
    rules: list[ScopeDetector[Any]], calendar: Calendar, *, is_across: bool
) -> tuple[dict[str, tuple[ScopeDetector[Any], ...]], dict[str, Meter]]:
    """One meter per distinct (group_by, match), with its parents: rules that watch the same scopes share them."""
    wanted: dict[tuple[tuple[str, ...], Match], list[ScopeDetector[Any]]] = {}
    for rule in rules:
        match = canonical_match(rule.settings.match)
        wanted.setdefault((rule.group_by, match), []).append(rule)
        if rule.asks_parent and len(rule.group_by) > 1:
            wanted.setdefault((rule.group_by[:-1], match), [])
    meters: dict[tuple[tuple[str, ...], Match], Meter] = {}
    watching: dict[str, tuple[ScopeDetector[Any], ...]] = {}
    for group_by, match in sorted(wanted, key=lambda cut: (len(cut[0]), cut)):
        of = wanted[group_by, match]
        asking = [
            rule
            for (names, cut), others in wanted.items()
            if cut == match and names[:-1] == group_by
            for rule in others
            if rule.asks_parent
        ]
        parent = meters.get((group_by[:-1], match))
        meter = _meter(group_by, match, of, calendar, asking=asking, parent=parent, is_across=is_across)
        meters[group_by, match] = meter
        watching[meter.meter_id] = tuple(of)
    return watching, {meter.meter_id: meter for meter in meters.values()}


def _meter(
    group_by: tuple[str, ...], match: Match, rules: list[ScopeDetector[Any]], calendar: Calendar, *,
    asking: list[ScopeDetector[Any]], parent: Meter | None, is_across: bool,
) -> Meter:  # fmt: skip
    """`asking` are the rules about scopes within its own that compare with these."""
    whose = ("across",) if is_across else ()
    periods = {"hour", *(period for rule in (*rules, *asking) for period in rule.periods)}
    keeps_days = any(rule.keeps_days for rule in (*rules, *asking))
    return Meter(
        meter_id=derived_id(*whose, *group_by, "|", *(f"{name}={','.join(values)}" for name, values in match))[:12],
        group_by=group_by,
        match=match,
        periods=tuple(period for period in PERIODS if period in periods),
        keeps_history=keeps_days or bool(asking) or any(rule.keeps_history for rule in rules),
        splits_owners="owner" not in group_by and (is_across or any(rule.splits_owners for rule in rules)),
        rules=tuple(rule.rule for rule in rules),
        calendar=calendar,
        parent=parent,
        is_across=is_across,
        keeps_days=keeps_days,
    )
