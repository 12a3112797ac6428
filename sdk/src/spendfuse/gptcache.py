"""GPTCache: a `create` that goes through the cache, asked before and reported after; a hit costs nothing.

from spendfuse.gptcache import guarded
create = guarded(gptcache.adapter.openai.ChatCompletion.create)
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, Unpack, cast

from spendfuse._client.connect import Connection
from spendfuse._client.run import RunOptions
from spendfuse._integrations.answer import Seen
from spendfuse._integrations.base import Integration, ModelCall, Usage, part, text
from spendfuse._integrations.openai_api import OpenAI

F = TypeVar("F", bound=Callable[..., Any])


def guarded(
    create: F, connection: Connection | None = None, *, provider: str = "openai", **attribution: Unpack[RunOptions]
) -> F:
    """Have a function of GPTCache's adapters ask before each call, and report it: a hit with `cache_hit` and no cost.

    A call belongs to the run in whose block it is made (`with spendfuse.run(...)`), else to a run of its own with this
    `attribution`. Raises `spendfuse.Stopped` or `spendfuse.Paused` while the run may not go on.
    """
    integration, words = Integration("spendfuse.gptcache", connection, attribution), OpenAI(provider)

    @functools.wraps(create)
    def asking(*args: Any, **options: Any) -> Any:
        run, model = integration.current_run(), text(options, "model") or "unknown"
        integration.check(run, model=model, provider=provider)
        prompt = options.get("messages") or options.get("prompt")
        call = ModelCall(integration, run, model, provider=provider, route=model, prompt=prompt)
        try:
            answer = create(*args, **options)
        except BaseException as error:
            call.ended(error)
            raise
        if isinstance(answer, Iterator) or (isinstance(answer, list) and options.get("stream")):
            return _followed(iter(answer), call, words)
        _report(answer, call, Seen(), words)
        return answer

    return cast("F", asking)


def _followed(parts: Iterator[Any], call: ModelCall, words: OpenAI) -> Iterator[Any]:
    seen, last = Seen(), None
    try:
        for each in parts:
            seen.take(words, each)
            last = each if last is None or part(each, "gptcache") else last
            yield each
    except BaseException as error:
        call.ended(error, seen.so_far(), **seen.known)
        raise
    _report(last, call, seen, words)


def _report(answer: object, call: ModelCall, seen: Seen, words: OpenAI) -> None:
    if part(answer, "gptcache"):
        call.done(Usage(cache_hit=True, cost_usd=0))  # the answer has no id, or that of the first one
        return
    seen.take(words, answer)
    call.done(seen.usage, **seen.known)
