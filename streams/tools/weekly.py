"""The weekly review: records from the topics, or from a file of effects, to a message, a page and data.

What decides is in `alerting/review`; here is what fetches and writes.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from confluent_kafka import Message

from alerting.review.compute import review_of
from alerting.review.data import as_data
from alerting.review.facts import PolicyException, Records, Review, Terms
from alerting.review.incidents import is_of_interest
from alerting.review.message import review_text
from alerting.review.week import Week, last_full_week, week_before, week_named
from models.detectors.limits.budget import Budget
from models.rules.policy import Policy
from schemas.alert import Alert
from schemas.codec import decode_alert, decode_command, decode_operator, decode_rollup
from schemas.control import Command
from schemas.errors import SettingsError, SpendfuseError, Undecodable
from schemas.money import usd_to_nanousd
from schemas.operator import OperatorMessage
from schemas.policy import RuleSettings
from schemas.rollup import Rollup
from schemas.signing import is_key_check
from streams.clock import wall_ms
from streams.edge.genuine import Genuine
from streams.kafka.order_reader import OrderReader
from streams.kafka.whole_topic import committed_records
from streams.process.policies import policy_in_force
from streams.settings import Settings
from streams.tools.event_log import open_log

log = logging.getLogger("spendfuse.weekly")
MAIN_SETTINGS = (
    "page_at", "multiplier", "limit_usd", "rounds", "missed_share", "max_share", "share", "min_usd", "notice_at",
    "min_calls", "min_runs",
)  # fmt: skip
"""Of rules, those that decide most how much is told."""
MOST_THRESHOLDS = 2
Value = TypeVar("Value")


def read_review(
    settings: Settings,
    week: Week,
    policy: Policy,
    *,
    progress: bool = False,
    table: str | None = None,
    tenant_id: str | None = None,
) -> Review:
    """The review of a week, of one tenant or all, from the topics as they stand now. Blocks for as long as reading
    takes.

    With `table`, the address of a wide event table, that must answer; one that the settings name may be away: then the
    review goes without it, and the log says so.

    Raises:
        BrokerError: the topics cannot be read.
        SettingsError: the week has not begun.
        StoreError: the table that was named cannot be asked.
    """
    now_ms = wall_ms()
    if now_ms <= week.start_ms:
        raise SettingsError(f"week {week.label} has not begun")
    records, terms = _read_topics(settings, week, progress=progress), _terms(policy)
    if tenant_id is not None:
        records, terms = _records_of(records, tenant_id), _terms_of(terms, tenant_id)
    review = review_of(week, records, terms, now_ms)
    if table is not None:
        return _with_detail(review, table, tenant_id)
    if settings.sink is None:
        return review
    try:
        return _with_detail(review, settings.sink.get_secret_value(), tenant_id)
    except SpendfuseError as error:
        log.error("the wide event table cannot be asked; the review goes without it: %s", error)
        return review


def _with_detail(review: Review, address: str, tenant_id: str | None) -> Review:
    from streams.sinks.review import read_detail, span_of  # noqa: PLC0415 - a store's library takes time to load
    from streams.sinks.stores import open_store  # noqa: PLC0415 - as above

    store = open_store(address)
    try:
        return replace(review, detail=read_detail(store, span_of(review), tenant_id))
    finally:
        store.close()


def read_effects(path: Path, policy: Policy, label: str | None) -> Review:
    """The review of a week, from a file as `backtest --out` writes it; lines of operator.v1 may stand in it, too.

    Now is where the file ends, its last hour counted as over. Without a `label` it is the week that was full last by
    then.

    Raises:
        SettingsError: the file cannot be read, or the week is none or has not begun.
    """
    records = _read_file(path)
    times = [*(one.hour_end_ms for one in records.rollups), *(one.ts_ms + 1 for one in records.alerts)]
    if not times:
        raise SettingsError(f"{path} holds neither rollups nor alerts; write it with: backtest --out {path}")
    now_ms = max(times)
    try:
        return review_of(
            _week(label, policy, now_ms), records, _terms(policy, rehearsed=_is_rehearsed(records)), now_ms
        )
    except ValueError as error:
        raise SettingsError(str(error)) from None


def run_weekly(
    settings: Settings,
    policy: Policy | None,
    *,
    label: str | None,
    effects: Path | None,
    html: Path | None,
    json: Path | None,
    table: str | None = None,
) -> int:
    """Print the message of a week, and write its page and data where asked. Returns the exit code.

    Without a policy it is the one in force; for a file of effects, the one that SPENDFUSE_POLICY names.
    """
    if effects is not None:
        review = read_effects(effects, policy or settings.file_policy(), label)
    else:
        policy = policy or policy_in_force(settings)
        review = read_review(settings, _week(label, policy, wall_ms()), policy, progress=True, table=table)
    if html is not None:
        from alerting.review.page.page import page  # noqa: PLC0415 - drawing takes a second to load; the message needs none

        _write(html, page(review))
    if json is not None:
        _write(json, msgspec.json.format(msgspec.json.encode(as_data(review)), indent=2).decode() + "\n")
    print(review_text(review))
    return 0


def _week(label: str | None, policy: Policy, now_ms: int) -> Week:
    timezone = policy.header.timezone
    if label is None:
        return last_full_week(timezone, now_ms)
    try:
        return week_named(label, timezone)
    except ValueError as error:
        raise SettingsError(f"--week: {error}") from None


def _is_rehearsed(records: Records) -> bool:
    """Whether nobody ever obeyed: the agents of a log of the past did not hear the commands of its backtest."""
    return not any("cause_to_stop_ms" in alert.evidence for alert in records.alerts)


def _terms(policy: Policy, *, rehearsed: bool = False) -> Terms:
    exceptions = (
        PolicyException(rule.rule, one.scope, usd_to_nanousd(one.limit_usd), one.until_ms, one.why, one.who)
        for rule in policy.rules.values()
        if isinstance(rule, Budget)
        for one in rule.settings.exceptions
    )
    return Terms(
        exceptions=tuple(exceptions),
        charges_unpriced=policy.header.unpriced_usd_per_million_tokens is not None,
        rehearsed=rehearsed,
        thresholds={rule.rule: tuple(_thresholds(rule.settings)) for rule in policy.rules.values()},
    )


def _thresholds(settings: RuleSettings) -> list[str]:
    """The settings of a rule that decide how much it tells: its numbers, the best known first."""
    numbers = {
        name: value
        for name, value in settings
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    }
    known = sorted(numbers, key=lambda name: MAIN_SETTINGS.index(name) if name in MAIN_SETTINGS else len(MAIN_SETTINGS))
    return [f"{name} = {float(numbers[name]):.12g}" for name in known[:MOST_THRESHOLDS]]


def _read_topics(settings: Settings, week: Week, *, progress: bool) -> Records:
    def values(name: str, decode: Callable[[bytes | None], Value]) -> Iterator[Value]:
        records = committed_records(settings, name, progress=progress)
        return _decoded(name, records, decode)

    return Records(
        rollups=list(_two_weeks(committed_records(settings, "rollups.v1", progress=progress), week)),
        alerts=[one for one in values("alerts.v1", decode_alert) if is_of_interest(one, week)],
        commands=list(_engines(_commands(settings, progress=progress), settings)),
        orders=list(_believed(committed_records(settings, "operator.v1", progress=progress), settings)),
    )


def _commands(settings: Settings, *, progress: bool) -> Iterator[Message]:
    records = committed_records(settings, "control.v1", progress=progress)
    return (message for message in records if not is_key_check(message.key()))


def _engines(records: Iterable[Message], settings: Settings) -> Iterator[Command]:
    """Commands as guards believe them: what the engine has not signed has stopped nobody, and counts as nothing.

    Without the engine's key they cannot be checked, and all of them count.
    """
    genuine = Genuine.of(settings)
    forged = 0
    for message in records:
        headers: Any = message.headers()  # as in `_believed`
        for command in _decoded("control.v1", [message], decode_command):
            if genuine.is_engines(command, message.value() or b"", headers):
                yield command
            else:
                forged += 1
    if forged:
        log.warning("commands of control.v1 that are left out, because the engine has not signed them: %d", forged)


def _records_of(records: Records, tenant_id: str) -> Records:
    """Those of one tenant."""
    return Records(
        rollups=[one for one in records.rollups if one.tenant_id == tenant_id],
        alerts=[one for one in records.alerts if one.tenant_id == tenant_id],
        commands=[one for one in records.commands if one.tenant_id == tenant_id],
        orders=[one for one in records.orders if one.tenant_id == tenant_id],
    )


def _terms_of(terms: Terms, tenant_id: str) -> Terms:
    """Terms without what the policy says of other tenants."""
    own = tuple(one for one in terms.exceptions if one.scope == tenant_id or one.scope.startswith(f"{tenant_id}/"))
    return replace(terms, exceptions=own)


def _two_weeks(records: Iterable[Message], week: Week) -> Iterable[Rollup]:
    """The last rollup of each hour of the week and the one before; of all other hours only the earliest."""
    start_ms = week_before(week).start_ms
    newest: dict[bytes | None, Rollup] = {}
    earliest: Rollup | None = None
    for message in records:
        key = message.key()
        if message.value() is None:
            newest.pop(key, None)
            continue
        for rollup in _decoded("rollups.v1", [message], decode_rollup):
            if earliest is None or rollup.hour_start_ms < earliest.hour_start_ms:
                earliest = rollup
            if start_ms <= rollup.hour_start_ms < week.end_ms:
                newest[key] = rollup
    if earliest is not None and earliest.hour_start_ms < start_ms:
        return [earliest, *newest.values()]
    return newest.values()


def _believed(records: Iterable[Message], settings: Settings) -> Iterator[OperatorMessage]:
    """Operators' messages as the worker believes them: what it refuses does not count here either."""
    orders = OrderReader.of(settings)
    refused = 0
    for message in records:
        headers: Any = message.headers()  # the client's annotation also allows what only a producer may give
        try:
            yield orders.read(message.value(), headers, message.timestamp()[1])
        except Undecodable as fault:
            refused += 1
            log.info("operator.v1, partition %s, offset %s: %s", message.partition(), message.offset(), fault)
    if refused:
        why = "SPENDFUSE_OPERATOR_PUBLIC_KEY is not set" if orders.believes_nobody else "no operator's, or unreadable"
        log.warning("%d messages of operator.v1 are left out: %s", refused, why)


