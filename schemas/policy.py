"""The policy: what is watched, how strictly, and what is done about it. Written as TOML, sent as JSON on policy.v1.

The rule tables are open: each detector brings its own settings class, derived from `RuleSettings`, so that a new
detector needs no edit here. `models.rules.policy` joins the two and validates a policy whole.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, ClassVar, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator

from schemas.duration import MINUTE_MS
from schemas.usage import ATTRIBUTION

Mode = Literal["shadow", "alert", "enforce"]
Severity = Literal["critical", "error", "warning", "info"]
Action = Literal["kill", "pause", "resume", "downgrade"]
Limit = Literal["alert", "pause", "kill", "downgrade"]
"""What a rule asks for when its limit is reached; `alert` is to tell and nothing more."""
Period = Literal["hour", "day", "week", "month"]

CALL_DIMENSIONS = ("model", "provider", "route")
"""Dimensions that belong to a single model call rather than to its run."""

MAX_LIMIT_USD = Decimal(10**9)


def _dimension(name: str) -> str:
    known = ("tenant_id", *ATTRIBUTION, *CALL_DIMENSIONS)
    if name in known or (name.startswith("tags.") and len(name) > len("tags.")):
        return name
    raise ValueError(f"there is no dimension {name!r}; use one of {', '.join(known)} or tags.<name>")


Dimension = Annotated[str, AfterValidator(_dimension)]
Matcher = dict[Dimension, str | list[str]]
Name = Annotated[str, Field(min_length=1, max_length=256)]
RuleName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$")]
Usd = Annotated[Decimal, Field(ge=0, le=MAX_LIMIT_USD, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]


def _each_once(group_by: list[str]) -> list[str]:
    if len(set(group_by)) != len(group_by):
        raise ValueError("a dimension is named twice")
    return group_by


def _within_tenant(group_by: list[str]) -> list[str]:
    if "tenant_id" not in group_by:
        raise ValueError(
            f'a scope lies within one tenant: write ["tenant_id", {", ".join(repr(name) for name in group_by)}]'
        )
    return _each_once(group_by)


GroupBy = Annotated[list[Dimension], AfterValidator(_within_tenant)]
"""What tells a tenant's scopes apart."""
GroupByAcross = Annotated[list[Dimension], AfterValidator(_each_once)]
"""Likewise; without `tenant_id` a scope holds what all tenants spend, and `[]` is one scope for everything. For rules
that need to know what was spent and when, and nothing else.
"""


def _rising(thresholds: list[float]) -> list[float]:
    if sorted(set(thresholds)) != thresholds:
        raise ValueError("thresholds must rise, each named once, as in [0.5, 0.8, 1.0]")
    return thresholds


Thresholds = Annotated[list[Share], Field(min_length=1, max_length=16), AfterValidator(_rising)]


class Settings(BaseModel):
    """A table of the policy file. Unknown names are refused, because a misspelt limit is no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Steps = Mapping[str, tuple[float, ...]]


class RuleSettings(Settings):
    """What every rule has. A detector's settings class derives from it and adds its own."""

    steps: ClassVar[Steps] = {}
    """Its main settings -> by how many times their value `tune` tries them, one at a time."""
    name: RuleName
    match: Matcher = {}
    """Dimension -> the value or values it must have; empty matches everything."""
    mode: Mode = "alert"
    severity: Severity = "critical"
    """Of the highest level; lower levels are `warning` and `info`."""


class RunRuleSettings(RuleSettings):
    """A rule about a single run, which in `enforce` can stop that run."""

    action: Literal["kill", "pause", "alert"] = "kill"
    """What `enforce` does once the finding is sure."""


class BudgetException(Settings):
    """A budget raised for a reason until a date: written down, and gone by itself."""

    scope: str
    limit_usd: Usd
    until: AwareDatetime
    why: str
    who: str

    @property
    def until_ms(self) -> int:
        """The first instant at which the exception no longer holds."""
        return epoch_ms(self.until)


class BlastRadius(Settings):
    """Holds kills and pages instead once too many runs of one tenant would die: a bad price table looks like that."""

    max_kills_per_minute: Annotated[int, Field(ge=1)] = 60
    """Beyond 20,000 none is given in any case."""
    max_share_of_live_runs: Annotated[float, Field(gt=0, le=1)] = 0.5
    always_allowed: Annotated[int, Field(ge=0)] = 10
    """Kills within a minute that neither limit holds back."""


