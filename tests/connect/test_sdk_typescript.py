"""The TypeScript client, in Node, against a running gateway."""

import os
import shutil
import subprocess

import pytest

from schemas.usage import RunFinished, RunStarted
from tests.connect.test_sdk_frameworks import World, check_answer, model_calls, tool_calls, world
from tests.support.connect import ROOT

__all__ = ["world"]

BUILT = ROOT / "sdk" / "js" / "dist" / "test" / "gateway.test.js"
TEST_S = 120
pytestmark = pytest.mark.kafka


IS_THERE = shutil.which("node") is not None and BUILT.is_file()


@pytest.mark.skipif(not IS_THERE, reason="the TypeScript client is not built; `make js-test` does it (needs Node.js)")
def test_typescript_client(world: World) -> None:  # the fixture
    """An agent in TypeScript reports each call once, with all that it said and nothing of anybody's words; it hears a
    sentence for its model, its signal is aborted by a kill, and both are answered once.
    """
    with world.commands() as address:
        done = subprocess.run(
            ["node", "--test", BUILT],  # whichever Node is there
            env={
                "PATH": os.environ["PATH"], "COMMANDS": address, "SPENDFUSE_KEY": world.token,
                "SPENDFUSE_URL": f"http://127.0.0.1:{world.gateway.gateway_port}",
            },
            capture_output=True, text=True, timeout=TEST_S, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout
    log = world.log(is_sent_once=False)
    (started,) = [run for run in log if isinstance(run, RunStarted)]
    assert (started.workflow, started.tags, started.cap_nanousd) == ("docs", {"team": "red"}, 2_500_000_000)
    (call,) = model_calls(log, "js")
    assert (call.input_tokens, call.cache_write_1h_tokens, call.output_tokens, call.cost_nanousd) == (
        100,
        4,
        20,
        4_100_000,
    )
    (tool,) = tool_calls(log, "js")
    assert tool.args_hash
    assert tool.result_hash
    assert (tool.result_shape_hash or "").startswith("1:")
    assert [run.status for run in log if isinstance(run, RunFinished)] == ["killed"]
    check_answer(log, "js", "spendfuse-js")
