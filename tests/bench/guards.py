"""From a cause to the first call that is denied, through each guard apart, by the real libraries and programs.

One broker, worker and gateway for all of them. Each guard's run calls a model on loopback without a pause; an event
that breaks its cap is produced by somebody else, as a gateway's would be.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from infra.kafka.local import free_ports
from schemas.codec import encode
from schemas.topics import topic_name
from schemas.usage import LlmCall
from streams.clock import wall_ms
from tests.bench.broker import bench_broker, broker_note, fast_producer, fresh_topics, send
from tests.bench.engine import policy_file
from tests.bench.gateway import new_key
from tests.bench.latency import COST_NANOUSD, POLICY, warm_up
from tests.bench.load import Event
from tests.bench.machine import ANY_CORE
from tests.bench.report import Part, percentile
from tests.bench.worker_process import WorkerProcess
from tests.support.coding_agents import PROGRAMS, Setting, run
from tests.support.connect import CLIENTS, ENVIRONMENTS, ClientProcess, client_environment
from tests.support.fake_models import FakeModels
from tests.support.gateway_process import GatewayProcess, post
from tests.support.loopback import Loopback
from tests.support.proxies import MASTER, portkey_config, proxy_of, proxy_settings

TENANT: Final = "acme"
SEED: Final = 20_261_128
PAUSE_S: Final = 0.05
"""At most so long a run goes on before its cause: causes are not to keep step with batches."""
TIMEOUT_S: Final = 120.0
MOST_S: Final = 90.0
"""Sessions of a program are begun for so long at most: all guards together are to take less than ten minutes."""
TIMES: Final = 200
"""How often a coding agent's model asks for its command at most."""
BODY: Final = json.dumps({"model": "main", "messages": [{"role": "user", "content": "go on"}]}).encode()


class Stopped(NamedTuple):
    """A run that was stopped."""

    wait_ms: float
    """From the produce of its cause to the first call denied."""
    calls_ms: list[float]
    """What a call took while the run still might."""


class Guard(NamedTuple):
    """One guard, and how it is measured.

    Args:
        environment: the folder below `.cache/connect` that it needs; None for none.
        stops: so many runs stopped through it.
    """

    environment: str | None
    stops: Callable[["Stage", int], Iterable[Stopped]]


def measure(causes: int, only: list[str] | None) -> Part:
    """Stop so many runs through each guard; `only` names the guards, all of them unless given."""
    part = Part("guards", "from produce() of the causing event to the first call denied, through each guard apart")
    with bench_broker(ANY_CORE) as bootstrap, tempfile.TemporaryDirectory() as folder:
        warm_up(bootstrap)
        with Stage(bootstrap, Path(folder)) as stage:
            for name, guard in GUARDS.items():
                if only is None or name in only:
                    _measure_one(part, name, guard, stage, causes)
    part.notes += [
        broker_note(ANY_CORE), "nothing is pinned: broker, worker, gateway, model and agent share all cores",
        f"causes one after the other, up to {PAUSE_S * 1000:.0f} ms into a run, seed {SEED}; calls without a pause",
    ]  # fmt: skip
    return part


def _measure_one(part: Part, name: str, guard: Guard, stage: "Stage", causes: int) -> None:
    if guard.environment is not None and not (ENVIRONMENTS / guard.environment / "lock").is_file():
        part.notes.append(f"{name} was not measured: its packages are not here, `make connect-tests` has them")
        return
    begun_s = time.monotonic()
    found = list(guard.stops(stage, causes))
    waits = [one.wait_ms for one in found]
    part.add(f"{name}: p50 of {len(found)}", "ms", [percentile(waits, 0.5)])
    part.add(f"{name}: p99", "ms", [percentile(waits, 0.99)])
    part.add(f"{name}: an allowed call", "ms", [statistics.median(call for one in found for call in one.calls_ms)])
    print(f"  {name}: {time.monotonic() - begun_s:.0f} s", file=sys.stderr, flush=True)


class Stage:
    """Worker, gateway, a model, and somebody who causes kills, on one broker, while it is entered."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.bootstrap, self.folder = bootstrap, folder
        self.chance = random.Random(SEED)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        enter = self._stack.enter_context
        self.prefix = enter(fresh_topics(self.bootstrap))
        self.token = new_key(self.bootstrap, self.prefix)
        self.causes = enter(Causes(self.bootstrap, self.prefix))
        worker = enter(WorkerProcess(self.bootstrap, self.prefix, policy_file(POLICY), ANY_CORE))
        self._gateway = enter(  # the bench's worker signs nothing
            GatewayProcess(self.bootstrap, self.prefix, self.folder / "spool", ENGINE_KEY=None)
        )
        self._gateway.wait_ready()
        worker.watch(lambda sample: sample.numbers.get("spendfuse_partitions") == 1, TIMEOUT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def port(self) -> int:
        """The gateway's."""
        return self._gateway.gateway_port

    @property
    def url(self) -> str:
        """Where the gateway is."""
        return f"http://127.0.0.1:{self.port}"

    def pause(self) -> None:
        """Some time before a cause."""
        time.sleep(self.chance.random() * PAUSE_S)


