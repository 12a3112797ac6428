"""What people tell a running worker: another policy, and signed orders.

Numbers of rows are those of the fault matrix.
"""

import gc
import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from pydantic import SecretStr

from models.stimuli import PolicyChanged
from schemas.codec import encode
from schemas.control import Target
from schemas.duration import MINUTE_MS
from schemas.errors import BrokerError
from schemas.operator import Resume
from schemas.signing import KID_HEADER, OperatorKey
from streams.clock import BrokerClock, wall_ms
from streams.kafka.admin import topics_on_broker
from streams.kafka.client import Admin
from streams.kafka.order_writer import OrderWriter
from streams.process.broker_watch import BrokerWatch
from streams.process.metrics import Metrics
from streams.process.policies import Policies, PolicyLost, policy_in_force
from streams.settings import Settings
from streams.worker.worker import Worker
from tests.integration.test_topics import forget_records
from tests.support.kafka import Record, TopicSpace, commands_on, produce, read_all, wait_until
from tests.support.messages import YESTERDAY_MS, acknowledge
from tests.support.service_process import ENGINE_KEY, OPERATOR_KEY, ROOT, ServiceProcess
from tests.support.worker_process import WorkerProcess

TENANT = "acme"
HOUR_MS = 3_600_000
POLICY = """
version = "{version}"
[[cap]]
name = "run-cost"
limit_usd = {limit_usd}
at_limit = "kill"
mode = "enforce"
"""


def policy_file(folder: Path, version: str, limit_usd: float) -> Path:
    path = folder / f"{version}.toml"
    path.write_text(POLICY.format(version=version, limit_usd=limit_usd), encoding="utf-8")
    return path


def spend(space: TopicSpace, run: str, usd: int, event: str, ts_ms: int = YESTERDAY_MS, partition: int = 0) -> None:
    """A model call of a run."""
    call = {
        "type": "llm_call", "event_id": event, "ts_ms": ts_ms, "tenant_id": TENANT, "run_id": run, "model": "m",
        "cost_nanousd": usd * 10**9,
    }  # fmt: skip
    record = Record(json.dumps(call).encode(), TENANT.encode(), (), ts_ms, partition)
    produce(space.bootstrap, space.name("usage.v1"), [record])


def values(space: TopicSpace, topic: str) -> list[dict[str, Any]]:
    read = commands_on if topic == "control.v1" else read_all
    return [json.loads(record.value or b"") for record in read(space.bootstrap, space.name(topic))]


