"""LiteLLM's callback: every call that it makes is reported, and none is made for a run that must stop."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Unpack

import litellm
from litellm.integrations.custom_logger import CustomLogger

from spendfuse._client.connect import Connection, default_connection
from spendfuse._client.errors import InvalidEvent, Paused, Stopped
from spendfuse._client.logging import RareWarning
from spendfuse._client.run import CURRENT
from spendfuse._client.runlike import RunLike
from spendfuse._control.scope import CallDimensions
from spendfuse._litellm.payload import ATTRIBUTION, attribution_of, id_of, usage_of

IDS = ("tenant_id", "run_id", "session_id", "root_run_id", "parent_run_id")
NAME = "spendfuse.litellm"
"""Who denied, in the answer to a command."""


@dataclass(frozen=True, slots=True)
class LiteLlmRun:
    """The run that a call belongs to: LiteLLM's trace."""

    tenant_id: str
    run_id: str
    session_id: str | None = None
    root_run_id: str | None = None
    workflow: str | None = None
    attribution: Mapping[str, Any] = field(default_factory=dict)


class LiteLlmStopped(Stopped):
    """A run that must end. LiteLLM's router waits and tries again what has no status, or another than this."""

    status_code = 400

    def __init__(self, why: Stopped) -> None:
        super().__init__(why.reason, rule=why.rule, command_id=why.command_id, incident_id=why.incident_id)


class LiteLlmPaused(Paused):
    """A run that must wait, for longer than a router does."""

    status_code = 400

    def __init__(self, why: Paused) -> None:
        super().__init__(
            why.reason, until_ms=why.until_ms, rule=why.rule, command_id=why.command_id, incident_id=why.incident_id
        )


class SpendfuseLogger(CustomLogger):  # type: ignore[misc]  # of a library that need not be there
    """Reports each call, and asks before it: `litellm.callbacks = [SpendfuseLogger(workflow="support")]`.

    A run is LiteLLM's trace, if the call names one: `litellm_session_id`, or `session_id` and `trace_id` in `metadata`;
    else the one in whose block it is made (`with spendfuse.run(...)`); else that of `litellm_trace_id`, which a router
    gives to every call; else the call is a run of its own. `metadata` may name `workflow`, `owner` and the other fields
    of attribution. Of a synchronous stream LiteLLM tells in a thread that knows of no block: name its run.

    The guard's `Stopped` and `Paused` come out of `acompletion` and its siblings, and out of a proxy as an answer of
    403. Before a synchronous call LiteLLM asks no callback, only its rules: `litellm.pre_call_rules = [logger.rule]`.
    """

    def __init__(self, connection: Connection | None = None, **attribution: str | None) -> None:
        """`connection` is what `spendfuse.connect` returns; without one, the process's own by the environment, made
        when it is first needed. `attribution` is for calls that say nothing themselves.
        """
        super().__init__()
        unknown = attribution.keys() - set(ATTRIBUTION)
        if unknown:
            raise TypeError(f"no field of attribution: {', '.join(sorted(unknown))}")
        self._given = connection
        self._attribution = {name: value for name, value in attribution.items() if value is not None}
        self._warning = RareWarning("%d calls of LiteLLM were not reported: %s")

    @property
    def _connection(self) -> Connection:
        return self._given or default_connection()

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Report a synchronous call."""
        self._report(kwargs)

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Report a synchronous call that failed."""
        self._report(kwargs)

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Report a call. The emitter waits for nobody, so that this may be done in the event loop."""
        self._report(kwargs)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Report a call that failed."""
        self._report(kwargs)

    def rule(self, _: str) -> bool:
        """Before each chat, synchronous ones too: an entry of `litellm.pre_call_rules`. Raises Stopped or Paused.

        A rule is told the messages, which are not looked at, and nothing else: it knows of the run in whose block the
        call is made, and of no other.
        """
        run = CURRENT.get()
        if run is not None:
            self._ask(run)
        return True

    async def async_pre_call_hook(self, user_api_key_dict: Any, cache: Any, data: Any, call_type: Any) -> None:
        """In a proxy, refuse a request of a run that must not go on; its client is answered 403 with the reason."""
        try:
            self._check(data)
        except (Stopped, Paused) as order:
            raise _refusal(order) from order

    async def async_pre_call_deployment_hook(self, kwargs: Any, call_type: Any) -> Any:
        """Before each attempt, retries and fallbacks included. Raises Stopped or Paused.

        A sentence that is to be put before the model goes behind the messages of a chat.
        """
        run = self._check(kwargs)
        messages = kwargs.get("messages")
        if run is None or not isinstance(messages, list):
            return None
        sentence = self._connection.guard.nudge(run)
        return sentence and {**kwargs, "messages": [*messages, {"role": "user", "content": sentence}]}

    def _check(self, request: Mapping[str, Any]) -> RunLike | None:
        """The run of a request that may be made; None while nobody can name it. Raises Stopped or Paused."""
        run = self._run(request)
        if run is None:
            return None
        model = request.get("model")
        call: CallDimensions = {"model": model} if isinstance(model, str) else {}
        self._ask(run, **call)
        return run

    def _ask(self, run: RunLike, **call: Unpack[CallDimensions]) -> None:
        try:
            self._connection.guard.check(run, by=NAME, **call)
        except Stopped as why:
            raise LiteLlmStopped(why) from None
        except Paused as why:
            raise LiteLlmPaused(why) from None

    def _run(self, request: Mapping[str, Any]) -> RunLike | None:
        named = _named_run(request)
        if named is None and (run := CURRENT.get()) is not None:
            return run
        run_id = named or id_of(getattr(request.get("litellm_logging_obj"), "litellm_trace_id", None))
        if run_id is None:
            return None
        metadata = _metadata(request)
        known = attribution_of({"request_tags": metadata.get("tags")}, metadata)
        whose = self._attribution | known | _said(metadata)
        return LiteLlmRun(self._connection.tenant_id, run_id, workflow=whose.get("workflow"), attribution=whose)

    def _report(self, kwargs: Mapping[str, Any]) -> None:
        if _is_refusal(kwargs.get("exception")):
            return  # no model was asked
        request = kwargs.get("litellm_params") or {}
        metadata = _metadata(request)
        try:
            usage = usage_of(kwargs["standard_logging_object"] or {})
            if usage is None:
                return
            retries = metadata.get("attempted_retries")
            if isinstance(retries, int) and usage["type"] == "llm_call":
                usage["attempt"] = retries + 1
            usage["tenant_id"] = self._connection.tenant_id
            if _named_run(request) is None and (run := CURRENT.get()) is not None:
                usage |= {name: getattr(run, name) for name in IDS}
            self._connection.emitter.emit({**self._attribution, **self._hashed(usage), **_said(metadata)})
        except (InvalidEvent, KeyError, ValueError) as error:
            self._warning.happened(f"{type(error).__name__}: {error}")

    def _hashed(self, usage: dict[str, Any]) -> dict[str, Any]:
        """The hashes of a tool's arguments and result in place of both."""
        if usage["type"] != "tool_call":
            return usage
        args, result = usage.pop("args"), usage.pop("result")
        if args is not None:
            usage["args_hash"] = self._connection.emitter.hash_of(args)
        if result is not None:
            usage["result_hash"] = self._connection.emitter.hash_of(result)
            usage["result_shape_hash"] = self._connection.emitter.shape_hash_of(result)
        return usage