def _decoded(name: str, records: Iterable[Message], decode: Callable[[bytes | None], Value]) -> Iterator[Value]:
    """The values of a topic's records. One that cannot be read is named in the log and left out."""
    for message in records:
        try:
            yield decode(message.value())
        except Undecodable as error:
            if error.reason != "empty":
                place = f"{name}[{message.partition()}] offset {message.offset()}"
                log.warning("%s is left out of the review: %s", place, error)


class _Line(msgspec.Struct):
    """One effect in a file."""

    topic: str
    value: msgspec.Raw


_line = msgspec.json.Decoder(_Line)


def _read_file(path: Path) -> Records:
    rollups: dict[str, Rollup] = {}
    alerts: list[Alert] = []
    commands: list[Command] = []
    orders: list[OperatorMessage] = []
    with open_log(path) as (lines, _):
        for number, text in enumerate(lines, 1):
            if not text.strip():
                continue
            try:
                line = _line.decode(text)
                value = bytes(line.value)
                match line.topic:
                    case "rollups.v1":
                        rollup = decode_rollup(value)
                        rollups[rollup.key] = rollup
                    case "alerts.v1":
                        alerts.append(decode_alert(value))
                    case "control.v1":
                        commands.append(decode_command(value))
                    case "operator.v1":
                        orders.append(decode_operator(value))
            except (msgspec.DecodeError, UnicodeDecodeError, Undecodable) as error:
                raise SettingsError(f"{path} line {number} is no effect as backtest --out writes it: {error}") from None
    return Records(list(rollups.values()), alerts, commands, orders)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}") from None
