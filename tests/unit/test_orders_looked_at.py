"""Before an order is written, what it would meet is looked at and said; one that would change nothing is refused."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from infra.kafka.embedded import EmbeddedBroker
from models.rules.policy import Policy, read_policy_toml
from schemas.alert import Alert
from schemas.control import Command, Target
from schemas.duration import MINUTE_MS
from schemas.errors import SettingsError
from schemas.operator import Kill, OperatorMessage
from schemas.signing import OperatorKey
from streams.__main__ import main
from streams.clock import BrokerClock
from streams.kafka.records import Records
from streams.notifier.process import publishing
from streams.service_alert import IN_NO_POLICY
from streams.settings import Settings, read_settings
from streams.tools.order import TopicFacts
from streams.tools.orders.audit import read_orders
from streams.tools.orders.registry import VERBS, give
from streams.tools.orders.verb import UnknownFactError
from tests.support.facts import NOW_MS, alert, command, key_of, put
from tests.support.kafka import Record, produce
from tests.support.messages import acknowledge
from tests.support.words import order

KEY = "the root key of operators, in tests"


@dataclass
class KnownFacts:
    """Facts as a test says; what it leaves out cannot be known."""

    commands: list[Command] | None = None
    alerts: list[Alert] | None = None
    rules: str | None = None
    kills: tuple[Kill, ...] = ()
    ids: tuple[str, ...] | None = ("r1", "r1-long", "run-77", "acme")
    asked: list[str] = field(default_factory=list)

    def policy(self) -> Policy:
        """The policy, if there is one."""
        self.asked.append("policy")
        if self.rules is None:
            raise UnknownFactError("policy.v1 is empty")
        return read_policy_toml(self.rules)

    def active_command(self, tenant_id: str, target: Target) -> Command | None:
        """The command to just this target."""
        self.asked.append("standing")
        if self.commands is None:
            raise UnknownFactError("control.v1 cannot be read")
        return next((each for each in self.commands if (each.tenant_id, each.target) == (tenant_id, target)), None)

    def commanded(self, tenant_id: str) -> list[Command]:
        """Every command."""
        if self.commands is None:
            raise UnknownFactError("control.v1 cannot be read")
        return [each for each in self.commands if each.tenant_id == tenant_id]

    def pending_kills(self, tenant_id: str) -> list[Kill]:
        """Kills that no worker has obeyed."""
        return [each for each in self.kills if each.tenant_id == tenant_id]

    def seen(self, tenant_id: str, kind: str, typed: str) -> set[str]:
        """The ids that the test says, of whatever kind."""
        if self.ids is None or self.commands is None:
            raise UnknownFactError("usage.v1 cannot be read")
        assert tenant_id == "acme"
        assert kind
        return {typed} if typed in self.ids else {each for each in self.ids if each.startswith(typed)}

    def incidents(self, tenant_id: str) -> dict[str, Alert]:
        """The tenant's incidents."""
        self.asked.append("incidents")
        if self.alerts is None:
            raise UnknownFactError("alerts.v1 cannot be read")
        return {each.incident_id: each for each in self.alerts if each.tenant_id == tenant_id}


def given_out(words: str, facts: KnownFacts) -> list[OperatorMessage]:
    """What is written after the words."""
    written: list[OperatorMessage] = []
    made = order(f"{words} --tenant acme --why w", "ana", NOW_MS)
    verb = next(each for each in VERBS if each.name == words.split(maxsplit=1)[0])
    give(verb, made, facts, written.append)
    return written


