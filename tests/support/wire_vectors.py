"""The test vectors of docs/connect/wire.md. `python -m tests.support.wire_vectors` writes them again.

What a guard shall make of each record is written here by hand; keys, signatures, partitions and hashes are computed
with the service's own code.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Final

import spendfuse
from spendfuse._control.acks import ack_id
from spendfuse._usage import shape

from schemas.control import Command, KeyCheck, Target
from schemas.signing import EngineKeys, KeyId, _command_text, _key_check_text, control_key, key_check_key, nudge_key
from streams.kafka.partitioner import partition_of

VECTORS: Final = Path(__file__).parents[2] / "docs/connect/wire-vectors.json"
ROOT: Final = b"the root key of the engine, in tests"
NOW_MS: Final = 1_795_780_800_000
HOUR_MS: Final = 3_600_000
NAMES: Final = (
    "acme", "a/b", "a|b", "a%2Fb", "a b", "ümlaut/日本", "~.-_", "!'()*", "a\0b", "\U0001f600", "x" * 128,
    "ab", "abc", "abcd",
)  # fmt: skip
HASHED: Final[tuple[Any, ...]] = (
    "", "old_name", "ümlaut 日本 \U0001f600", 0, -17, True, None, [1, "a", None],
    {"b": 1, "a": [{"d": False, "c": "x"}]},
    {"quote": '"', "slash": "/", "back": "\\", "line": "\n", "delete": "\x7f", "zero": "\0"},
)  # fmt: skip
SHAPED: Final[tuple[Any, ...]] = (
    "exit 1 at 09:41", "2026-11-28T23:59:59.123+01:00 deploy failed", "Sat, 5 Dec 2026 14:05:06 GMT: no",
    "last seen 1795276861", "timed out after 9.87 s", "took 12ms", "5 \u00b5s later",
    "no such order 7f3b2c9e-1111-4222-8333-444455556666", "commit 9f8e7d6c5b refused", "0x7f052fef8750 busy",
    "request req_022DTIpFfrt6D46L3VVrS8Gz failed", "Attempt 3 of 10 failed", "RETRY #17", "request id: 4711 failed",
    "wrote /tmp/tmpa1b2c3/out.txt", "wrote C:\\Users\\a\\AppData\\Local\\Temp\\x1", " no   such\n\tfile ",
    "3 tests failed", "version 1.2.3", "error in line 12", "the whole face deadbeef added",
    "\u00fcmlaut \u65e5\u672c 12:30",
    {"error": "busy", "requestId": 1, "createdAt": "x", "elapsed_ms": 9, "attempt": None, "at": {"x": 1}},
    [{"name": "a", "id": 1}, True, 7], '{"error": "busy", "id": 2}', "[1, 2", "2026-11-27", "", {},
)  # fmt: skip
RUN: Final = {
    "tenant_id": "acme", "run_id": "r1", "session_id": "s1", "root_run_id": None, "workflow": "docs",
    "attribution": {"workflow": "docs", "owner": "ana", "tags": {"team": "red"}},
}  # fmt: skip

Header = tuple[str, bytes]


def command(action: str, seq: int, target: tuple[str, str] = ("run", "r1"), **fields: Any) -> dict[str, Any]:
    """A command as JSON has it."""
    return {
        "command_id": f"c{seq}", "action": action, "tenant_id": "acme", "target": {"type": target[0], "id": target[1]},
        "reason": "cap reached", "rule": "run-cost", "incident_id": "i1", "issued_ms": NOW_MS - 1000,
        "expires_ms": NOW_MS + HOUR_MS, "seq": seq, "cause_event_id": None, "cause_ts_ms": NOW_MS - 1200,
    } | fields  # fmt: skip


def encoded(body: dict[str, Any]) -> bytes:
    """As the service writes it; any other JSON of the same content would be signed over its own bytes."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def typed(body: dict[str, Any]) -> Command:
    """The command of the service that the JSON stands for."""
    return Command(**{**body, "target": Target(**body["target"])})


def signed(body: dict[str, Any], kid: KeyId = "engine", root: bytes = ROOT) -> list[Header]:
    """The engine's headers."""
    return EngineKeys(root).command_headers(typed(body), encoded(body), kid)


