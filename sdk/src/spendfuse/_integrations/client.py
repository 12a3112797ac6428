"""The clients of OpenAI and Anthropic, which are made alike: every call to a model goes through the client's `post`.

What is made from a guarded client (`with_options`, `copy`) is guarded as well.
"""

import functools
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast

from spendfuse._client.logging import RareWarning
from spendfuse._client.run import Run
from spendfuse._integrations.base import Integration, ModelCall, ToolResult, Usage, text

C = TypeVar("C")
RAW = "X-Stainless-Raw-Response"
_UNSEEN = RareWarning("%d calls were made whose usage is not seen, as their answers are read unparsed%s")


class Words(Protocol):
    """How calls to one provider are read and changed."""

    @property
    def provider(self) -> str:
        """What it is called."""

    def kind(self, path: str) -> str | None:
        """What is called there; None for what is no model."""

    def prompt(self, kind: str, body: Mapping[str, Any]) -> object:
        """What the model is asked."""

    def told(self, kind: str, body: dict[str, Any], sentence: str) -> dict[str, Any]:
        """The body with a sentence before the model."""

    def takes_nudges(self, kind: str) -> bool:
        """Whether a sentence can be put before the model."""

    def streamed(self, kind: str, body: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """The body with which a stream tells its usage, and whether that adds a chunk which nobody has asked for."""

    def is_added(self, chunk: object) -> bool:
        """Whether it is the chunk that only tells the usage."""

    def is_output(self, part: object) -> bool:
        """Whether a part of a stream holds something that the model has written."""

    def usage(self, answer: object) -> Usage | None:
        """What an answer, or a part of a stream, says of usage; None if it says nothing."""

    def response_id(self, answer: object) -> str | None:
        """The provider's id of the answer."""

    def model(self, answer: object) -> str | None:
        """Which model has answered."""

    def tools(self, kind: str, body: Mapping[str, Any]) -> Iterator[ToolResult]:
        """The tools whose results a conversation shows."""


@dataclass(slots=True)
class Seen:
    """What the parts of a stream have said so far."""

    usage: Usage = field(default_factory=Usage)
    known: dict[str, str | None] = field(default_factory=dict)
    outputs: int = 0
    """Parts with something that the model has written, of a token each at least."""

    def take(self, words: Words, part: object) -> None:
        self.known.setdefault("response_id", words.response_id(part))
        self.known.setdefault("model", words.model(part))
        self.known = {name: value for name, value in self.known.items() if value is not None}
        self.usage = cast("Usage", {**self.usage, **(words.usage(part) or {})})
        self.outputs += words.is_output(part)

    def so_far(self) -> Usage:
        """The usage of a stream that has broken off, from below: what it was said to be, or what has come of it."""
        return {**self.usage, "output_tokens": max(self.usage.get("output_tokens", 0), self.outputs)}


@dataclass(frozen=True, slots=True)
class _Asked:
    """A call to a model that may be made."""

    call: ModelCall
    run: Run
    body: dict[str, Any]
    drops_added: bool
    """Whether a chunk that only tells the usage is kept from whoever reads the stream: it was not asked for."""


class GuardedClient:
    """Asks before each call of a client, and reports it.

    Args:
        integration: which one.
        words: of which provider.
        cheaper: model -> the one to take in its place while the run is told to go on with a cheaper one.
    """

    def __init__(self, integration: Integration, words: Words, cheaper: Mapping[str, str]) -> None:
        self._integration = integration
        self._words = words
        self._cheaper = cheaper

    def guard(self, client: C, *, is_async: bool) -> C:
        """Have the client ask; it is returned."""
        whole = cast("Any", client)
        for name in [name for name, value in vars(whole).items() if hasattr(value, "_post")]:
            del vars(whole)[name]  # made before: it would go on with the client's own `post`
        whole.post = self._asking_async(whole.post) if is_async else self._asking(whole.post)
        for name in ("copy", "with_options"):
            setattr(whole, name, self._guarding(getattr(whole, name), is_async=is_async))
        return client

    def _guarding(self, copy: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
        @functools.wraps(copy)
        def guarded(*args: Any, **options: Any) -> Any:
            return self.guard(copy(*args, **options), is_async=is_async)

        return guarded

    def _asking(self, post: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(post)
        def guarded(path: str, **options: Any) -> Any:
            kind = self._words.kind(path)
            if kind is None:
                return post(path, **options)
            run, body = self._before(kind, options)
            self._integration.check(run, provider=self._words.provider, model=text(body, "model"))
            asked = self._begin(kind, run, body, options)
            try:
                answer = post(path, **{**options, "body": asked.body})
            except BaseException as error:
                asked.call.ended(error)
                raise
            if hasattr(type(answer), "__stream__"):
                self._follow(answer, asked)
            else:
                self._answered(answer, asked, options)
            return answer

        return guarded

    def _asking_async(self, post: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(post)
        async def guarded(path: str, **options: Any) -> Any:
            kind = self._words.kind(path)
            if kind is None:
                return await post(path, **options)
            run, body = self._before(kind, options)
            await self._integration.acheck(run, provider=self._words.provider, model=text(body, "model"))
            asked = self._begin(kind, run, body, options)
            try:
                answer = await post(path, **{**options, "body": asked.body})
            except BaseException as error:
                asked.call.ended(error)
                raise
            if hasattr(type(answer), "__stream__"):
                self._follow_async(answer, asked)
            else:
                self._answered(answer, asked, options)
            return answer

        return guarded

    def _before(self, kind: str, options: Mapping[str, Any]) -> tuple[Run, dict[str, Any]]:
        """The run, and the call's body. What the conversation shows of tools has happened, whatever comes next."""
        run = self._integration.current_run()
        body = dict(options.get("body") or {})
        self._integration.tools(run, self._words.tools(kind, body))
        return run, body

    def _begin(self, kind: str, run: Run, body: dict[str, Any], options: Mapping[str, Any]) -> _Asked:
        """The call as it is made: with another model, with a sentence before the model, with its usage told."""
        words, route = self._words, text(body, "model") or "unknown"
        prompt = words.prompt(kind, body)
        if route in self._cheaper:
            advice = self._integration.guard.advice(run, provider=words.provider, model=route)
            body["model"] = self._cheaper[route] if advice.downgrade else route
        if words.takes_nudges(kind) and (sentence := self._integration.nudge(run)) is not None:
            body = words.told(kind, body, sentence)
        drops_added = False
        if options.get("stream"):
            body, drops_added = words.streamed(kind, body)
        model = text(body, "model") or route
        call = ModelCall(self._integration, run, model, provider=words.provider, route=route, prompt=prompt)
        return _Asked(call, run, body, drops_added)

    def _answered(self, answer: Any, asked: _Asked, options: Mapping[str, Any]) -> None:
        headers = (options.get("options") or {}).get("headers") or {}
        if RAW in headers:
            if headers[RAW] != "true" or options.get("stream"):
                _UNSEEN.happened()
                return
            answer = answer.parse()
        words = self._words
        usage = words.usage(answer) or Usage()
        asked.call.done(usage, model=words.model(answer), response_id=words.response_id(answer))

    def _follow(self, stream: Any, asked: _Asked) -> None:
        seen = Seen()
        stream._iterator = parts = self._observed(stream._iterator, asked, seen)
        begun, close, left = weakref.ref(stream), type(stream).close, _left(stream, asked, seen)

        def closed() -> None:
            close(begun())
            parts.close()
            left()

        stream.close = closed

    def _follow_async(self, stream: Any, asked: _Asked) -> None:
        seen, read = Seen(), stream._iterator
        stream._iterator = parts = self._observed_async(read, asked, seen)
        begun, close, left = weakref.ref(stream), type(stream).close, _left(stream, asked, seen)

        async def closed() -> None:
            await close(begun())
            await parts.aclose()
            await read.aclose()
            left()

        stream.close = closed

    def _observed(self, parts: Iterator[Any], asked: _Asked, seen: Seen) -> Generator[Any, None, None]:
        try:
            for each in parts:
                seen.take(self._words, each)
                self._stop(asked.run)
                if not (asked.drops_added and self._words.is_added(each)):
                    yield each
        except BaseException as error:
            asked.call.ended(error, seen.so_far(), **seen.known)
            cast("Any", parts).close()
            raise
        asked.call.done(seen.usage, **seen.known)

    async def _observed_async(self, parts: AsyncIterator[Any], asked: _Asked, seen: Seen) -> AsyncGenerator[Any, None]:
        try:
            async for each in parts:
                seen.take(self._words, each)
                self._stop(asked.run)
                if not (asked.drops_added and self._words.is_added(each)):
                    yield each
        except GeneratorExit:  # closed, or nobody has it any more: then the event loop closes both, and each once
            asked.call.ended(None, seen.so_far(), **seen.known)
            raise
        except BaseException as error:
            asked.call.ended(error, seen.so_far(), **seen.known)
            await cast("Any", parts).aclose()
            raise
        asked.call.done(seen.usage, **seen.known)

    def _stop(self, run: Run) -> None:
        """End an answer that is under way as soon as its run is killed. Raises Stopped."""
        if run.stop_event.is_set():
            self._integration.check(run)


def _left(stream: object, asked: _Asked, seen: Seen) -> Callable[[], object]:
    """What reports a stream that is closed, or that nobody has any more, read or not; once."""

    def report() -> None:
        asked.call.ended(None, seen.so_far(), **seen.known)

    return weakref.finalize(stream, report)