IN_S1 = command(target=Target("session", "s1"))
WAITING = Kill(
    message_id="op-1", ts_ms=NOW_MS - MINUTE_MS, tenant_id="acme", who="ben", why="w", target=Target("run", "r9")
)
STANDING = "Run r1 is killed by run-cost since "
SAID: list[tuple[str, KnownFacts, list[str]]] = [
    ("kill --run r1", KnownFacts([command()]), [STANDING, "It spent $5.01."]),
    ("kill --run r1", KnownFacts([]), ["Run r1 of acme must stop, and stays stopped until somebody resumes it."]),
    ("kill --run r1 --for 1h", KnownFacts([]), ["Run r1 of acme must stop, and stays stopped until "]),
    ("kill --all", KnownFacts([]), ["Tenant acme must stop"]),
    ("resume run r1", KnownFacts([command()]), [STANDING, "with one more allowance of the limit that stopped it"]),
    ("resume run r1", KnownFacts([command("pause")]), ["Run r1 is paused by run-cost since"]),
    ("resume run r1", KnownFacts([command("downgrade")]), ["Run r1 must use a cheaper model by run-cost since"]),
    ("resume run r2", KnownFacts([command()], [alert(run_id="r2")]),
     ["Nothing on control.v1 stands against run r2 now.", "may go on"]),
    ("resume --tree t1", KnownFacts([command()], [alert(evidence={"held_target": "run_tree/t1"})]),
     ["Nothing on control.v1 stands against run tree t1 now."]),
    ("resume run r", KnownFacts([command()]), [STANDING, "Run r1 of acme may go on"]),
    ("kill --run run-", KnownFacts([]), ["Run run-77 of acme must stop"]),
    ("ack i", KnownFacts(alerts=[alert("i1-and-more")]), ["It is about: Run r1 has spent $5.01.", "i1-and-more"]),
    ("snooze i1-", KnownFacts(alerts=[alert("i1-and-more")]), ["i1-and-more"]),
    ("silence --match incident_id=i1- --for 1h", KnownFacts(alerts=[alert("i1-and-more")]), ["i1-and-more"]),
    ("silence --match run_id=run --for 1h", KnownFacts([], [alert(run_id="run-77")]),
     ["Open now, and muted by it: 1", "run-77"]),
    ("resume run r1 --limit-usd 6", KnownFacts([command()], [alert()]), [STANDING, ", up to $6.00 in all."]),
    ("resume run r1 --limit-usd 1", KnownFacts([command()], [alert("i2")]), [", up to $1.00 in all."]),
    ("resume run r1 --for 1h", KnownFacts([command()]), [STANDING, "and spend again, until "]),
    ("resume run r1", KnownFacts([command(), IN_S1, command(target=Target("run", "r2"))]),
     ["Stopped as well: session s1. What belongs to one of them goes on only when that is lifted, too."]),
    ("resume --session s1", KnownFacts([IN_S1, command("pause", target=Target("scope", "a/b"))]),
     ["Stopped as well: scope a/b. "]),
    ("resume run r9", KnownFacts([], [], kills=(WAITING,)),
     ["by ben waits on operator.v1: no worker has obeyed it yet. This order lifts it", "Run r9 of acme may go on"]),
    ("resume run r", KnownFacts([], [], kills=(WAITING,)), ["Run r9 of acme may go on"]),
    ("resume scope a/b", KnownFacts([command(target=Target("scope", "a/b"))]),
     ["Scope a/b is killed by run-cost", "one more allowance of it until its period ends"]),
    ("ack i1", KnownFacts(alerts=[alert()]), ["It is about: Run r1 has spent $5.01."]),
    ("snooze i1", KnownFacts(alerts=[alert(state="resolved")]), ["That incident has ended"]),
    ("feedback i1 noise", KnownFacts(alerts=[alert()]), ["It is about: Run r1"]),
]  # fmt: skip