class Causes(Loopback):
    """Breaks the cap of whichever run it is asked for, and says when that was produced, on the monotonic clock."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        super().__init__()
        self._producer = fast_producer(bootstrap, linger_ms=0)
        self._topic = topic_name(prefix, "usage.v1")

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One request, whose body is the run's id."""
        run_id = request.rfile.read(int(request.headers["Content-Length"])).decode()
        self.send(request, 200, str(self.break_cap(run_id)).encode())

    def break_cap(self, run_id: str) -> float:
        """A model call of the run that is more than it may cost."""
        call = LlmCall(
            event_id=f"cause-of-{run_id}", ts_ms=wall_ms(), tenant_id=TENANT, run_id=run_id, model="gpt-4.1",
            provider="openai", input_tokens=1, cost_nanousd=COST_NANOUSD,
        )  # fmt: skip
        event = Event(TENANT.encode(), encode(call), call.ts_ms)
        produced_s = time.monotonic()
        send(self._producer, self._topic, event)
        self._producer.poll(0)
        return produced_s


def in_process(name: str, environment: str | None, tool: str = "") -> Callable[[Stage, int], Iterator[Stopped]]:
    """Runs of an agent with the client library in its own process, by `guard_timed.py`."""

    def stops(stage: Stage, causes: int) -> Iterator[Stopped]:
        python = sys.executable if environment is None else ENVIRONMENTS / environment / "bin" / "python"
        reached = {"SPENDFUSE_URL": stage.url, "SPENDFUSE_KEY": stage.token}
        if name == "kafka":
            reached = {
                "SPENDFUSE_KAFKA_BOOTSTRAP": stage.bootstrap, "SPENDFUSE_PREFIX": stage.prefix,
                "SPENDFUSE_TENANT": TENANT, "SPENDFUSE_WHEN_BLIND": "stop",
            }  # fmt: skip
        with model(tool) as address:
            given = {**reached, "MODEL": address, "CAUSES": stage.causes.address, "CREWAI_DISABLE_TELEMETRY": "true",
                     "OTEL_SDK_DISABLED": "true"}  # fmt: skip
            done = subprocess.run(
                [str(python), str(CLIENTS / "guard_timed.py"), name, str(causes), str(SEED)],
                env=client_environment(**given), capture_output=True, text=True, timeout=10 * TIMEOUT_S, check=False,
            )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stdout[-1000:]}\n{done.stderr[-3000:]}")
        for line in done.stdout.splitlines():
            yield Stopped(**json.loads(line))

    return stops


