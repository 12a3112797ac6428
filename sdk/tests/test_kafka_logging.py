"""What the Kafka client says of itself reaches the agent's log, and does not flood it."""

import logging
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from spendfuse import Emitter, Guard
from spendfuse._client import logging as sdk_logging
from spendfuse._kafka.log import KafkaLog
from spendfuse.kafka import KafkaControl, KafkaTransport
from spendfuse.testing import MemoryTransport

NOBODY = "127.0.0.1:1"
SILENT = """
import logging
logging.basicConfig(filename="/dev/null")
from spendfuse import Emitter, Guard
from spendfuse.kafka import KafkaControl, KafkaTransport
emitter = Emitter(KafkaTransport("127.0.0.1:1", prefix=""))
guard = Guard(KafkaControl("127.0.0.1:1", prefix=""), emitter, when_blind="continue")
guard.wait_ready(1.5)
guard.close()
emitter.close(0.1)
"""


def kafka_lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The records of the Kafka client."""
    return [record for record in caplog.records if record.name == "spendfuse.kafka"]


def test_a_kind_of_line_comes_once_a_minute(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is away for an hour costs sixty lines, each with how many it stands for; another kind is heard."""
    now_s = 1_000.0
    monkeypatch.setattr(sdk_logging.time, "monotonic", lambda: now_s)
    log = KafkaLog()
    for second in range(600):
        now_s = 1_000.0 + second
        log.log(logging.ERROR, "%s [%s] %s", "FAIL", "rdkafka#producer-1", f"refused {second}")
    log.log(logging.WARNING, "%s [%s] %s", "GETPID", "rdkafka#producer-1", "retrying")
    lines = kafka_lines(caplog)
    assert len([line for line in lines if line.levelno == logging.ERROR]) == 10
    assert lines[1].getMessage() == ("60 lines FAIL of the Kafka client, the latest: rdkafka#producer-1 refused 60")
    assert (lines[-1].levelno, "GETPID" in lines[-1].getMessage()) == (logging.WARNING, True)


def wait_until(heard: Callable[[], bool]) -> None:
    """Wait until something is heard; fails where it is not in half a minute."""
    deadline_s = time.monotonic() + 30
    while not heard():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def transport_lines(heard: Callable[[], bool]) -> None:
    """Make an emitter whose broker is away, until that is `heard`."""
    emitter = Emitter(KafkaTransport(NOBODY, prefix=""))
    wait_until(heard)
    emitter.close(1)


def control_lines(heard: Callable[[], bool]) -> None:
    """Make a guard whose broker is away, until that is `heard`."""
    emitter = Emitter(MemoryTransport())
    with Guard(KafkaControl(NOBODY, prefix=""), emitter, when_blind="continue") as guard:
        wait_until(heard)
        assert not guard.wait_ready(1)


@pytest.mark.parametrize("use", [transport_lines, control_lines])
def test_lines_of_the_client_go_through_logging(
    use: Callable[[Callable[[], bool]], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is configured for `spendfuse.kafka` holds for them; of all that is the same, one is enough."""
    use(lambda: any("Connection refused" in line.getMessage() for line in kafka_lines(caplog)))
    assert len(kafka_lines(caplog)) <= 4


def test_standard_error_is_the_agents_own() -> None:
    """Nothing is written past logging, however long the broker is away."""
    done = subprocess.run([sys.executable, "-c", SILENT], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("", "")