Minutes = Annotated[list[Annotated[int, Field(ge=1, le=7 * 24 * 60)]], Field(max_length=16)]


class Remind(Settings):
    """After how many minutes an open incident is published again, by severity; the last number repeats for good.

    An empty list is never. What is over, acknowledged or in shadow mode is not reminded of.
    """

    critical: Minutes = [60, 60, 60, 360]
    error: Minutes = [60, 60, 60, 360]
    warning: Minutes = [24 * 60]
    info: Minutes = []

    def after_ms(self, severity: Severity, reminders: int) -> int:
        """How long after the last message the next reminder is due, 0 for never; `reminders` were sent already."""
        minutes: list[int] = getattr(self, severity)
        return minutes[min(reminders, len(minutes) - 1)] * MINUTE_MS if minutes else 0


UnitPrice = Annotated[Decimal, Field(ge=0, le=10**6, allow_inf_nan=False)]


class Price(Settings):
    """What a model costs, written as `[[price]]`: comes before every built-in table, from its date on.

    In USD per million tokens, web searches and calls per thousand. A kind left out costs what its tokens would cost
    otherwise: input for cached and audio input, output for reasoning, audio and image output.
    """

    model: Annotated[str, Field(min_length=1, max_length=256)]
    """A pattern (`acme-70b*`) over the model's name as reported, and without provider, route, version and date."""
    provider: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Only for calls that name this provider, in whatever spelling; unset, for any."""
    from_: date | None = Field(default=None, alias="from")
    """The first day (UTC) on which it holds; of several the latest counts. Unset, it always held."""
    input: UnitPrice | None = None
    output: UnitPrice | None = None
    cache_read: UnitPrice | None = None
    cache_write: UnitPrice | None = None
    cache_write_1h: UnitPrice | None = None
    reasoning: UnitPrice | None = None
    input_audio: UnitPrice | None = None
    output_audio: UnitPrice | None = None
    output_image: UnitPrice | None = None
    web_searches_per_thousand: UnitPrice | None = None
    calls_per_thousand: UnitPrice | None = None

    @model_validator(mode="after")
    def _prices_something(self) -> Self:
        if self.input is None and self.output is None and self.calls_per_thousand is None:
            raise ValueError("it names no price: give input and output in USD per million tokens")
        return self

    @property
    def from_ms(self) -> int:
        """The first instant at which it holds, in epoch milliseconds."""
        return _day_ms(self.from_)


class Contract(Settings):
    """What a tenant pays, written as `[[contract]]`: the rule `margin` holds what the tenant costs against it."""

    tenant: Annotated[str, Field(min_length=1, max_length=128)]
    value_usd: Annotated[Usd, Field(ge=Decimal("0.01"))]
    """For one `period`. A quarter's and a year's are watched by the month, a third and a twelfth of it."""
    period: Literal["day", "week", "month", "quarter", "year"] = "month"
    starts: date | None = None
    """The first day (UTC) on which it holds; of several the latest counts. Unset, it always held."""
    max_share: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] | None = None
    """How much of it the tenant may cost, where that is another share than the rule's."""

    @property
    def starts_ms(self) -> int:
        """The first instant at which it holds, in epoch milliseconds."""
        return _day_ms(self.starts)

    @property
    def watched(self) -> Period:
        """The calendar period in which the tenant's spend is held against it."""
        return self.period if self.period in ("day", "week", "month") else "month"

    @property
    def watched_usd(self) -> Decimal:
        """Its value for that period."""
        return self.value_usd / {"quarter": 3, "year": 12}.get(self.period, 1)


GIVEN: Final = ("owner", "project", "environment", "workflow")
"""What an `[[attribution]]` may say of spend that does not say it of itself."""


class GivenAttribution(Settings):
    """Whose spend it is where it does not say so, written as `[[attribution]]`: what comes with an API key, say. A
    field that `match` asks for is renamed.
    """

    match: Annotated[Matcher, Field(min_length=1)]
    """Dimension -> the pattern or patterns (`search-*`) of which it must have one."""
    owner: Name | None = None
    project: Name | None = None
    environment: Name | None = None
    workflow: Name | None = None

    @property
    def given(self) -> dict[str, str]:
        """Dimension -> what it is."""
        return {name: value for name in GIVEN if (value := getattr(self, name)) is not None}

    @model_validator(mode="after")
    def _says_something(self) -> "GivenAttribution":
        if not self.given:
            raise ValueError(f"say at least one of {', '.join(GIVEN)}")
        if asked := sorted({"tenant_id", *CALL_DIMENSIONS}.intersection(self.match)):
            raise ValueError(f"match may name attribution and tags, not {', '.join(asked)}")
        return self


