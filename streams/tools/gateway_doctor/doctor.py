"""`gateway doctor`: what has arrived of a key's tenant, from whom and when last, and what is wrong with it.

What arrives is read from Kafka, so that it covers every gateway, and agents that write to Kafka themselves.
"""

from collections.abc import Iterator
from typing import Any, Final

from alerting.rendering.figures import amount
from schemas.codec import decode_dead_letter, decode_usage
from schemas.duration import HOUR_MS
from schemas.edge.access_key import SCOPES, AccessKey, read_token
from schemas.errors import Undecodable
from streams.clock import wall_ms
from streams.gateway.origin import DIRECT, Origin, read_origin
from streams.kafka.admin import existing_topics
from streams.kafka.time_range import records_between
from streams.settings import Settings
from streams.tools.access_keys import charged, known_keys
from streams.tools.gateway_doctor.arrivals import Arrivals, Blindness, Stream
from streams.tools.gateway_doctor.probes import probe
from streams.tools.inspection.dead_letters import ADVICE
from streams.tools.inspection.doctor import lines
from streams.tools.inspection.finding import Finding
from streams.tools.inspection.terminal import shell_word

TOPICS: Final = ("usage.v1", "usage.dlq.v1")
Told = tuple[str, Finding]
"""What a finding is about, and the finding."""
HASHES: Final[dict[str, str]] = {
    "otlp-traces": "have the instrumentation record the content of tool calls: only hashes are kept",
    "otlp-logs": "Claude Code: set its hook on PostToolUse too; Gemini CLI: telemetry.logPrompts; see docs/connect",
}
"""Source -> how its tools' arguments come to be known."""


def run_gateway_doctor(settings: Settings, token: str, url: str, since_ms: int) -> int:
    """Say how a key does; 1 if something is wrong, else 0. Raises `BrokerError`."""
    existing_topics(settings, (*TOPICS, "keys.v1"))
    now_ms = wall_ms()
    wrong = 0
    for about, finding in findings(settings, token, url, since_ms, now_ms):
        print("\n".join(lines(about, finding)), flush=True)
        wrong += finding.health == "wrong"
    return 1 if wrong else 0


def findings(settings: Settings, token: str, url: str, since_ms: int, now_ms: int) -> Iterator[Told]:
    """Everything that can be said of a key. Raises `BrokerError`."""
    shown = read_token(token)
    key = None if shown is None else known_keys(settings).get(shown.key_id)
    if shown is None or key is None or not key.is_of(shown):
        advice = "python -m streams keys list shows which are; keys create makes one"
        yield "key", Finding("wrong", "this key is not known on this cluster", advice)
        return
    yield "key", _of_key(key)
    for finding in probe(url, token):
        yield "gateway", finding
    yield from arrived(_arrivals(settings, key.tenant_id, since_ms, now_ms), key, since_ms, now_ms)


def arrived(found: Arrivals, key: AccessKey, since_ms: int, now_ms: int) -> Iterator[Told]:
    """What has come of a tenant since then."""
    stretch = amount(now_ms - since_ms, "ms")
    if not any(origin.key_id == key.key_id for origin in found.streams):
        advice = "send something, and look again: docs/connect has a page for each system"
        yield "arrived", Finding("warning", f"nothing with this key within {stretch}", advice)
    for origin, stream in sorted(found.streams.items()):
        last = f"last {_since(stream.last_ms, now_ms)} ago in the run {shell_word(stream.last_run)}"
        yield "arrived", Finding("ok", f"{_from(origin, key)}: {_counts(stream)}, {last}")
    for (origin, reason), rejections in sorted(found.rejections.items()):
        letter = rejections.newest
        if letter is not None:
            ago = _since(letter.ts_ms, now_ms)
            text = f"{_from(origin, key)}: {rejections.count:,} for {reason}, last {ago} ago: {letter.detail}"
            yield "rejected", Finding("warning", text, ADVICE[reason])
    for (origin, workflow), blindness in sorted(found.blindness.items()):
        if blindness.without_arguments:
            yield "blind", _blind(_from(origin, key), workflow, blindness, HASHES.get(origin.source, ""))
    for (one, other), calls in found.told_twice.most_common():
        yield "twice", _told_twice(_from(one, key), _from(other, key), calls)
    yield (
        "covers",
        Finding(
            "ok",
            f"all that stands in Kafka of {key.tenant_id} within {stretch}, through whichever gateway; not what a "
            "gateway still has on its disk, nor requests without a key that it knows",
        ),
    )


