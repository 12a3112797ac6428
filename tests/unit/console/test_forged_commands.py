"""A record of control.v1 is a command on the page only where a guard would take it for one."""

import msgspec
from pydantic import SecretStr

from infra.kafka.embedded import EmbeddedBroker
from models.rules.policy import default_policy
from schemas.control import KeyCheck, Target
from schemas.duration import DAY_MS
from schemas.internal.spend import ALL_TENANTS
from schemas.signing import EngineKeys
from streams.clock import wall_ms
from streams.console.following import Following
from streams.console.run_known import run_known
from streams.console.state.book import MOST_FORGED, Book
from streams.console.state.commands import Commands
from streams.console.state.forged import Forged
from streams.console.views import now as now_view
from streams.console.views import run as run_view
from streams.kafka.order_reader import OrderReader
from streams.settings import Settings
from streams.tools.inspection.run_facts import RunKey
from tests.support.console_world import World, kill_of
from tests.support.kafka import wait_until

ROOT = "what the engine signs with, in these tests"
BEFORE = "what the engine signed with before, in tests"


def test_a_command_that_the_engine_did_not_sign_is_no_kill(embedded: EmbeddedBroker) -> None:
    """Unsigned, or signed by another key, it is shown as forged, on the page now and on the run's, and nothing counts
    it; the engine's own are kills, those under the key before this one as well. What a forged key check says of
    operators is not believed either.
    """
    embedded.create_topics("", 2)
    for engine, run in ((EngineKeys(ROOT.encode()), "real"), (EngineKeys(BEFORE.encode()), "older"),
                        (EngineKeys(b"x" * 32), "wrong"), (None, "bare")):  # fmt: skip
        World(embedded.bootstrap, "", engine=engine).commands(kill_of(run, reason=f"reason of {run}"))
    World(embedded.bootstrap, "").key_check(KeyCheck(tenant_id="acme", operator_keys=["00" * 32]))
    book = Book(default_policy())
    settings = Settings(
        kafka_bootstrap=embedded.bootstrap, engine_key=SecretStr(ROOT), engine_key_before=SecretStr(BEFORE)
    )
    with Following(settings, book):
        wait_until(lambda: len(book.forged("acme")) == 2, 20, "both are seen")
    assert {one.target.id for one in book.tenant("acme").commands.standing.values()} == {"real", "older"}
    assert not book.operator_keys
    shown = now_view.fragments(book, "acme", wall_ms())
    assert shown["stops"].count("forged kill") == 2
    assert "reason of wrong" not in shown["stops"], "nothing is said on a forger's word"
    assert ">2<" in shown["figures"], "two kills are counted"
    news = now_view.news(book, "acme").values()
    assert "Forged, and obeyed by nobody: kill of run wrong" in news
    assert "Kill sent to run wrong" not in news
    known = run_known(book, OrderReader(()), RunKey("acme", "wrong"), wall_ms())
    page = run_view.fragments(known, None, "", {}, may_operate=True)
    assert "forged kill" in page["orders"]
    assert "killed" not in page["head"]


def test_without_a_key_the_page_says_that_it_checks_nothing(embedded: EmbeddedBroker) -> None:
    """Then whoever may write control.v1 is believed, as guards without keys believe them."""
    embedded.create_topics("", 1)
    World(embedded.bootstrap, "", engine=None).commands(kill_of("bare"))
    book = Book(default_policy())
    with Following(Settings(kafka_bootstrap=embedded.bootstrap), book):
        wait_until(lambda: bool(book.tenant("acme").commands.given), 20, "it is taken")
    assert "Who gave these is not checked" in now_view.fragments(book, "acme", wall_ms())["stops"]


def test_a_forger_makes_no_tenant_known_and_fills_no_memory() -> None:
    """Forged records are bounded in all, and seen by their tenant's readers and those of all tenants alone."""
    book = Book(default_policy())
    for number in range(MOST_FORGED + 50):
        book.take_forged(Forged(f"t{number}", "kill", Target("run", "r"), number, f"0/{number}"))
    assert not list(book.visible(ALL_TENANTS))
    assert len(book.forged(ALL_TENANTS)) == MOST_FORGED
    assert [one.tenant_id for one in book.forged("t249")] == ["t249"]


def test_a_copy_of_an_old_command_changes_nothing() -> None:
    """While a later one lasts; after its end the engine counts anew."""
    commands, kill = Commands(), kill_of("r", seq=1)
    resume = msgspec.structs.replace(kill, command_id="later", action="resume", seq=2)
    for one in (kill, resume, kill):
        commands.take(one)
    assert commands.run_command("acme", "r") is None
    later = msgspec.structs.replace(kill, command_id="anew", issued_ms=resume.expires_ms + DAY_MS)
    commands.take(later)
    assert commands.run_command("acme", "r") == later