def test_a_policy_is_published_to_a_topic_that_is_there(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """Before `topics apply` it is refused, with what to do, and the broker is not made to create a topic by itself."""
    nowhere = replace(kafka_topics, prefix=f"{kafka_topics.prefix}nowhere.")
    with pytest.raises(subprocess.CalledProcessError) as refused:
        _publish(nowhere, policy_file(tmp_path, "wide", 100))
    assert refused.value.returncode == 4
    assert f"{nowhere.name('policy.v1')}. Create them: python -m streams topics apply" in refused.value.stderr
    topics = topics_on_broker(Admin(Settings(kafka_bootstrap=kafka_topics.bootstrap)))
    assert not [name for name in topics if name.startswith(nowhere.prefix)]


def test_another_policy_takes_over_and_a_faulty_one_does_not(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """Row 33: a published policy judges what lives at once and the messages after it, its version stands in the alerts,
    and it is still in force after a restart. A faulty one is refused with its faults, and the one before stays.
    """
    bootstrap, prefix = kafka_topics.bootstrap, kafka_topics.prefix
    wide, narrow = policy_file(tmp_path, "wide", 100), policy_file(tmp_path, "narrow", 10)
    with WorkerProcess(bootstrap, prefix, wide) as worker:
        worker.wait_said("state restored")
        spend(kafka_topics, "before", 20, "e1")
        worker.wait_applied({0: 0})
        _publish(kafka_topics, narrow)
        worker.wait_said("policy changed")
        faulty = Record(b'{"version":"broken","cap":[{"name":"run-cost","limit_usd":-5}]}', b"default")
        produce(bootstrap, kafka_topics.name("policy.v1"), [faulty])
        [refused] = worker.wait_said("a policy was refused; the one before it stays in force")
        assert "cap[0]" in str(refused["faults"])
        assert worker.metric("spendfuse_policy_faults_total") == {"": 1.0}
        spend(kafka_topics, "after", 12, "e2")
        worker.wait_applied({0: 1})
        assert worker.stop() == 0, worker.tail()
    with WorkerProcess(bootstrap, prefix, wide) as worker:
        worker.wait_said("state restored")
        spend(kafka_topics, "later", 12, "e3")
        worker.wait_applied({0: 2})
        assert worker.stop() == 0, worker.tail()
    kills = {command["target"]["id"]: command["rule"] for command in values(kafka_topics, "control.v1")}
    # The narrower cap judges at once what lives: the run that spent its 20 dollars before it is stopped as well.
    assert kills == {"before": "run-cost", "after": "run-cost", "later": "run-cost"}
    assert {alert["policy_version"] for alert in values(kafka_topics, "alerts.v1")} == {"narrow"}


def test_a_policy_that_is_lost_stays_in_force(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """A deletion is refused like a faulty policy, and told. When nothing of the policy is left on its topic, a worker
    that starts goes on with the one that its state follows, and kills by it; alerting, which would notify nobody, and
    tools that need it end and say what to do. Publishing it mends everything.
    """
    bootstrap, prefix = kafka_topics.bootstrap, kafka_topics.prefix
    narrow = policy_file(tmp_path, "narrow", 10)
    _publish(kafka_topics, narrow)
    with WorkerProcess(bootstrap, prefix) as worker:
        worker.wait_said("state restored")
        spend(kafka_topics, "before", 12, "e1")
        worker.wait_said("command")
        produce(bootstrap, kafka_topics.name("policy.v1"), [Record(None, b"default")])
        [refused] = worker.wait_said("a policy was refused; the one before it stays in force")
        assert refused["faults"] == ["it is a deletion"]
        assert worker.stop() == 0, worker.tail()
    forget_records(Admin(Settings(kafka_bootstrap=bootstrap)), kafka_topics.name("policy.v1"))
    with WorkerProcess(bootstrap, prefix) as worker:
        [kept] = worker.wait_said("no policy is published; the one that the state follows stays in force")
        assert kept["policy_version"] == "narrow"
        spend(kafka_topics, "after", 12, "e2")
        worker.wait_said("command")
        assert worker.stop() == 0, worker.tail()
    kills = {command["target"]["id"]: command["rule"] for command in values(kafka_topics, "control.v1")}
    assert kills == {"before": "run-cost", "after": "run-cost"}
    assert [alert["state"] for alert in values(kafka_topics, "alerts.v1")] == ["open", "open"]
    assert {alert["policy_version"] for alert in values(kafka_topics, "alerts.v1")} == {"narrow"}
    with ServiceProcess(["alerting"], {"KAFKA_BOOTSTRAP": bootstrap, "PREFIX": prefix}) as alerting:
        assert alerting.wait_exit() == 3, alerting.tail()
        assert "python -m streams policy publish FILE" in alerting.text
    settings = Settings(kafka_bootstrap=bootstrap, prefix=prefix)
    with pytest.raises(PolicyLost, match="what was written there is gone"):
        policy_in_force(settings)
    _publish(kafka_topics, narrow)
    assert policy_in_force(settings).version == "narrow"


def test_partitions_are_taken_over_under_the_newest_policy(
    kafka_topics: TopicSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What was published since a worker last looked is in force before partitions are its: their last owner may have
    judged by it, and to go back to the policy before would lift what stands and tell everything twice. Here the worker
    never looks for another policy by itself.
    """
    narrow, wide = policy_file(tmp_path, "narrow", 10), policy_file(tmp_path, "wide", 100)
    _publish(kafka_topics, wide)
    settings = Settings(
        kafka_bootstrap=kafka_topics.bootstrap, prefix=kafka_topics.prefix, engine_key=SecretStr(ENGINE_KEY)
    )
    first = Policies.first

    def first_and_late(policies: Policies, now_ms: int) -> PolicyChanged:
        found = first(policies, now_ms)
        _publish(kafka_topics, narrow)
        return found

    monkeypatch.setattr(Policies, "first", first_and_late)
    monkeypatch.setattr(Policies, "changed", lambda policies, wait_s=0.0: _arrived_at_first(policies, wait_s))
    caplog.set_level("INFO", "spendfuse")
    with BrokerWatch(settings) as broker:
        worker = Worker(settings, Metrics(), broker)
        thread = threading.Thread(target=worker.run, daemon=True)
        thread.start()
        try:
            wait_until(lambda: "state restored" in caplog.messages, 60, "it has its partitions")
            spend(kafka_topics, "dear", 20, "e1")
            wait_until(lambda: values(kafka_topics, "control.v1"), 30, "the kill of the narrow policy")
        finally:
            worker.stop()
            thread.join(60)
            gc.enable()
    assert {alert["policy_version"] for alert in values(kafka_topics, "alerts.v1")} == {"narrow"}


def _arrived_at_first(policies: Policies, wait_s: float) -> PolicyChanged | None:
    """What stands on the topic when it is first read; nothing of later."""
    return None if policies._at_end else next(reversed(policies._arrived(wait_s)), None)


def test_only_a_signed_order_lifts_a_kill(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """Row 56: an order without a signature, with the engine's, or with one over other bytes becomes a dead letter, and
    so does a genuine one of another day that somebody copies. One given now lifts the kill, on an operator's word.
    """
    now_ms = wall_ms()
    order = Resume(
        message_id="order-1", ts_ms=now_ms, tenant_id=TENANT, who="ana", why="wanted", target=Target("run", "dear")
    )
    value = encode(order)
    signed = tuple(OperatorKey(OPERATOR_KEY.encode()).order_headers(TENANT, value))
    forged = [
        (),
        tuple(OperatorKey(ENGINE_KEY.encode()).order_headers(TENANT, value)),
        tuple(OperatorKey(OPERATOR_KEY.encode()).order_headers(TENANT, value + b" ")),
        tuple(OperatorKey(OPERATOR_KEY.encode()).order_headers("other", value)),
    ]
    control = kafka_topics.name("control.v1")
    with WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy_file(tmp_path, "v1", 10)) as worker:
        worker.wait_said("state restored")
        spend(kafka_topics, "dear", 12, "e1")
        worker.wait_said("command")
        orders = [Record(value, TENANT.encode(), headers, now_ms, 0) for headers in forged]
        old = encode(msgspec.structs.replace(order, ts_ms=now_ms - HOUR_MS))
        copied = OperatorKey(OPERATOR_KEY.encode()).order_headers(TENANT, old)
        orders.append(Record(old, TENANT.encode(), tuple(copied), now_ms - HOUR_MS // 3, 0))
        produce(kafka_topics.bootstrap, kafka_topics.name("operator.v1"), orders)
        worker.wait_said("dead letter", len(orders))
        assert len(commands_on(kafka_topics.bootstrap, control)) == 1, "a forged order led to a command"
        genuine = Record(value, TENANT.encode(), signed, now_ms, 0)
        produce(kafka_topics.bootstrap, kafka_topics.name("operator.v1"), [genuine])
        worker.wait_said("command", 2)
        assert worker.stop() == 0, worker.tail()
    kill, resume = commands_on(kafka_topics.bootstrap, control)
    assert [dict(each.headers)[KID_HEADER] for each in (kill, resume)] == [b"engine", b"operator"]
    assert [json.loads(each.value or b"")["action"] for each in (kill, resume)] == ["kill", "resume"]
    assert json.loads(resume.value or b"")["seq"] > json.loads(kill.value or b"")["seq"]
    letters = values(kafka_topics, "usage.dlq.v1")
    assert {letter["topic"] for letter in letters} == {kafka_topics.name("operator.v1")}
    assert [letter["reason"] for letter in letters] == ["bad_signature"] * len(forged) + ["bad_time"]


VERBS_POLICY = """
version = "verbs"
[[cap]]
name = "run-cost"
limit_usd = 10
thresholds = [1.0]
at_limit = "kill"
mode = "enforce"
[[budget]]
name = "monthly"
period = "month"
limit_usd = 14
thresholds = [1.0]
at_limit = "pause"
mode = "enforce"
"""


def test_orders_from_the_command_line_are_obeyed(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """What an operator types reaches the tenant's worker: a raised budget ends its incident and its pause, a resume
    lifts a kill, and the list shows who ordered what. A wrong budget, key or id is refused before anything is written;
    the beginning of an id is enough where it is no other's.
    """
    policy = tmp_path / "verbs.toml"
    policy.write_text(VERBS_POLICY, encoding="utf-8")
    _publish(kafka_topics, policy)
    now_ms = wall_ms()
    unknown = _type(kafka_topics, "ack", "no-incident")
    assert (unknown.returncode, "holds no incident 'no-incident' of acme" in unknown.stderr) == (2, True)
    assert _type(kafka_topics, "silence", "--match", "rule=monthly", "--for", "1h").returncode == 0
    (first,) = read_all(kafka_topics.bootstrap, kafka_topics.name("operator.v1"))
    home = first.partition or 0
    with WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix) as worker:
        worker.wait_said("operator message")
        spend(kafka_topics, "dear", 12, "e1", now_ms, home)
        worker.wait_said("command")
        spend(kafka_topics, "other", 4, "e2", now_ms, home)
        worker.wait_said("command", 3)  # to the run, and to the scope for those that come later
        raised = _type(kafka_topics, "exception", "--rule", "monthly", "--limit-usd", "100", "--for", "1h")
        assert "The budget monthly of acme is $100.00 until" in raised.stdout
        worker.wait_said("command", 5)
        used_up = _type(kafka_topics, "resume", "--run", "dear", "--limit-usd", "12")
        assert (used_up.returncode, "run dear has spent $12.00 already" in used_up.stderr) == (2, True)
        lifted = _type(kafka_topics, "resume", "run", "dear")
        assert (lifted.returncode, "Run dear is killed by run-cost since" in lifted.stdout) == (0, True)
        worker.wait_said("command", 6)
        wrong = _type(kafka_topics, "exception", "--rule", "monthli", "--limit-usd", "100", "--for", "1h")
        assert (wrong.returncode, "its budgets: monthly" in wrong.stderr) == (2, True)
        refused = _type(kafka_topics, "resume", "run", "dear", key=ENGINE_KEY)
        assert (refused.returncode, "the workers would refuse this order" in refused.stderr) == (2, True)
        for run, event in (("quiet-aa11", "e4"), ("quiet-ab22", "e5")):
            spend(kafka_topics, run, 1, event, now_ms, home)
        several = _type(kafka_topics, "kill", "--run", "quiet-a")
        assert (several.returncode, "did you mean quiet-aa11 or quiet-ab22?" in several.stderr) == (2, True)
        nobody = _type(kafka_topics, "kill", "--run", "quite-aa11")
        assert (nobody.returncode, "nobody has heard of the run 'quite-aa11'" in nobody.stderr) == (2, True)
        killed = _type(kafka_topics, "kill", "--run", "quiet-aa")
        assert (killed.returncode, "Run quiet-aa11 of acme must stop" in killed.stdout) == (0, True)
        assert [("A worker has obeyed at" in each.stdout, each.stderr) for each in (killed, lifted)] == [(True, "")] * 2
        worker.wait_said("command", 7)
        spend(kafka_topics, "other", 1, "e3", now_ms, home)
        worker.wait_applied({home: 4})
        assert worker.stop() == 0, worker.tail()
    commands = values(kafka_topics, "control.v1")
    runs = ("dear", "other", "quiet-aa11")
    by_run = {run: [one["action"] for one in commands if one["target"]["id"] == run] for run in runs}
    assert by_run == {"dear": ["kill", "resume"], "other": ["pause", "resume"], "quiet-aa11": ["kill"]}
    told = [(one["rule"], one["state"]) for one in values(kafka_topics, "alerts.v1")]
    assert told == [("run-cost", "open"), ("monthly", "open"), ("monthly", "resolved"), ("run-cost", "resolved")]
    orders = [json.loads(line) for line in _type(kafka_topics, "orders", "--json").stdout.splitlines()]
    assert [(one["order"]["type"], one["status"]) for one in orders] == [
        ("silence", "in force"), ("exception", "in force"), ("resume", "done"),
        ("kill", "in force"),
    ]  # fmt: skip
    assert {one["order"]["who"] for one in orders} == {"ana"}


def test_orders_that_no_worker_reads_are_said_to_wait(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """With no worker an order is kept and not obeyed: whoever gives it hears that, and may take it back. What was
    ordered is done in order when a worker comes.
    """
    waits = _type(kafka_topics, "kill", "--run", "r1", "--unseen")
    assert (waits.returncode, "no worker has obeyed within 5 s" in waits.stderr) == (0, True)
    other = _type(kafka_topics, "resume", "--run", "r2")
    assert (other.returncode, "nothing stands against the run 'r2'" in other.stderr) == (2, True)
    back = _type(kafka_topics, "resume", "--run", "r1")
    assert "by ana waits on operator.v1: no worker has obeyed it yet. This order lifts it" in back.stdout, back.stderr
    assert (back.returncode, "no worker has obeyed within 5 s" in back.stderr) == (0, True)
    with WorkerProcess(kafka_topics.bootstrap, kafka_topics.prefix, policy_file(tmp_path, "v1", 10)) as worker:
        worker.wait_said("command", 2)
        assert worker.stop() == 0, worker.tail()
    assert [command["action"] for command in values(kafka_topics, "control.v1")] == ["kill", "resume"]


@pytest.mark.parametrize("off_ms", [10 * MINUTE_MS, -40 * MINUTE_MS])
def test_an_order_of_a_wrong_clock_is_refused_with_what_to_do(kafka_topics: TopicSpace, off_ms: int) -> None:
    """The broker takes none that is of another time than its own; that is no time-out, and nothing was written."""
    settings = Settings(
        kafka_bootstrap=kafka_topics.bootstrap, prefix=kafka_topics.prefix, operator_key=SecretStr(OPERATOR_KEY)
    )
    off = SimpleNamespace(now_ms=lambda: wall_ms() + off_ms)
    with pytest.raises(BrokerError, match="the clock of this host differs from the broker's") as refused:
        OrderWriter(settings, cast("BrokerClock", off)).write(acknowledge(wall_ms() + off_ms, "i1"))
    assert "was not written" in str(refused.value)
    assert "may have been written" not in str(refused.value)


def _type(space: TopicSpace, verb: str, *words: str, key: str = OPERATOR_KEY) -> subprocess.CompletedProcess[str]:
    """What comes of typing a command."""
    given = {
        "SPENDFUSE_KAFKA_BOOTSTRAP": space.bootstrap, "SPENDFUSE_PREFIX": space.prefix, "SPENDFUSE_OPERATOR_KEY": key,
        "LOGNAME": "ana",
    }  # fmt: skip
    why = () if verb == "orders" else ("--why", "load test")
    command = [sys.executable, "-m", "streams", verb, *words, "--tenant", TENANT, *why]
    return subprocess.run(command, cwd=ROOT, env=given, check=False, capture_output=True, timeout=60, text=True)


def _publish(space: TopicSpace, policy: Path) -> None:
    given = {"SPENDFUSE_KAFKA_BOOTSTRAP": space.bootstrap, "SPENDFUSE_PREFIX": space.prefix}
    command = [sys.executable, "-m", "streams", "policy", "publish", str(policy)]
    subprocess.run(command, cwd=ROOT, env=given, check=True, capture_output=True, text=True, timeout=60)