@pytest.mark.parametrize(("words", "facts", "said"), SAID, ids=[f"{row[0]} {at}" for at, row in enumerate(SAID)])
def test_what_is_said_of_an_order(
    words: str, facts: KnownFacts, said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What stands now, then what the order means: whoever gives it sees whether it is the one they meant."""
    given_out(words, facts)
    found = capsys.readouterr()
    assert [each for each in said if each not in found.out] == []
    assert found.err == ""


@pytest.mark.parametrize(
    "words",
    [
        "silence --match rule=run-cost --for 1h",
        "silence --match rule=heartbeat-rule --for 1h",
        "silence --match severity=warning --for 1h",
        "silence --all --for 1h",
    ],
)
def test_a_silence_of_known_rules_raises_no_doubt(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A rule of the policy, or one that an open incident is of, is spelt right."""
    rules = 'include_defaults = false\n[[cap]]\nname = "run-cost"\nlimit_usd = 5\n'
    given_out(words, KnownFacts(alerts=[alert(rule="heartbeat-rule")], rules=rules))
    assert "Nobody is notified of " in capsys.readouterr().out


REFUSED: list[tuple[str, KnownFacts, str]] = [
    ("ack i9", KnownFacts(alerts=[alert()]), "alerts.v1 holds no incident 'i9' of acme: look at the id"),
    ("ack i1", KnownFacts(alerts=[alert(tenant_id="globex")]), "holds no incident 'i1' of acme"),
    ("ack i1", KnownFacts(alerts=[]), "holds no incident 'i1' of acme"),
    ("snooze i", KnownFacts(alerts=[alert("i1"), alert("i2")]), "did you mean i1 or i2?"),
    ("kill --run r", KnownFacts([]), "did you mean r1 or r1-long or run-77?"),
    ("kill --run r9", KnownFacts([]), "nobody has heard of the run 'r9' of acme within a day"),
    ("kill --tree r9", KnownFacts([]), "nobody has heard of the run tree 'r9'"),
    ("kill --all", KnownFacts([], ids=()), "nobody has heard of the tenant 'acme'"),
    ("resume run r9", KnownFacts([command()], []), "nothing stands against the run 'r9' of acme: look at the id"),
    ("resume run r9", KnownFacts([command()], []), "and the tenant; what stands: r1"),
    ("resume run r9", KnownFacts([IN_S1], []), "what stands: session s1"),
    ("resume --tree r1", KnownFacts([command()], [alert()]), "nothing stands against the run tree 'r1'"),
    ("silence --match rule=run-cots --for 1h", KnownFacts(alerts=[alert()], rules=""), "there is no rule 'run-cots'"),
    ("silence --match run_id=r9 --for 1h", KnownFacts([], [alert()]), "nobody has heard of the run 'r9'"),
    ("silence --match incident_id=i9 --for 1h", KnownFacts(alerts=[alert()]), "holds no incident 'i9'"),
    ("feedback i9 useful", KnownFacts(alerts=[alert()]), "holds no incident 'i9'"),
    ("resume run r1", KnownFacts([command(issued_ms=NOW_MS + 6 * MINUTE_MS)]), "clock of this host is 6 min behind"),
    ("resume run r1 --limit-usd 5.01", KnownFacts([command()], [alert()]), "has spent $5.01 already"),
    ("resume run r1 --limit-usd 2", KnownFacts([command()], [alert()]), "the limit must lie above"),
    ("resume run r1 --limit-usd 9", KnownFacts([command()], [alert(unit="calls", value=9)]), "which counts no money"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "facts", "says"), REFUSED, ids=[row[0] for row in REFUSED])
def test_an_order_that_would_change_nothing_is_refused(words: str, facts: KnownFacts, says: str) -> None:
    """A misspelt incident or a limit that is used up is told at once, and nothing is written."""
    with pytest.raises(SettingsError) as caught:
        given_out(words, facts)
    assert says in str(caught.value)


@pytest.mark.parametrize("rule", sorted(IN_NO_POLICY))
def test_what_no_policy_holds_can_be_silenced(rule: str) -> None:
    """Alerts about the service itself are of rules that stand in no policy: their names are known here as well."""
    assert len(given_out(f"silence --match rule={rule} --for 1h", KnownFacts(alerts=[], rules=""))) == 1


@pytest.mark.parametrize(
    "words",
    [
        "kill --run r1",
        "resume run r1 --limit-usd 1",
        "ack i1",
        "snooze i1",
        "feedback i1 noise",
        "silence --match rule=a --for 1h",
        "exception --rule hourly --limit-usd 5 --for 1h",
    ],
)
def test_what_cannot_be_looked_at_stops_no_order(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A kill must not wait for a topic that cannot be read: the order is written, and what was not checked is said."""
    assert len(given_out(words, KnownFacts())) == 1
    assert "not checked before it is written: " in capsys.readouterr().err


def test_what_has_not_begun_can_be_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody who knows better says so; the id is then what was typed."""
    made = order("kill --run later --unseen --tenant acme --why w", "ana", NOW_MS)
    written: list[OperatorMessage] = []
    give(next(each for each in VERBS if each.name == "kill"), made, KnownFacts([]), written.append, unseen=True)
    assert written == [made]
    assert "Run later of acme must stop" in capsys.readouterr().out


def test_the_key_that_workers_refuse_writes_nothing(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """An order signed with the wrong key is refused where it is typed, and not where nobody looks."""
    worker = {
        "SPENDFUSE_ENGINE_KEY": "the root key of the engine, in tests",
        "SPENDFUSE_OPERATOR_PUBLIC_KEY": "07" * 32,
    }
    check = Records(read_settings(worker)).key_check("acme")
    assert check is not None
    put(settings.kafka_bootstrap, "alerts.v1", alert())
    record = Record(check.value, check.key, tuple(check.headers or ()), NOW_MS, 0)
    produce(settings.kafka_bootstrap, "control.v1", [record])
    ours = ["ack", "i1", "--tenant", "acme", "--why", "w"]
    assert main(ours) == 2
    assert "the workers would refuse this order" in capsys.readouterr().err
    by_button = publishing(settings, BrokerClock())
    with pytest.raises(SettingsError, match="the workers would refuse this order"):
        asyncio.run(pressed(by_button))
    assert read_orders(settings) == []
    worker["SPENDFUSE_OPERATOR_PUBLIC_KEY"] += f",{OperatorKey(KEY.encode()).public_key.hex()}"
    check = Records(read_settings(worker)).key_check("acme")
    assert check is not None
    record = Record(check.value, check.key, tuple(check.headers or ()), NOW_MS + 1, 0)
    produce(settings.kafka_bootstrap, "control.v1", [record])
    assert main(ours) == 0
    asyncio.run(pressed(by_button))
    assert len(read_orders(settings)) == 2


async def pressed(publish: Callable[[OperatorMessage], Awaitable[None]]) -> None:
    """Somebody presses a button."""
    await publish(acknowledge(NOW_MS, "i1"))


@pytest.fixture
def settings(embedded: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A broker with topics, for the commands too."""
    embedded.create_topics("", 2)
    given = {
        "SPENDFUSE_KAFKA_BOOTSTRAP": embedded.bootstrap,
        "SPENDFUSE_OPERATOR_KEY": KEY,
        "SPENDFUSE_OPERATOR_NAME": "ana",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return read_settings(given)


def test_facts_come_from_the_topics(settings: Settings) -> None:
    """The last command per target, unless it has expired or is a resume; the newest alert of each incident of the
    tenant; what is unreadable or another's is left out.
    """
    names = ("killed", "resumed", "expired", "a/b|ü")
    runs = {name: Target("run", name) for name in names}
    put(
        settings.kafka_bootstrap, "control.v1",
        *(command(target=target) for target in runs.values()),
        command("resume", runs["resumed"], seq=2), command(target=runs["expired"], expires_ms=NOW_MS, seq=2),
        command("pause", runs["a/b|ü"], seq=2),
    )  # fmt: skip
    put(settings.kafka_bootstrap, "control.v1", command("resume", runs["killed"], tenant_id="globex", seq=9))
    produce(
        settings.kafka_bootstrap,
        "control.v1",
        [Record(b"{", key_of(command(target=runs["killed"])).encode(), (), 1, 0)],
    )
    put(
        settings.kafka_bootstrap,
        "alerts.v1",
        alert(),
        alert("i2"),
        alert(state="resolved"),
        alert("i3", tenant_id="globex"),
    )
    facts = TopicFacts(settings, NOW_MS)
    standing = {name: facts.active_command("acme", target) for name, target in runs.items()}
    assert {name: found and found.action for name, found in standing.items()} == {
        "killed": "kill", "resumed": None, "expired": None, "a/b|ü": "pause",
    }  # fmt: skip
    assert {name: found.state for name, found in facts.incidents("acme").items()} == {"i1": "resolved", "i2": "open"}
    with pytest.raises(UnknownFactError, match=r"policy\.v1 is empty"):
        facts.policy()


def test_the_command_line_looks_before_it_writes(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """Over a broker: a kill and its resume are written with what they meet, a wrong incident is exit 2."""
    put(settings.kafka_bootstrap, "control.v1", command(expires_ms=2 * NOW_MS))
    put(settings.kafka_bootstrap, "alerts.v1", alert())
    ours = ["--tenant", "acme", "--why", "w"]
    assert main(["kill", "--run", "r1", *ours]) == 0
    assert capsys.readouterr().out.startswith(STANDING)
    assert main(["resume", "--run", "r1", "--limit-usd", "5", *ours]) == 2
    assert "has spent $5.01 already" in capsys.readouterr().err
    assert main(["ack", "i9", *ours]) == 2
    assert "holds no incident 'i9' of acme" in capsys.readouterr().err
    assert main(["ack", "i1", *ours]) == 0
    assert main(["orders"]) == 0
    listed = capsys.readouterr().out
    assert "Run r1 of acme must stop" in listed
    assert "i9" not in listed
