"""A broker that asks for a name and a password, and allows each part of the service only what `access.toml` says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it offers these names, but does not export them
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)
from pydantic import SecretStr

from infra.kafka.access import Right, commands, rights, roles
from infra.kafka.access import main as print_commands
from infra.kafka.jars import KafkaUnavailableError
from infra.kafka.local import LocalKafka
from schemas.control import Target
from schemas.operator import Resume
from schemas.topics import load_topics
from streams.__main__ import main
from streams.clock import wall_ms
from streams.kafka.admin import topics_on_broker
from streams.kafka.client import Admin
from streams.kafka.order_writer import OrderWriter
from streams.kafka.topics import apply, drifted
from streams.reconcile.days import day_of
from streams.settings import Settings
from tests.conftest import do_without
from tests.integration.test_topics import set_config
from tests.support.console_process import ConsoleProcess, Reader
from tests.support.consoles import MESSAGES, Consoles, messages
from tests.support.kafka import Record, commands_on, fresh_prefix, produce, wait_until
from tests.support.messages import DAY_MS
from tests.support.providers import SECRET
from tests.support.service_process import OPERATOR_KEY, ServiceProcess

TENANT = "acme"
PASSWORD = "only-in-this-test"
ADMINISTRATOR = "administrator"
POLICY = """
version = "access"
[[cap]]
name = "run-cost"
limit_usd = 10
at_limit = "kill"
mode = "enforce"
"""


class Guarded:
    """A broker with logins, and one installation on it. Every role has a user of its own name."""

    def __init__(self, kafka: LocalKafka, prefix: str) -> None:
        self.kafka = kafka
        self.prefix = prefix

    def variables(self, role: str) -> dict[str, str]:
        """Settings of a process that acts in this role."""
        return {
            "KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "PREFIX": self.prefix,
            "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "KAFKA_SASL_MECHANISM": "PLAIN",
            "KAFKA_SASL_USERNAME": role,
            "KAFKA_SASL_PASSWORD": PASSWORD,
        }

    def settings(self, role: str) -> Settings:
        """The same for a client in this process."""
        given = {name.lower(): value for name, value in self.variables(role).items()}
        return Settings.model_validate({**given, "operator_key": SecretStr(OPERATOR_KEY)})

    def grant(self, role: str, but: Right | None = None, *, to: str | None = None) -> None:
        """Allow a role what the file says, or all of it but one right; or another role's user beside its own rights."""
        admin = Admin(self.settings(ADMINISTRATOR))
        wanted = [right.binding(f"User:{to or role}") for right in rights(role, self.prefix) if right != but]
        for future in admin.create_acls(wanted, request_timeout=10).values():
            future.result(20)

    def withdraw(self, role: str) -> None:
        """Allow a role nothing; it sees no topic any more when this returns."""
        admin = Admin(self.settings(ADMINISTRATOR))  # held in a name: the request dies with its client
        every: tuple[Any, ...] = (
            ResourceType.ANY, None, ResourcePatternType.ANY, f"User:{role}", None, AclOperation.ANY,
            AclPermissionType.ANY,
        )  # fmt: skip
        found = AclBindingFilter(*every)
        for future in admin.delete_acls([found], request_timeout=10).values():
            future.result(20)
        reader = Admin(self.settings(role))  # a broker acts on a withdrawn right some time after it has agreed to it
        wait_until(lambda: not topics_on_broker(reader), 20, f"{role} sees nothing")

    def worker(self, policy: Path, **settings: object) -> ServiceProcess:
        """A worker under its own rights."""
        given = {"POLICY": policy, "SLOT": "0", "WATCHDOG_S": 3, "RESTORE_TIMEOUT_S": 20, **settings}
        return ServiceProcess(["streams", "worker"], {**self.variables("worker"), **given})

    def spend(self, run: str, usd: int, event: str, ago_ms: int = 0) -> None:
        """A model call, as an agent writes it, made so long ago."""
        now_ms = wall_ms()  # an order is appended at the real time, and what is a day before it is too late to count
        call = {
            "type": "llm_call", "event_id": event, "ts_ms": now_ms - ago_ms, "tenant_id": TENANT, "run_id": run,
            "model": "m", "cost_nanousd": usd * 10**9,
        }  # fmt: skip
        record = Record(json.dumps(call).encode(), TENANT.encode(), (), now_ms, 0)
        login = self.kafka.client_config("agent")
        produce(self.kafka.bootstrap, f"{self.prefix}usage.v1", [record], idempotent=False, login=login)

    def commands(self) -> list[tuple[str, str]]:
        """Action and target of every command, as an agent's guard reads them."""
        login = self.kafka.client_config("agent")
        config = {"group.id": "spendfuse-guard-test"}
        found = commands_on(self.kafka.bootstrap, f"{self.prefix}control.v1", login | config)
        values = [json.loads(record.value or b"") for record in found]
        return [(value["action"], value["target"]["id"]) for value in values]


