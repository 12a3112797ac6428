"""`policy`: what is in force, and what a changed one would have come to on the last days."""

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from alerting.rendering.foreign import clean
from alerting.review.page.markup import Markup, Piece, element, join
from models.rules.policy import Policy, read_policy_toml
from schemas.errors import PolicyError
from schemas.policy import RuleSettings
from streams.console.trial.outcome import Comparison, Only, Tried
from streams.console.trial.trials import Trial
from streams.console.views.frame import hidden_token
from streams.console.views.pieces import badge, choice, empty, moment, plain_table, shown_name, shown_text, usd

DAYS = (1, 3, 7)
MOST_OF_A_VALUE = 60
TEXTS = frozenset({"version", "name", "timezone"})
UNSAID = frozenset({"name", "mode", "match", "overrides", "exceptions", "severity"})
MODES = {"enforce": "kill", "alert": "info", "shadow": "quiet"}


def toml_of(policy: Policy) -> str:
    """A policy as a file: what was written, in TOML. policy.v1 carries its numbers as texts; they are numbers here
    again, unless it would be another policy then.
    """
    text = _toml(policy.source, as_numbers=True)
    try:
        return text if read_policy_toml(text).stamp == policy.stamp else _toml(policy.source, as_numbers=False)
    except PolicyError:
        return _toml(policy.source, as_numbers=False)


def _toml(source: Mapping[str, Any], *, as_numbers: bool) -> str:
    source = _numbered(source) if as_numbers else source
    plain = [f"{key} = {_value(value)}" for key, value in source.items() if not _is_tables(value)]
    tables = [line for key, value in source.items() if _is_tables(value) for line in _tables(key, value)]
    return "\n".join([*plain, *tables]) + "\n"


