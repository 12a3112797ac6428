"""What stands on control.v1 is what the engine has said, whoever else writes there."""

import json
from pathlib import Path
from typing import Any

import pytest
from spendfuse import Emitter, Guard, Stopped, derive_keys
from spendfuse.kafka import KafkaControl, KafkaTransport

from schemas.codec import encode
from schemas.control import Command, Target
from schemas.signing import KEY_CHECK, EngineKeys, control_key
from streams.clock import wall_ms
from tests.integration.test_orders_and_policies import policy_file, spend
from tests.support.kafka import Record, TopicSpace, produce, read_all, wait_until
from tests.support.worker_process import ENGINE_KEY, OPERATOR_PUBLIC_KEY, WorkerProcess

TENANT = "acme"
NEW_KEY = "the root key of the engine from now on, in tests"
DEAR = control_key(TENANT, "run", "dear").encode()
OTHER = control_key(TENANT, "run", "other").encode()


def on_key(space: TopicSpace, key: bytes) -> list[Any]:
    """The values under a key, as they were written."""
    found = [one for one in read_all(space.bootstrap, space.name("control.v1")) if one.key == key]
    return [None if one.value is None else json.loads(one.value) for one in found]


def write(space: TopicSpace, key: bytes, value: bytes | None, headers: tuple[tuple[str, bytes], ...] = ()) -> None:
    produce(space.bootstrap, space.name("control.v1"), [Record(value, key, headers)])


def forgeries(space: TopicSpace) -> list[Any]:
    """What was told of forged commands."""
    told = [json.loads(one.value or b"") for one in read_all(space.bootstrap, space.name("alerts.v1"))]
    return [one for one in told if one["rule"] == "forged-command"]


def forged(run: str) -> Command:
    """A kill that no engine gave."""
    now_ms = wall_ms()
    return Command(
        command_id="forged", action="kill", tenant_id=TENANT, target=Target("run", run), reason="mine", rule="mine",
        incident_id="mine", issued_ms=now_ms, expires_ms=now_ms + 3_600_000, seq=now_ms, cause_event_id=None,
        cause_ts_ms=now_ms,
    )  # fmt: skip


def test_a_kill_survives_whoever_writes_there(kafka_topics: TopicSpace, tmp_path: Path) -> None:
    """Row 56: a deleted kill is written again, by the worker that runs and by one that starts afterwards; a forged one
    is told of and answered. A guard that starts last obeys the kill and nothing else. When the engine's key is
    replaced, what stands is signed anew.
    """
    space, policy = kafka_topics, policy_file(tmp_path, "v1", 10)
    now_ms = wall_ms()
    with WorkerProcess(space.bootstrap, space.prefix, policy) as worker:
        worker.wait_said("state restored")
        spend(space, "dear", 12, "e1", now_ms)
        worker.wait_for(lambda: on_key(space, DEAR), 30, "the kill")
        checks = control_key(TENANT, KEY_CHECK, "engine").encode()
        worker.wait_for(lambda: on_key(space, checks), 30, "the key check")
        assert on_key(space, checks)[0]["operator_keys"] == [OPERATOR_PUBLIC_KEY]
        write(space, DEAR, None)
        worker.wait_for(lambda: len(on_key(space, DEAR)) == 3, 30, "the kill once more")
        value = encode(forged("other"))
        own = EngineKeys(b"what an agent might try").command_headers(forged("other"), value, "engine")
        write(space, OTHER, value, tuple(own))
        worker.wait_for(lambda: len(on_key(space, OTHER)) == 2, 30, "the answer")
        assert worker.stop() == 0, worker.tail()
    kill, _, again = on_key(space, DEAR)
    assert (again["command_id"], again["seq"], again["action"]) == (kill["command_id"], kill["seq"], "kill")
    assert on_key(space, OTHER)[1]["action"] == "resume"
    assert [one["severity"] for one in forgeries(space)] == ["critical"]
    write(space, DEAR, encode(forged("dear")))  # while no worker runs
    with (
        WorkerProcess(space.bootstrap, space.prefix, policy) as worker,
        Emitter(KafkaTransport(space.bootstrap, prefix=space.prefix)) as emitter,
    ):
        worker.wait_said("a command is gone from control.v1 and is written again")
        worker.wait_for(lambda: len(on_key(space, DEAR)) == 5, 30, "the kill once more")
        control, keys = KafkaControl(space.bootstrap, prefix=space.prefix), derive_keys(ENGINE_KEY.encode(), TENANT)
        with Guard(control, emitter, when_blind="stop", tenant_id=TENANT, keys=keys) as guard:
            assert guard.wait_ready(30), guard.waiting_for
            wait_until(lambda: not guard.blind, 30, f"nothing is unverifiable: {guard.waiting_for}")
            guard.check(emitter.run(tenant_id=TENANT, run_id="other"))
            with pytest.raises(Stopped) as stopped:
                guard.check(emitter.run(tenant_id=TENANT, run_id="dear"))
            assert stopped.value.command_id == kill["command_id"]
        assert worker.stop() == 0, worker.tail()
    assert len(on_key(space, checks)) == 1, "a key check that holds is written once"
    assert len(forgeries(space)) == 1
    replaced: dict[str, Any] = {"ENGINE_KEY": NEW_KEY, "ENGINE_KEY_BEFORE": ENGINE_KEY}
    with (
        WorkerProcess(space.bootstrap, space.prefix, policy, **replaced) as worker,
        Emitter(KafkaTransport(space.bootstrap, prefix=space.prefix)) as emitter,
    ):
        worker.wait_for(
            lambda: (len(on_key(space, DEAR)), len(on_key(space, checks))) == (6, 2), 30, "both signed anew"
        )
        control, keys = KafkaControl(space.bootstrap, prefix=space.prefix), derive_keys(NEW_KEY.encode(), TENANT)
        with Guard(control, emitter, when_blind="continue", tenant_id=TENANT, keys=keys) as guard:
            assert guard.wait_ready(30), guard.waiting_for
            with pytest.raises(Stopped) as stopped:
                guard.check(emitter.run(tenant_id=TENANT, run_id="dear"))
            assert stopped.value.command_id == kill["command_id"]
        assert worker.stop() == 0, worker.tail()
        assert worker.said("a command is signed anew, with the key that took the place of its own")
        assert not worker.said("a command is gone from control.v1 and is written again")
    assert len(forgeries(space)) == 1, "to replace a key is no forgery"
