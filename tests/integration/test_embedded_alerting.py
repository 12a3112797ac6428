"""`python -m alerting` on the embedded broker, as the demo runs it."""

from pathlib import Path

from infra.kafka.embedded import EmbeddedBroker
from streams.clock import wall_ms
from tests.support.alerting_process import TO_THE_HOOK, AlertingProcess, AlertLog, Listening
from tests.support.kafka import TopicSpace
from tests.support.receivers import webhook
from tests.support.telling import alert

PREFIX = "mock."


def test_it_tells_there_and_says_what_it_needs(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """That broker breaks the checksums of transactions' markers: without the setting alerting ends with a word about
    it, with the setting it tells.
    """
    space = TopicSpace(embedded.bootstrap, PREFIX, 2)
    embedded.create_topics(PREFIX, space.partitions)
    policy = tmp_path / "policy.toml"
    log = AlertLog(space)
    log.write(alert("one", at_ms=wall_ms()))
    with Listening(webhook()) as hook:
        policy.write_text(TO_THE_HOOK.format(url=hook.url), encoding="utf-8")
        with AlertingProcess(space.bootstrap, PREFIX, policy, {}, SLOT="checks") as process:
            assert process.wait_exit() == 3, process.tail()
            assert "SPENDFUSE_KAFKA_CHECK_CRCS=false" in process.text
        with AlertingProcess(space.bootstrap, PREFIX, policy, {}, SLOT="trusts", KAFKA_CHECK_CRCS=False) as process:
            log.write(alert("two", at_ms=wall_ms()))
            process.wait_for(lambda: "two" in [body["subject"] for body in hook.bodies], 90, "the second alert told")
            assert process.stop() == 0, process.tail()
