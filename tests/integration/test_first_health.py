"""From the first moment at which a process says that it is well it does its work, and ends in order when told to."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.console_process import ConsoleProcess, Reader
from tests.support.gateway_process import GatewayProcess, post
from tests.support.kafka import TopicSpace, wait_until
from tests.support.service_process import ServiceProcess

Started = tuple[ServiceProcess, Callable[[], bool]]
"""A process, and whether it does what it is there for."""


def gateway(space: TopicSpace, folder: Path) -> Started:
    process = GatewayProcess(space.bootstrap, space.prefix, folder / "spool")
    return process, lambda: post(process.gateway_port, "/v1/key", b"", None, "GET")[0] == 401


def console(space: TopicSpace, _: Path) -> Started:
    process = ConsoleProcess(space.bootstrap, space.prefix)
    return process, lambda: Reader(process.console_port).get("/login").status == 200


@pytest.mark.parametrize("start", [gateway, console])
def test_well_is_who_serves(
    start: Callable[[TopicSpace, Path], Started], kafka_topics: TopicSpace, tmp_path: Path
) -> None:
    """Until then it says what it waits for; whoever sends traffic by its health sends it to an open port, and whoever
    replaces it at that moment gets exit code 0.
    """
    process, serves = start(kafka_topics, tmp_path)
    said: list[str] = []

    def is_well() -> bool:
        said.append(process.health)
        return said[-1] == "ok"

    with process:
        wait_until(is_well, 60, "it says that it is well")
        assert serves()
        process.process.send_signal(signal.SIGTERM)
        assert process.wait_exit() == 0, process.tail()
    assert set(said) <= {"", "ok", "it does not serve yet: what it has to know is being read"}
