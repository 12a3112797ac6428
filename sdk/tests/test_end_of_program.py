"""A program that is told to end, as a container is, loses nothing with the line that the page for Python has for it."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.kafka import wait_until
from tests.support.scripted_gateway import KEY, ScriptedGateway

PAGE = Path(__file__).parents[2] / "docs" / "connect" / "python.md"
TIMEOUT_S = 30.0
BEGINS = """
import asyncio, threading, time
import spendfuse

connection = spendfuse.connect({url!r}, key={key!r})
run = connection.run()
"""
WORKS: dict[str, str] = {
    "in the main thread": """
with run:
    run.llm_call(model="m")
    print("reported", flush=True)
    time.sleep(60)
""",
    "in asyncio": """
async def main():
    with run:
        run.llm_call(model="m")
        print("reported", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
""",
    "in a thread": """
def work():
    with run:
        run.llm_call(model="m")
        print("reported", flush=True)
        time.sleep(60)

thread = threading.Thread(target=work, daemon=True)
thread.start()
thread.join()
""",
}


@pytest.fixture
def gateway() -> Iterator[ScriptedGateway]:
    """One that refuses for the moment, so that something waits."""
    with ScriptedGateway() as gateway:
        gateway.refusals = [(503, {})]
        gateway.retry_after = "60"
        yield gateway


def the_line() -> str:
    """As the page has it."""
    (line,) = re.findall(r"^import signal.*?SIGTERM[^\n]*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(line)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to handle")
@pytest.mark.parametrize("works", WORKS.values(), ids=WORKS)
def test_what_waits_is_sent_before_a_sigterm_ends_the_program(gateway: ScriptedGateway, works: str) -> None:
    """Its run has been cancelled, where Python comes to say so, and its exit code is the signal's."""
    program = the_line() + BEGINS.format(url=gateway.url, key=KEY) + works
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], text=True, **pipes) as process:
        assert process.stdout is not None
        process.stdout.readline()
        wait_until(lambda: gateway.requests, TIMEOUT_S, "something waits")
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 128 + signal.SIGTERM, errors
    said = {event["type"]: event.get("status") for event in gateway.received}
    ends = {} if "thread" in works else {"run_finished": "cancelled"}
    assert said == {"run_started": None, "llm_call": None, **ends}, errors