def _metadata(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the caller says beside the call; some endpoints of a proxy have a name of their own for it."""
    parts = [request.get("metadata"), request.get("litellm_metadata")]
    return {name: value for part in parts if isinstance(part, Mapping) for name, value in part.items()}


def _said(metadata: Mapping[str, Any]) -> dict[str, str]:
    """What it names of whose spend the call is."""
    return {name: metadata[name] for name in ATTRIBUTION if isinstance(metadata.get(name), str)}


def _named_run(request: Mapping[str, Any]) -> str | None:
    """The trace that a call names, as LiteLLM will report it; None where it names none."""
    metadata = _metadata(request)
    session = (request.get("litellm_session_id"), metadata.get("session_id"))
    in_block = CURRENT.get() is not None  # where a trace may be a router's, and is not needed
    trace = (None if in_block else request.get("litellm_trace_id"), metadata.get("trace_id"))
    pairs = zip(trace, session, strict=True) if _traces_go_first() else zip(session, trace, strict=True)
    return next((id_of(str(candidate)) for pair in pairs for candidate in pair if candidate), None)


def _traces_go_first() -> bool:
    return bool(getattr(litellm, "request_correlation_in_logs", False))


def _is_refusal(error: object) -> bool:
    """Whether a call failed because we refused it, in whatever a proxy has wrapped that."""
    while isinstance(error, BaseException):
        if isinstance(error, (Stopped, Paused)):
            return True
        error = error.__cause__
    return False


def _refusal(order: Stopped | Paused) -> Exception:
    """What a proxy answers its client with."""
    from fastapi import HTTPException  # noqa: PLC0415 - a proxy has it; LiteLLM in an agent's process need not

    return HTTPException(status_code=403, detail={"error": order.reason, "type": "spendfuse"})