def record(
    what: str, key: str, value: bytes | None, headers: list[Header], verdict: str, stands: str | None, **more: Any
) -> dict[str, Any]:
    """A step: a record of control.v1, what a guard makes of it, and what then stands for `RUN`."""
    texts = [[name, text.decode()] for name, text in headers]
    step = {"what": what, "key": key, "value": None if value is None else value.decode(), "headers": texts}
    return step | more | {"verdict": verdict, "stands": stands}


def given(
    what: str, body: dict[str, Any], verdict: str, stands: str | None, *, kid: KeyId = "engine", **change: Any
) -> dict[str, Any]:
    """A step with a command; `headers` replaces the engine's own. `told` is what the run's agent is told then, if it
    asks.
    """
    headers = change.get("headers", signed(body, kid))
    key = control_key(body["tenant_id"], body["target"]["type"], body["target"]["id"])
    if body["action"] == "nudge":
        key = nudge_key(body["tenant_id"], body["target"]["id"])
    text = _command_text(typed(body), encoded(body), kid).decode()
    told = {"told": change["told"]} if "told" in change else {}
    return record(what, key, encoded(body), headers, verdict, stands, signed_text=text, **told)


def steps() -> list[dict[str, Any]]:
    """What a guard of acme reads, in this order, at one moment."""
    engine = EngineKeys(ROOT)
    check = encoded({"type": "key_check", "tenant_id": "acme", "operator_keys": []})
    other = encoded({"type": "key_check", "tenant_id": "other", "operator_keys": []})
    kill, lift = command("kill", 30), command("resume", 31)
    closed = {"scope": {"workflow": ["docs", "mail"], "tags.team": ["red"]}}
    forged = command("kill", 99)
    strange = signed(forged, root=b"another root key of an engine, in tests")
    by_engine = signed(command("resume", 40))
    return [
        record("a key check by the engine whose keys these are", key_check_key("acme"), check,
               engine.key_check_headers(KeyCheck(tenant_id="acme", operator_keys=[]), check), "keys_hold", None,
               signed_text=_key_check_text("acme", check).decode()),
        record("a key check by another engine", key_check_key("acme"), check,
               EngineKeys(b"another root key of an engine, in tests").key_check_headers(
                   KeyCheck(tenant_id="acme", operator_keys=[]), check), "keys_wrong", None,
               signed_text=_key_check_text("acme", check).decode()),
        record("another tenant's key check", key_check_key("other"), other, [], "other_tenant", None),
        given("a downgrade of the workflow", command("downgrade", 10, ("workflow", "docs")), "applied", "downgrade"),
        given("a pause of the session", command("pause", 11, ("session", "s1")), "applied", "pause"),
        given("the same once more", command("pause", 11, ("session", "s1")), "replayed", "pause"),
        given("an older one", command("kill", 10, ("session", "s1")), "replayed", "pause"),
        given("one that has expired", command("kill", 12, expires_ms=NOW_MS - 1), "expired", "pause"),
        given("a kill of another run", command("kill", 13, ("run", "r2")), "applied", "pause"),
        given("the engine lifts the pause", command("resume", 14, ("session", "s1")), "applied", "downgrade"),
        given("a kill of the tree, which the run is the root of", command("kill", 15, ("run_tree", "r1")),
              "applied", "kill"),
        given("an operator lifts it", command("resume", 16, ("run_tree", "r1")), "applied", "downgrade",
              kid="operator"),
        given("a kill of the run", kill, "applied", "kill"),
        given("the engine alone cannot lift a kill", lift, "not_entitled", "kill"),
        record("a tombstone", control_key("acme", "run", "r1"), None, [], "tombstone", "kill"),
        record("no JSON", control_key("acme", "run", "r1"), b"kill", [], "malformed", "kill"),
        record("a seq that is a fraction", "acme/run/r1", encoded(command("kill", 1) | {"seq": 1.5}), [],
               "malformed", "kill"),
        given("another tenant's", command("kill", 32, tenant_id="other"), "other_tenant", "kill"),
        given("no headers", forged, "forged", "kill", headers=[]),
        given("another engine's signature", forged, "forged", "kill", headers=strange),
        given("another kid than was signed", command("resume", 40), "forged", "kill",
              headers=[("spendfuse-kid", b"operator"), *by_engine[1:]]),
        given("a resume without its second signature", command("resume", 40), "forged", "kill", kid="operator",
              headers=signed(command("resume", 40), "operator")[:2]),
        given("a signature twice", command("resume", 40), "forged", "kill", kid="operator",
              headers=[*signed(command("resume", 40), "operator"), signed(command("resume", 40), "operator")[1]]),
        given("an operator lifts the kill", command("resume", 41), "applied", "downgrade", kid="operator"),
        given("a closed scope that the run is in: it is exempt, for an operator lets it go on",
              command("pause", 50, ("scope", "b1"), **closed), "applied", "downgrade"),
        given("the run itself is paused: no longer exempt", command("pause", 51), "applied", "pause"),
        given("the engine lifts that; the scope still stands", command("resume", 52), "applied", "pause"),
        given("a scope that the run is not in", command("kill", 53, ("scope", "b2"), scope={"owner": ["bob"]}),
              "applied", "pause"),
        given("the engine opens the scope", command("resume", 54, ("scope", "b1")), "applied", "downgrade"),
        given("a nudge of the run: a sentence that is handed over once", command("nudge", 90, reason="Stop it."),
              "applied", "downgrade", told="Stop it."),
        given("the same once more", command("nudge", 90, reason="Stop it."), "replayed", "downgrade", told=None),
        given("a nudge that has expired", command("nudge", 91, reason="Old.", expires_ms=NOW_MS - 1), "expired",
              "downgrade", told=None),
        given("a nudge of another run", command("nudge", 92, ("run", "r2"), reason="Not you."), "applied", "downgrade",
              told=None),
        given("a nudge of more than a run", command("nudge", 93, ("workflow", "docs")), "malformed", "downgrade"),
        given("nudges are counted by themselves: this pause is newer than the run's last command",
              command("pause", 56), "applied", "pause"),
        given("and ends", command("resume", 57), "applied", "downgrade"),
        given("everybody of the tenant is killed", command("kill", 55, ("tenant", "acme")), "applied", "kill"),
    ]  # fmt: skip


