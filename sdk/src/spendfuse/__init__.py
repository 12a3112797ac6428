"""What an AI agent imports to report its spend, over Kafka or HTTP, and to obey a stop.

`connect()` makes emitter and guard by one address, `run()` begins a run of the process's own connection, and
`spendfuse.openai`, `.anthropic`, `.langchain`, `.openai_agents`, `.pydantic_ai`, `.crewai`, `.claude_agent`, `.autogen`
and `.gptcache` do the rest for whoever uses one of these.

By hand, over Kafka: where that is, the prefix of its topics and the login come from the environment,
`SPENDFUSE_KAFKA_BOOTSTRAP` first among it; so do the tenant's keys, as `python -m streams keys derive --tenant acme`
prints them:

    from spendfuse import Emitter, Guard, Stopped, keys_from_environment
    from spendfuse.kafka import KafkaControl, KafkaTransport

    emitter = Emitter(KafkaTransport())
    guard = Guard(KafkaControl(), emitter, when_blind="stop", tenant_id="acme", keys=keys_from_environment())
    assert guard.wait_ready(timeout_s=30), guard.waiting_for

    try:
        with emitter.run("acme", workflow="support", owner="ana", cap_usd="2.50") as run:
            guard.check(run)  # before every model or tool call: raises Stopped while the run must not go on
            run.llm_call(model="gpt-5-mini", input_tokens=1_200, output_tokens=150, latency_ms=830)
            guard.check(run)
            run.tool_call("grep", args={"pattern": "old_name"}, result=["a.md", "b.md"])
            run.outcome("accepted")
    except Stopped as stopped:
        print(f"stopped: {stopped.reason}")

    guard.close()
    missing = emitter.close(timeout_s=10)  # events that the broker does not have

`help(spendfuse.Emitter)`, `help(spendfuse.Run)` and `help(spendfuse.Guard)` have the rest; `spendfuse.kafka` connects
to Kafka, `spendfuse.http` to a gateway; `spendfuse.testing` has stand-ins for your own tests.
"""

from spendfuse._client.async_guard import AsyncGuard
from spendfuse._client.connect import Connection, connect, default_connection, run
from spendfuse._client.emitter import Emitter
from spendfuse._client.environment import keys_from_environment
from spendfuse._client.errors import InvalidEvent, Paused, SpendfuseError, Stopped
from spendfuse._client.guard import Advice, Guard
from spendfuse._client.run import Run
from spendfuse._control.acks import ack_id
from spendfuse._control.command import Command, ControlRecord
from spendfuse._control.signing import derive_keys, derive_tenant_key
from spendfuse._usage.hashing import hash_of

__version__ = "0.1.0"

__all__ = [
    "Advice",
    "AsyncGuard",
    "Command",
    "Connection",
    "ControlRecord",
    "Emitter",
    "Guard",
    "InvalidEvent",
    "Paused",
    "Run",
    "SpendfuseError",
    "Stopped",
    "__version__",
    "ack_id",
    "connect",
    "default_connection",
    "derive_keys",
    "derive_tenant_key",
    "hash_of",
    "keys_from_environment",
    "run",
]
