"""The clients of OpenAI and Anthropic, which are made alike: every call to a model goes through the client's `post`.

What is made from a guarded client (`with_options`, `copy`) is guarded as well.
"""

import functools
import weakref
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

from spendfuse._client.logging import RareWarning
from spendfuse._client.run import Run
from spendfuse._integrations.answer import AnswerWords, Seen
from spendfuse._integrations.base import Integration, ModelCall, ToolResult, Usage, text

C = TypeVar("C")
RAW = "X-Stainless-Raw-Response"
MOST_ASKED = 1_000
"""Tools that a model has asked for, and nobody has shown the result of yet."""
_UNSEEN = RareWarning("%d calls were made whose usage is not seen, as their answers are read unparsed%s")


class Words(AnswerWords, Protocol):
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

    def asked(self, answer: object) -> Iterator[tuple[str, object]]:
        """The tools that an answer asks for, by the ids of their calls."""

    def tools(self, kind: str, body: Mapping[str, Any], asked: Mapping[str, object]) -> Iterator[ToolResult]:
        """The tools whose results a conversation shows. What is `asked` was so in answers that it does not repeat."""


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
        self._asked: OrderedDict[str, object] = OrderedDict()
        """Call -> the tool that a model has asked for. A conversation that its provider keeps does not say it again."""

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
        self._integration.tools(run, self._shown(kind, body))
        return run, body

    def _shown(self, kind: str, body: Mapping[str, Any]) -> Iterator[ToolResult]:
        for used in self._words.tools(kind, body, self._asked):
            self._asked.pop(used.call_id or "", None)
            yield used

    def _note_asked(self, answer: object) -> None:
        for call_id, tool in self._words.asked(answer):
            self._asked[call_id] = tool
            if len(self._asked) > MOST_ASKED:
                self._asked.popitem(last=False)

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
                asked.call.unseen()
                return
            answer = answer.parse()
        words = self._words
        self._note_asked(answer)
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
                self._note_asked(each)
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
                self._note_asked(each)
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