def vectors() -> dict[str, Any]:
    """Everything in the file."""
    engine = EngineKeys(ROOT)
    return {
        "about": "Test vectors of wire.md. Keys and hashes are in hexadecimal; texts are UTF-8.",
        "root_key": ROOT.hex(),
        "keys": [
            {"tenant_id": name, "engine": engine.tenant_key(name).hex(), "lift": engine.lift_key.hex()}
            for name in NAMES
        ],
        "record_keys": [
            {"tenant_id": name, "target": ["run", name], "key": control_key(name, "run", name)} for name in NAMES
        ],
        "partitions": [
            {"key": name, "partitions": count, "partition": partition_of(name.encode(), count)}
            for name in NAMES
            for count in (1, 6, 12, 100)
        ],
        "acks": [
            {"tenant_id": name, "run_id": "r1", "command_id": "c1", "event_id": ack_id(name, "r1", "c1")}
            for name in NAMES
        ],
        "denials": [{"forged": name, "cause_event_id": "forged/" + hashlib.sha256(name.encode()).hexdigest()}
                    for name in NAMES[:2]],
        "hashes": [
            {"value": value, "hash": spendfuse.hash_of(value), "keyed": spendfuse.hash_of(value, key=ROOT)}
            for value in HASHED
        ],
        "shapes": {
            "version": shape.VERSION,
            "most_characters": shape.MAX_CHARS,
            "text_patterns": shape.TEXT_PATTERNS,
            "key_pattern": shape.KEY_PATTERN,
            "results": [
                {
                    "result": result,
                    "shape": (found := shape.shape_of(result)),
                    "hash": None if found is None else shape.versioned(spendfuse.hash_of(found)),
                }
                for result in SHAPED
            ],
        },
        "guard": {"tenant_id": "acme", "now_ms": NOW_MS, "run": RUN, "records": steps()},
    }  # fmt: skip


def text() -> str:
    """The file's content."""
    return json.dumps(vectors(), indent=1, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    VECTORS.write_text(text(), encoding="utf-8")