def _numbered(value: Any, key: str = "") -> Any:
    if isinstance(value, Mapping):
        return value if key == "match" else {name: _numbered(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [_numbered(one, key) for one in value]
    is_number = isinstance(value, str) and key not in TEXTS and re.fullmatch(r"-?\d{1,15}(\.\d{1,9})?", value)
    return Decimal(value) if is_number else value


def _is_tables(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _tables(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from ("", f"[[{_key(key)}]]", *(f"{_key(name)} = {_value(each)}" for name, each in one.items()))
        return
    yield from ("", f"[{_key(key)}]")
    yield from (f"{_key(name)} = {_value(each)}" for name, each in value.items() if not isinstance(each, dict))
    for name, each in value.items():
        if isinstance(each, dict):
            yield from ("", f"[{_key(key)}.{_key(name)}]")
            yield from (f"{_key(inner)} = {_value(one)}" for inner, one in each.items())


def _key(text: str) -> str:
    return text if text.replace("_", "a").replace("-", "a").isalnum() and text.isascii() else json.dumps(text)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(_value(one) for one in value)}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else f"{value}"


def in_force(policy: Policy, since_ms: int | None, tenant_id: str, *, sees_all: bool) -> Markup:
    """What is in force. Who may see one tenant alone sees the rules without what they say of others."""
    head: list[Piece] = ["Version ", element("strong", shown_name(policy.version)), f", {policy.calendar.timezone}"]
    head += [", since ", moment(since_ms)] if since_ms else [", from the console's file: none has been published"]
    rows = [_rule(rule.settings, rule.name, tenant_id, sees_all=sees_all) for rule in policy.rules.values()]
    heads = [("Rule", ""), ("Kind", ""), ("Does", ""), ("With", "")]
    table = plain_table("The rules in force", heads, rows, "rules") if rows else empty("It has no rules.")
    return join([element("p", *head), table])


def _rule(settings: RuleSettings, kind: str, tenant_id: str, *, sees_all: bool) -> Markup:
    said = settings.model_dump(mode="json", exclude_defaults=True)
    shown = {key: value for key, value in said.items() if key not in UNSAID}
    if "limit_usd" in shown and not sees_all:
        shown["limit_usd"] = (said.get("overrides") or {}).get(tenant_id, shown["limit_usd"])
    if sees_all and settings.match:
        shown["match"] = said.get("match")
    return element(
        "tr",
        element("th", shown_name(settings.name), scope="row"),
        element("td", kind.replace("_", " ")),
        element("td", badge(settings.mode, MODES[settings.mode])),
        element("td", ", ".join(f"{key} {_short(value)}" for key, value in shown.items()) or "its defaults"),
    )


def _short(value: Any) -> str:
    text = "/".join(map(str, value)) if isinstance(value, list) else str(value)
    return clean(text, MOST_OF_A_VALUE)


def form(text: str, days: int, token: str, *, fault: str = "", notes: tuple[str, ...] = ()) -> Markup:
    """The form that a changed policy is put into."""
    choices = [choice("days", str(each), f"{each} day{'s' if each > 1 else ''}", checked=each == days) for each in DAYS]
    return element(
        "form",
        hidden_token(token),
        element("p", fault, role="alert", class_="fault") if fault else "",
        *(element("p", shown_text(one, 400), class_="met") for one in notes),
        element("label", "A changed policy, as TOML", for_="policy"),
        element("textarea", text, name="policy", id="policy", spellcheck="false", autocomplete="off", required=""),
        element("label", "or a file", for_="file"),
        element("input", type="file", id="file", accept=".toml,text/plain"),
        element("fieldset", element("legend", "On the last"), *choices),
        element("button", "Try it beside the one in force", type="submit"),
        element("p", "Nothing is published here: ", element("code", "python -m streams policy publish FILE"),
                " does that.",                 class_="note"),
        method="post", action="/policy/trial", data_once="",
    )  # fmt: skip


def trial_parts(trial: Trial) -> dict[str, Markup]:
    """How far a trial is, or what it came to."""
    if trial.comparison is not None:
        return {"trial": _comparison(trial.comparison, trial.days)}
    if trial.fault:
        return {"trial": element("p", shown_text(trial.fault, 600), role="alert", class_="fault")}
    bar = element("progress", value=f"{trial.share:.2f}", max="1", aria_label="How far the trial is")
    return {"trial": join([element("p", f"{trial.what[0].upper()}{trial.what[1:]}…"), bar])}


def _comparison(found: Comparison, days: int) -> Markup:
    ours, theirs = found.in_force, found.proposed
    rows = [
        _row("Pages", ours.pages, theirs.pages, more_is="more"),
        _row("Notices", ours.notices, theirs.notices, more_is="more"),
        _row("Kills", ours.kills, theirs.kills, more_is=""),
        _row("False kills", ours.false_kills, theirs.false_kills, more_is="more"),
        _row("Saved", ours.saved_nanousd, theirs.saved_nanousd, more_is="less", is_money=True),
        _row("Spent after kills", ours.overshoot_nanousd, theirs.overshoot_nanousd, more_is="more", is_money=True),
        _row("Held back by pauses", ours.held_back_nanousd, theirs.held_back_nanousd, more_is="", is_money=True),
    ]
    heads = [("", ""), (f"In force ({clean(ours.version, 30)})", "number"),
             (f"Proposed ({clean(theirs.version, 30)})", "number"), ("Change", "number")]  # fmt: skip
    span = f"{days} days" if days > 1 else "day"
    return join(
        [
            element("p", f"The last {span}, {ours.events:,} events. A killed run stops a second later; what it spent "
                    "in the log after that counts as saved. False kills: the output was accepted all the same."),
            plain_table("Both policies on the same days", heads, rows, "compare"),
            _by_rule(ours, theirs),
            _alone("Only with the proposed one", found.only_proposed),
            _alone("Only with the one in force", found.only_in_force),
            empty(f"{found.left_out:,} more are not listed") if found.left_out else "",
        ]
    )  # fmt: skip


def _row(label: str, ours: int, theirs: int, *, more_is: str, is_money: bool = False) -> Markup:
    """Two figures and what differs. `more_is` says whether more of it is more to be borne, less, or neither."""
    shown = usd if is_money else "{:,}".format
    change = theirs - ours
    sign = "+" if change > 0 else "−"
    kind = more_is if change > 0 else {"more": "less", "less": "more"}.get(more_is, "") if change else ""
    return element(
        "tr",
        element("th", label, scope="row"),
        element("td", shown(ours), class_="number"),
        element("td", shown(theirs), class_="number"),
        element("td", f"{sign}{shown(abs(change))}" if change else "the same", class_=f"number change {kind}".rstrip()),
    )


def _by_rule(ours: Tried, theirs: Tried) -> Markup:
    names = sorted(ours.alerts.keys() | theirs.alerts.keys())
    if not names:
        return join([])
    rows = [
        _row(clean(name, 60), ours.alerts.get(name, 0), theirs.alerts.get(name, 0), more_is="more") for name in names
    ]
    heads = [("Alerts by rule", ""), ("In force", "number"), ("Proposed", "number"), ("Change", "number")]
    return join([element("h3", "By rule"), plain_table("Alerts by rule", heads, rows, "compare")])


def _alone(title: str, found: list[Only]) -> Markup:
    if not found:
        return join([])
    items = [element("li", badge(one.severity, one.severity), " ", shown_text(one.summary, 240)) for one in found]
    return join([element("h3", title), element("ul", *items, class_="plain")])