def _arrivals(settings: Settings, tenant_id: str, since_ms: int, now_ms: int) -> Arrivals:
    """Read what has come of a tenant. What cannot be read is in the dead letters, or will be."""
    found, owner = Arrivals(), tenant_id.encode()
    letters = settings.topic("usage.dlq.v1")
    # Up to the end: the brokers' clock may be ahead of ours.
    for record in records_between(settings, TOPICS, since_ms, now_ms + HOUR_MS, key=owner, progress=True):
        if record.key() != owner:
            continue
        try:
            _add(found, record, is_letter=record.topic() == letters)
        except Undecodable:
            continue
    return found


def _add(found: Arrivals, record: Any, *, is_letter: bool) -> None:
    """Take note of a record. Raises `Undecodable`."""
    origin, append_ms = read_origin(record.headers()), record.timestamp()[1]
    if is_letter:
        found.add_rejected(decode_dead_letter(record.value()), origin)
    else:
        found.add(decode_usage(record.value()), origin, append_ms)


def _of_key(key: AccessKey) -> Finding:
    label = f" ({key.label})" if key.label else ""
    if key.revoked_ms is not None:
        return Finding("wrong", f"{key.key_id}{label} of {key.tenant_id} was revoked", "make another: keys create")
    lacking = [scope for scope in SCOPES if scope not in key.scopes]
    text = f"{key.key_id}{label} of {key.tenant_id}: it may {', '.join(key.scopes)}"
    text += f"; it may not {', '.join(lacking)}" if lacking else ""
    text += f"; {charged(key)}" if key.charge is not None else ""
    return Finding("ok", text)


def _from(origin: Origin, key: AccessKey) -> str:
    if origin == DIRECT:
        return "Kafka, through no gateway"
    return f"{origin.source}, with {'this key' if origin.key_id == key.key_id else f'the key {origin.key_id}'}"


def _since(ts_ms: int, now_ms: int) -> str:
    return amount(max(0, now_ms - ts_ms) // 1000 * 1000, "ms")


def _counts(stream: Stream) -> str:
    told = {"model calls": stream.model_calls, "tool calls": stream.tool_calls, "other messages": stream.others}
    counts = ", ".join(amount(count, what) for what, count in told.items() if count)
    again = f"{stream.again:,} told before, which count once" if stream.again else ""
    of_runs = f"{counts} of {amount(len(stream.runs), 'runs')}" if counts else ""
    return "; ".join(part for part in (of_runs, again) if part)


def _blind(source: str, workflow: str, blindness: Blindness, advice: str) -> Finding:
    runs = amount(len(blindness.blind_runs), "runs")
    text = (
        f"{source}: {blindness.without_arguments:,} of {blindness.tool_calls:,} tool calls of "
        f"{workflow or 'no workflow'} say nothing of their arguments: in {runs} no rule sees a loop of them"
    )
    return Finding("warning", text, advice or "send args_hash and result_hash with each tool call")


def _told_twice(one: str, other: str, calls: int) -> Finding:
    count = amount(calls, "calls")
    text = f"{count} from {one}, and again from {other}: the same model and tokens within 5 s. Both are charged"
    advice = (
        "choose whose count; give the other system a key of its own whose model calls do not: "
        "python -m streams keys create --tenant NAME --charge"
    )
    return Finding("wrong", text, advice)