class PolicyHeader(Settings):
    """What stands above the rule tables."""

    version: str = "defaults"
    """What alerts call the policy. A file without one is called `unversioned-` and a hash of what it says, so that two
    different ones never pass for the same."""
    timezone: str = "UTC"
    include_defaults: bool = False
    """Keep the default rules beside the file's own."""
    premium_models: list[str] = []
    """Patterns (`gpt-5*`) of models whose calls `max_premium_calls` counts, over the name as reported and over the
    name without provider, route, version and date."""
    no_failures: list[str] = [
        "no_match*", "no_result*", "lint*", "user_declined", "user_denied", "user_refused", "user_rejected",
        "*_by_user",
    ]  # fmt: skip
    """Patterns of `error_type` with which a tool call has done what it was asked for: linters that found something,
    searches that found nothing, what a person would not allow. Such calls are no errors."""
    writing_tools: list[str] = [
        "edit", "multiedit", "notebookedit", "write", "*edit_file", "*write_file", "*write_to_file", "*create_file",
        "*delete_file", "*move_file", "*replace_in_file", "*search_replace", "*insert_edit_into_file", "*apply_patch",
        "*apply_diff",
    ]  # fmt: skip
    """Patterns of tools whose calls change something though they do not say `writes`, upper and lower case alike: what
    they changed may answer the next look differently."""
    unpriced_usd_per_million_tokens: Usd | None = None
    """A pessimistic price for calls nobody can price; unset, they are counted apart and alerted."""
    price: list[Price] = []
    """Prices of your own, before the built-in tables."""
    contract: list[Contract] = []
    """What tenants pay: beside these the rule `margin` is in force by default."""
    attribution: list[GivenAttribution] = []
    """Whose spend it is where it does not say so: the first that matches and has something to say, field by field."""
    prefer_computed_price: bool = False
    """Charge the computed price where it is known, whatever cost the source reports."""
    idle_run_minutes: Annotated[int, Field(ge=1, le=7 * 24 * 60)] = 60
    finished_run_minutes: Annotated[int, Field(ge=0, le=24 * 60)] = 10
    """How long a finished run is remembered, for calls that arrive after its end."""
    ack_deadline_seconds: Annotated[int, Field(ge=1, le=3600)] = 60
    remind: Remind = Remind()
    remember_days: Annotated[int, Field(ge=1, le=35)] = 7
    """How long runs, sessions and run trees are remembered after their last message: silence lifts no limit."""
    dedup_hours: Annotated[int, Field(ge=1, le=72)] = 2
    """How long the id of a message is remembered at least: a second message with it counts nothing."""
    max_tenants_per_partition: Annotated[int, Field(ge=1)] = 20_000
    """What further ones spend counts as the tenant `spendfuse/overflow`, and it is said."""
    max_live_runs_per_tenant: Annotated[int, Field(ge=1)] = 100_000
    max_remembered_runs_per_tenant: Annotated[int, Field(ge=1)] = 1_000_000
    """Sleeping runs, sessions and run trees beyond this are forgotten, the oldest first, and it is said."""
    max_scopes_per_tenant: Annotated[int, Field(ge=1)] = 100_000
    max_workflows_per_tenant: Annotated[int, Field(ge=1)] = 10_000
    """Names come from outside: further workflows share one cohort and one row of hourly totals."""
    blast_radius: BlastRadius = BlastRadius()

    @field_validator("contract")
    @classmethod
    def _told_apart(cls, contracts: list[Contract]) -> list[Contract]:
        known = set()
        for one in contracts:
            if (one.tenant, one.starts) in known:
                since = f"from {one.starts} on" if one.starts else "without a date"
                raise ValueError(f"two of {one.tenant} hold {since}; give the later one a date in `starts`")
            known.add((one.tenant, one.starts))
        return contracts

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"there is no time zone {name!r}; use a name such as Europe/Berlin") from None
        return name


def _day_ms(day: date | None) -> int:
    """The first instant of a day (UTC), 0 without one."""
    return 0 if day is None else epoch_ms(datetime(day.year, day.month, day.day, tzinfo=UTC))


def epoch_ms(moment: datetime) -> int:
    """Epoch milliseconds of an aware moment, exactly."""
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000
