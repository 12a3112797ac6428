"""Stand-ins for the tests of agents: no Kafka, no network, the same Emitter and Guard.

transport, control = MemoryTransport(), FakeControl()
emitter = Emitter(transport)
guard = Guard(control, emitter, when_blind="stop")
"""

import json
import threading
import time
from typing import Any

from spendfuse._client.fork import tell_of_forks
from spendfuse._client.runlike import RunLike
from spendfuse._control.command import ControlRecord, Target, parse
from spendfuse._control.signing import KID_HEADER, KeyId, signed_headers
from spendfuse._usage.transport import Done, Record

__all__ = ["FakeControl", "MemoryTransport"]

HOUR_MS = 3_600_000
TAKEN_TIMEOUT_S = 5.0
POLL_S = 0.01
"""Short, so that tests with a guard end quickly."""


class MemoryTransport:
    """Keeps what an emitter sends. Call `emitter.flush()` before looking."""

    def __init__(self) -> None:
        self.down = False
        """While True it takes nothing, like a producer whose queue is full because the broker is away."""
        self.records: list[Record] = []

    @property
    def events(self) -> list[dict[str, Any]]:
        """Everything sent so far, as the service would read it."""
        return [json.loads(record.value) for record in self.records]

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """Return the sent events of one type, such as `llm_call`."""
        return [event for event in self.events if event["type"] == kind]

    def send(self, record: Record, done: Done) -> None:
        """Take the record at once."""
        if self.down:
            raise BufferError("down")
        self.records.append(record)
        done(record, None)

    def poll(self, timeout_s: float) -> None:
        """Wait while down, as there is nothing else to do."""
        if self.down:
            time.sleep(timeout_s)

    def close(self) -> None:
        """Nothing to let go of."""


class FakeControl:
    """A control topic in memory. Its commands have taken effect in the guard when the call returns.

    Commands are signed when an engine's `root` key is given. `seq` rises by itself.
    """

    def __init__(self, *, root: bytes | None = None, ready: bool = True) -> None:
        """With `ready=False` the topic counts as unread until `recover` is called."""
        self._root = root
        self._records: list[ControlRecord] = []
        self._handed = 0
        self._taken = 0
        self._followed = False
        self._readable = ready
        self._fresh_at_s: float | None = None
        self._seq = 0
        self._changed = threading.Condition()
        tell_of_forks(self)

    def forked(self) -> None:
        """In a child, the topic is there to be read again."""
        self._handed = self._taken = 0
        self._followed = False
        self._fresh_at_s = None
        self._changed = threading.Condition()

    def kill(
        self, target: RunLike | Target, *, tenant_id: str | None = None, kid: KeyId = "engine", **fields: object
    ) -> str:
        """Stop a run, or a target such as `("workflow", "triage")` of `tenant_id`; return the command's id."""
        return self.command("kill", target, tenant_id=tenant_id, kid=kid, **fields)

    def pause(
        self, target: RunLike | Target, *, tenant_id: str | None = None, kid: KeyId = "engine", **fields: object
    ) -> str:
        """Pause until `expires_ms`, an hour from now unless given."""
        return self.command("pause", target, tenant_id=tenant_id, kid=kid, **fields)

    def downgrade(
        self, target: RunLike | Target, *, tenant_id: str | None = None, kid: KeyId = "engine", **fields: object
    ) -> str:
        """Ask for a cheaper model."""
        return self.command("downgrade", target, tenant_id=tenant_id, kid=kid, **fields)

    def nudge(self, run: RunLike, sentence: str, *, kid: KeyId = "engine", **fields: object) -> str:
        """Have a sentence wait for the agent of a run; return the command's id."""
        return self.command("nudge", run, tenant_id=None, kid=kid, reason=sentence, **fields)

    def resume(
        self, target: RunLike | Target, *, tenant_id: str | None = None, kid: KeyId = "operator", **fields: object
    ) -> str:
        """Lift what stands, on an operator's word; with `kid="engine"` on the engine's, which cannot lift a kill."""
        return self.command("resume", target, tenant_id=tenant_id, kid=kid, **fields)

    def command(
        self,
        action: str,
        target: RunLike | Target,
        *,
        tenant_id: str | None = None,
        kid: KeyId = "engine",
        **fields: object,
    ) -> str:
        """Put a command on the topic; `fields` override the message's. Return the command's id."""
        if isinstance(target, tuple):
            if tenant_id is None:
                raise ValueError("a target that is no run needs a tenant_id")
        else:
            tenant_id, target = target.tenant_id, ("run", target.run_id)
        self._seq += 1
        now_ms = time.time_ns() // 1_000_000
        body = {
            "command_id": f"command-{self._seq}",
            "action": action,
            "tenant_id": tenant_id,
            "target": {"type": target[0], "id": target[1]},
            "reason": f"{action} from a test",
            "rule": "test-rule",
            "incident_id": f"incident-{self._seq}",
            "issued_ms": now_ms,
            "expires_ms": now_ms + HOUR_MS,
            "seq": self._seq,
            **fields,
        }
        value = json.dumps(body).encode()
        self.put(ControlRecord(value, self._headers(kid, value)))
        return str(body["command_id"])

    def put(self, record: ControlRecord) -> None:
        """Put any record on the topic, and wait until a guard that follows it has taken it in."""
        with self._changed:
            self._records.append(record)
            position = len(self._records)
            self._changed.notify_all()
            if self._followed and not self._changed.wait_for(lambda: self._taken >= position, TAKEN_TIMEOUT_S):
                raise TimeoutError("the guard did not take in the record")

    def go_blind(self) -> None:
        """Make the topic unreadable: what the guard knows grows old from now on."""
        with self._changed:
            self._readable = False

    def recover(self) -> None:
        """Make the topic readable again."""
        with self._changed:
            self._readable = True
            self._changed.notify_all()

    def poll(self, timeout_s: float) -> list[ControlRecord]:
        """Return what was put since the last call."""
        with self._changed:
            self._followed = True
            self._taken = self._handed
            self._changed.notify_all()
            first_look = self._readable and self._fresh_at_s is None
            if not first_look and (not self._readable or len(self._records) == self._handed):
                self._changed.wait(min(timeout_s, POLL_S))
            if not self._readable:
                return []
            records = self._records[self._handed :]
            self._handed = len(self._records)
            if not records:
                self._fresh_at_s = time.monotonic()
            return records

    def fresh_at_s(self) -> float | None:
        """When the topic was last seen read through."""
        return self._fresh_at_s

    def waiting_for(self) -> str | None:
        """What keeps the topic from being read."""
        return None if self._readable else "the test to call recover()"

    def close(self) -> None:
        """Let those who wait go on."""
        with self._changed:
            self._followed = False
            self._taken = len(self._records)
            self._changed.notify_all()

    def _headers(self, kid: KeyId, value: bytes) -> tuple[tuple[str, bytes], ...]:
        if self._root is None:
            return ((KID_HEADER, kid.encode()),)
        return signed_headers(self._root, kid, parse(value), value)