@pytest.fixture(scope="module")
def asking() -> Iterator[LocalKafka]:
    """A broker that asks for a login and allows nothing by itself."""
    try:
        broker = LocalKafka(logins=dict.fromkeys((ADMINISTRATOR, *roles()), PASSWORD))
    except KafkaUnavailableError as error:
        do_without(str(error))
    yield broker
    broker.stop()


@pytest.fixture
def guarded(asking: LocalKafka, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guarded]:
    """An installation of this test's own, its topics made by `topics apply` under the rights of the installer."""
    space = Guarded(asking, fresh_prefix())
    for role in roles():
        space.grant(role)
    act_as(monkeypatch, space, "installer")
    assert main(["topics", "apply"]) == 0
    yield space
    for role in roles():
        space.withdraw(role)


def act_as(monkeypatch: pytest.MonkeyPatch, space: Guarded, role: str, **other: str) -> None:
    """Commands of this process are given in this role from now on."""
    for name, value in {**space.variables(role), "PARTITIONS": "1", **other}.items():
        monkeypatch.setenv(f"SPENDFUSE_{name}", value)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A cap of ten dollars a run."""
    path = tmp_path / "policy.toml"
    path.write_text(POLICY, encoding="utf-8")
    return path


def test_topics_are_applied_and_checked_under_a_login(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tools log in like everything else; a wrong password is named as such, with code 4 and what to look at, long
    before anybody would give up a silent broker.
    """
    assert main(["topics", "check"]) == 0
    assert capsys.readouterr().out.endswith("all topics are as declared\n")
    act_as(monkeypatch, guarded, "installer", KAFKA_SASL_PASSWORD="wrong")
    monkeypatch.setattr("streams.kafka.admin.REQUEST_TIMEOUT_S", 600)
    assert main(["topics", "check"]) == 4
    said = capsys.readouterr().err
    assert "refuses the login" in said
    assert "SPENDFUSE_KAFKA_SECURITY_PROTOCOL, _SASL_MECHANISM, _SASL_USERNAME, _SASL_PASSWORD" in said