@contextmanager
def model(tool: str) -> Iterator[str]:
    """A model in a process of its own; where it is."""
    process = subprocess.Popen(
        [sys.executable, CLIENTS / "provider.py"], env={**os.environ, **({"TOOL": tool} if tool else {})},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    with process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def over_http(stage: Stage, causes: int) -> Iterator[Stopped]:
    """`POST /v1/guard/check`, as any language asks."""

    def ask(run_id: str) -> bool:
        status, answer = post(stage.port, "/v1/guard/check", json.dumps({"run_id": run_id}).encode(), stage.token)
        assert status == 200, answer
        return bool(answer["decision"] == "stop")

    return asked("check", ask, stage, causes)


def asked(name: str, ask: Callable[[str], bool], stage: Stage, causes: int) -> Iterator[Stopped]:
    """Runs whose calls the bench makes: `ask` makes one, and says whether it was denied."""
    for number in range(-1, causes):
        run_id, calls_ms = f"{name}-{number}", list[float]()
        assert not _timed(ask, run_id, calls_ms), f"{run_id} is denied before it has done anything"
        stage.pause()
        caused_s = stage.causes.break_cap(run_id)
        while not _timed(ask, run_id, calls_ms):
            assert time.monotonic() < caused_s + TIMEOUT_S, f"{run_id} is never denied"
        if number >= 0:
            yield Stopped(1000 * (time.monotonic() - caused_s), calls_ms[:-1])


def _timed(ask: Callable[[str], bool], run_id: str, calls_ms: list[float]) -> bool:
    begun_s = time.monotonic()
    is_denied = ask(run_id)
    calls_ms.append(1000 * (time.monotonic() - begun_s))
    return is_denied


def litellm_proxy(stage: Stage, causes: int) -> Iterator[Stopped]:
    """LiteLLM's proxy with its generic guardrail, which asks the gateway before each call."""
    [port] = free_ports(1)
    settings = stage.folder / "proxy.yaml"
    settings.write_text(proxy_settings(stage.port, stage.token, "fail_closed"), encoding="utf-8")

    def status(run_id: str) -> int:
        headers = {"x-litellm-session-id": run_id}
        return post(port, "/v1/chat/completions", BODY, MASTER, **headers)[0]

    with proxy_of(settings, port) as proxy:
        yield from _proxied(proxy, "litellm-proxy", status, stage, causes)


def portkey(stage: Stage, causes: int) -> Iterator[Stopped]:
    """Portkey's gateway with a webhook before and after each call."""
    [port] = free_ports(1)
    with model("") as address, ClientProcess(
        "portkey", "node_modules/.bin/gateway", "--headless", f"--port={port}"
    ) as proxy:  # fmt: skip
        config = portkey_config(address, stage.port, stage.token, fail_on_error=True)

        def status(run_id: str) -> int:
            headers = {"x-portkey-config": config, "x-portkey-metadata": json.dumps({"run_id": run_id})}
            return post(port, "/v1/chat/completions", BODY, None, **headers)[0]

        yield from _proxied(proxy, "portkey", status, stage, causes)


def _proxied(
    proxy: ClientProcess, name: str, status: Callable[[str], int], stage: Stage, causes: int
) -> Iterator[Stopped]:
    proxy.wait_for(lambda: status(f"{name}-warm") == 200, TIMEOUT_S, "it calls")
    yield from asked(name, lambda run_id: status(run_id) != 200, stage, causes)


def coding_agent(name: str) -> Callable[[Stage, int], Iterator[Stopped]]:
    """A program itself, a session for each cause: its hook asks by a relay, which sees which run it is and when it is
    denied.
    """

    def stops(stage: Stage, causes: int) -> Iterator[Stopped]:
        until_s = time.monotonic() + MOST_S
        for number in range(causes):
            if time.monotonic() > until_s:
                return
            home = stage.folder / f"{name}-{number}".replace(" ", "-")
            with Relay(stage) as relay, FakeModels("true", TIMES) as models:
                said = run(PROGRAMS[name], Setting(home, relay.address, stage.token, models.url, True))
            if relay.denied_s is None or relay.caused_s is None:
                raise RuntimeError(f"{name} was never denied: {said[-2000:]}")
            asked_s = relay.asked_s
            between = [1000 * (later - sooner) for sooner, later in pairwise(asked_s)]
            yield Stopped(1000 * (relay.denied_s - relay.caused_s), between)

    return stops


class Relay(Loopback):
    """Hands everything to the gateway, causes the kill of the session that asks first, and sees it denied."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self._stage = stage
        self._one_by_one = threading.Lock()
        self.asked_s: list[float] = []
        """When it was asked, by whichever hook."""
        self._is_begun = False
        self.caused_s: float | None = None
        self.denied_s: float | None = None

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One request of a hook, or of telemetry."""
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OF_A_HOP}
        asking = urllib.request.Request(f"{self._stage.url}{request.path}", body, headers, method=request.command)
        with urllib.request.urlopen(asking, timeout=TIMEOUT_S) as answered:
            answer = answered.read()
        is_hook = request.path.startswith("/hooks/")
        if is_hook:
            self._note(answer)
        self.send(request, 200, answer, {"Content-Type": "application/json"})
        if is_hook:
            self._cause(json.loads(body))

    def _note(self, answer: bytes) -> None:
        with self._one_by_one:
            self.asked_s.append(time.monotonic())
            if b"deny" in answer or b'"continue":false' in answer:
                self.denied_s = self.denied_s or self.asked_s[-1]

    def _cause(self, asked: dict[str, Any]) -> None:
        with self._one_by_one:
            if self._is_begun or asked.get("hook_event_name") not in ("PreToolUse", "BeforeTool"):
                return
            self._is_begun = True
        self._stage.pause()
        self.caused_s = self._stage.causes.break_cap(asked["session_id"])


_OF_A_HOP: Final = ("host", "content-length", "connection", "accept-encoding", "expect")
GUARDS: Final[dict[str, Guard]] = {
    "client over Kafka": Guard(None, in_process("kafka", None)),
    "client over HTTP": Guard(None, in_process("http", None)),
    "guard check over HTTP": Guard(None, over_http),
    "OpenAI's client": Guard("frameworks", in_process("openai", "frameworks")),
    "Anthropic's client": Guard("frameworks", in_process("anthropic", "frameworks")),
    "LangChain": Guard("frameworks", in_process("langchain", "frameworks")),
    "OpenAI Agents": Guard("frameworks", in_process("openai-agents", "frameworks")),
    "Pydantic AI": Guard("frameworks", in_process("pydantic-ai", "frameworks")),
    "CrewAI": Guard("crewai", in_process("crewai", "crewai")),
    "LiteLLM's callback": Guard("litellm", in_process("litellm", "litellm")),
    "LiteLLM's guardrail": Guard("litellm", litellm_proxy),
    "Portkey's webhook": Guard("portkey", portkey),
    "Claude Agent SDK": Guard("claude-agent", in_process("claude-agent", "claude-agent", "Bash")),
    "Claude Code's hook": Guard("claude-code", coding_agent("Claude Code")),
    "Codex' hook": Guard("codex", coding_agent("Codex")),
    "Gemini CLI's hook": Guard("gemini-cli", coding_agent("Gemini CLI")),
}