def test_whoever_may_not_look_is_told_so(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without any right there are no topics to be seen: that is not said as if they did not exist."""
    guarded.withdraw("operator")
    act_as(monkeypatch, guarded, "operator", OPERATOR_KEY=OPERATOR_KEY)
    assert main(["orders"]) == 4
    said = capsys.readouterr().err
    assert "may not see them" in said
    assert "python -m infra.kafka.access" in said
    assert main(["doctor"]) == 1
    assert "if they are there, grant the" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("role", "words", "code"),
    [
        ("reader", "kill --run never-seen --unseen --tenant acme --why odd", 4),
        ("worker", "policy publish {policy}", 4),
        ("worker", "topics apply", 2),
    ],
)
def test_whoever_may_not_write_is_told_how_to_get_the_right(
    guarded: Guarded,
    policy: Path,
    role: str,
    words: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A command in another role's hands says that a right is missing, and what prints the commands that grant it."""
    prefix = f"{guarded.prefix}new." if words == "topics apply" else guarded.prefix
    act_as(monkeypatch, guarded, role, OPERATOR_KEY=OPERATOR_KEY, PREFIX=prefix)
    assert main(words.format(policy=policy).split()) == code
    [line] = capsys.readouterr().err.splitlines()
    assert "authorization failed" in line.lower()
    assert "What is missing is the right to " in line
    assert "python -m infra.kafka.access" in line


def test_the_documented_rights_are_enough(guarded: Guarded, policy: Path) -> None:
    """Agent, worker, alerting and operator, each with its own rights alone: a run is killed, told of, resumed; and
    again after a restart. Alerting sees the settings of topics that it does not read.
    """
    with guarded.worker(policy) as worker:
        worker.wait_said("state restored")
        guarded.spend("greedy", 12, "e1")
        worker.wait_said("command")
        alerting = guarded.variables("alerting") | {"POLICY": str(policy), "SLOT": "0", "ALERTS_FROM": "earliest"}
        with ServiceProcess(["alerting"], dict(alerting)) as teller:
            teller.wait_said("deliveries restored")
            teller.wait_for(lambda: "run-cost" in teller.text, 30, "the alert on the console")
            assert teller.stop() == 0, teller.tail()
        order = Resume(
            message_id="m1", tenant_id=TENANT, ts_ms=wall_ms(), who="ana", why="a test", target=Target("run", "greedy")
        )
        OrderWriter(guarded.settings("operator")).write(order)
        worker.wait_said("command", times=2)
        assert worker.stop() == 0, worker.tail()
    assert guarded.commands() == [("kill", "greedy"), ("resume", "greedy")]
    with guarded.worker(policy) as worker:
        worker.wait_said("state restored")
        guarded.spend("greedier", 12, "e2")
        worker.wait_said("command")
        assert worker.stop() == 0, worker.tail()
    assert guarded.commands()[2:] == [("kill", "greedier")]
    teller_sees = Admin(guarded.settings("alerting"))
    assert drifted(teller_sees, guarded.prefix) == []
    set_config(Admin(guarded.settings(ADMINISTRATOR)), f"{guarded.prefix}usage.v1", "retention.ms", "60000")
    [found] = wait_until(lambda: drifted(teller_sees, guarded.prefix), 10, "the retention is seen")
    assert found.effect, "it loses usage"


def test_a_reader_sees_everything_and_changes_nothing(
    guarded: Guarded, policy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Why, story, incidents, dead letters and doctor need the rights of `reader` alone, which orders nothing. Without
    them the doctor says of each thing that it may not be looked at, and who grants it. Who books what came too late
    needs those of `backfill`.
    """
    with guarded.worker(policy) as worker:
        guarded.spend("greedy", 12, "e1")
        worker.wait_said("command")
        act_as(monkeypatch, guarded, "reader", OPERATOR_KEY=OPERATOR_KEY)
        said = {}
        for words in ("why greedy", "story --run greedy", "incidents", "dlq", "doctor"):
            main(words.split())
            said[words] = capsys.readouterr().out
        guarded.spend("late", 1, "e2", ago_ms=2 * DAY_MS)
        act_as(monkeypatch, guarded, "backfill")
        wait_until(lambda: is_booked(capsys), 30, "the late call set aside, and booked")
        act_as(monkeypatch, guarded, "reader", OPERATOR_KEY=OPERATOR_KEY)
        assert worker.stop() == 0, worker.tail()
    assert said["why greedy"].startswith("Run greedy of acme is killed.")
    assert "kill run greedy" in said["story --run greedy"]
    assert said["incidents"].startswith("1 open incident\n")
    assert said["dlq"] == "no dead letters\n"
    assert "not known: The broker did not" not in said["doctor"], said["doctor"]
    assert f"all {len(load_topics())} as declared" in said["doctor"], said["doctor"]
    for words in ("kill --run greedy --tenant acme --why w", f"policy publish {policy}"):
        assert main(words.split()) == 4
        assert "does not allow it" in capsys.readouterr().err
    guarded.withdraw("reader")
    assert main(["doctor"]) == 1
    doctor = capsys.readouterr().out
    assert "missing, or not to be seen" in doctor


def test_reconciliation_needs_its_own_rights_alone(
    guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It reads usage and its facts and writes facts; what it is told is written, and read back at the next pass."""
    file, day = tmp_path / "reconcile.toml", day_of(wall_ms() - DAY_MS)
    act_as(monkeypatch, guarded, "reconciler")
    monkeypatch.setenv("ADMIN_KEY", SECRET)
    with Consoles() as consoles:
        file.write_text(
            f'[[console]]\nname = "claude"\nsource = "anthropic"\nsecret_env = "ADMIN_KEY"\nlag_hours = 0\n'
            f'base_url = "{consoles.address}"\n'
        )
        for tokens in (1_000_000, 2_000_000):
            consoles.rows[MESSAGES][day] = [messages("apikey_1", "claude-opus-4-5", tokens, 0)]
            assert main(["reconcile", "run", str(file)]) == 3
            said = capsys.readouterr().out
            assert f"{tokens:,}" in said
            assert ("corrected by the provider" in said) is (tokens == 2_000_000)


def test_a_later_generation_needs_the_rights_of_generations(
    guarded: Guarded, policy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its topics are made by the installer. With the role `worker` alone it is not filled, and whoever tries is told
    what is missing; with `generations` beside it, it is filled next to a worker, taken over, and kills come from it.
    """
    act_as(monkeypatch, guarded, "installer", STATE_GENERATION="2")
    assert main(["topics", "apply"]) == 0
    fill = ["rebuild", "--from-input", "--generation", "2"]
    with guarded.worker(policy) as worker:
        guarded.spend("greedy", 12, "e1")
        worker.wait_said("command")
        act_as(monkeypatch, guarded, "worker", STATE_GENERATION="1", POLICY=str(policy))
        assert main(fill) == 4
        assert "python -m streams topics apply" in capsys.readouterr().err
        guarded.grant("generations", to="worker")
        wait_until(lambda: main(fill) == 0, 30, "it is filled, once the broker acts on the rights")
        assert "Replace them now" in capsys.readouterr().out
        assert worker.stop() == 0, worker.tail()
    with guarded.worker(policy, STATE_GENERATION=2) as later:
        later.wait_said("partition taken over from the generation before")
        guarded.spend("other", 12, "e2")
        later.wait_said("command")
        assert later.stop() == 0, later.tail()
    assert sorted(guarded.commands()) == [("kill", "greedy"), ("kill", "other")]


def test_a_sink_needs_its_own_rights_alone(
    guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It reads what the tables are made of, and writes to no topic; one that may not says what is missing."""
    act_as(monkeypatch, guarded, "sink")
    assert main(["sink", "--to", f"duckdb:///{tmp_path}/events.duckdb", "--once"]) == 0
    guarded.withdraw("sink")
    assert main(["sink", "--to", f"duckdb:///{tmp_path}/events.duckdb", "--once"]) == 4
    assert "may not see them" in capsys.readouterr().err


def test_the_page_shows_all_of_it_with_its_own_rights(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every view, the calls of a run and the review among them, with what the role `console` may read."""
    act_as(monkeypatch, guarded, "keymaker", OPERATOR_NAME="ana")
    assert main(["keys", "create", "--tenant", TENANT, "--may", "read"]) == 0
    key = capsys.readouterr().out.strip()
    guarded.spend("cheap", 1, "e1")
    with ConsoleProcess(guarded.kafka.bootstrap, guarded.prefix, None, **guarded.variables("console")) as console:
        console.wait_ready()
        reader = Reader(console.console_port, key)
        wait_until(lambda: ">m<" in reader.get(f"/run?tenant={TENANT}&run=cheap").text, 20, "the run's call is shown")
        week = reader.get("/week").text.split("/week?week=")[1][:8]
        assert "Weekly review" in reader.get(f"/week/review?week={week}").text
        assert console.stop() == 0, console.tail()


def is_booked(capsys: pytest.CaptureFixture[str]) -> bool:
    """Whether there was something to book, and it was written."""
    assert main(["backfill", "--since", "1h", "--yes"]) == 0
    return "written: 1." in capsys.readouterr().out


@pytest.fixture(scope="module")
def in_use(asking: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Guarded:
    """An installation whose worker has something to read back."""
    space = Guarded(asking, fresh_prefix())
    for role in ("worker", "agent"):
        space.grant(role)
    apply(Admin(space.settings(ADMINISTRATOR)), space.prefix, partitions=1, replication=1)
    policy = tmp_path_factory.mktemp("access") / "policy.toml"
    policy.write_text(POLICY, encoding="utf-8")
    with space.worker(policy) as worker:
        space.spend("greedy", 12, "e1")
        worker.wait_said("command")
        assert worker.stop() == 0, worker.tail()
    return space


@pytest.mark.parametrize("missing", rights("worker"), ids=lambda right: f"{right.operation.name}-{right.name}")
def test_a_right_that_is_missing_is_said(in_use: Guarded, policy: Path, missing: Right) -> None:
    """The least is the least: without any one of its rights a worker ends with code 4 and says what is missing."""
    in_use.withdraw("worker")
    in_use.grant("worker", but=missing._replace(name=f"{in_use.prefix}{missing.name}"))
    in_use.spend(
        f"greedier-{missing.name}", 12, f"e-{missing.operation.name}-{missing.name}"
    )  # a worker before it may have got as far as the last one
    with in_use.worker(policy) as worker:
        assert worker.wait_exit(60) == 4, worker.tail()
        last = worker.text.splitlines()[-1]
    assert "may not see" in last or "does not allow" in last
    assert missing.resource.name.lower().replace("_", " ") in last, "which right it is"


def test_every_topic_of_a_role_is_declared() -> None:
    """A right on a topic that does not exist is a spelling mistake."""
    given = [right for role in roles() for right in rights(role) if right.resource is ResourceType.TOPIC]
    beginnings = {right.name for right in given if right.every}
    topics = load_topics(generation=2).keys()
    assert {right.name for right in given} - beginnings <= topics
    assert all(any(name.startswith(beginning) for name in topics) for beginning in beginnings)


def test_rights_are_those_of_the_installation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under the prefix that the settings have, unless another one is given."""
    monkeypatch.setenv("SPENDFUSE_PREFIX", "prod.")
    assert print_commands(["worker", "--principal", "User:engine"]) == 0
    assert "--topic prod.usage.v1" in capsys.readouterr().out
    assert print_commands(["worker", "--principal", "User:engine", "--prefix", ""]) == 0
    assert "--topic usage.v1" in capsys.readouterr().out


def test_rights_are_printed_as_commands() -> None:
    """Whoever grants them need not read the file: prefixes, groups and transactional ids are spelled out."""
    lines = list(commands("worker", "User:engine", "prod."))
    assert any("--topic prod.state.v1 --operation Read --operation Write" in line for line in lines)
    assert any("--transactional-id prod.engine- --resource-pattern-type prefixed" in line for line in lines)
    assert any("--group prod.spendfuse-engine --operation Read" in line for line in lines)
    assert any("--topic '*' --operation Create" in line for line in commands("installer", "User:ops"))
