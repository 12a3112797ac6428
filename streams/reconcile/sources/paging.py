"""Reports fetched page by page, with patience for whoever asks for it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from streams.provider_api import Api, ProviderError, field

TIMEOUT_S: Final = 20.0
"""A report of a month takes a provider longer than a switch."""
MOST_TRIES: Final = 5
MOST_WAIT_S: Final = 60.0
MOST_PAGES: Final = 1000

Wait = Callable[[float], object]


class Reports:
    """The reports of one console. `wait` is called with so many seconds before the same is asked again."""

    def __init__(self, address: str, headers: dict[str, str], wait: Wait) -> None:
        self._api = Api(address, headers, TIMEOUT_S)
        self._wait = wait

    def buckets(self, path: str, params: Sequence[tuple[str, str]]) -> Iterator[dict[str, Any]]:
        """The buckets of all pages. Raises `ProviderError` where not all of them can be had."""
        page: list[tuple[str, str]] = []
        seen: set[str] = set()
        for _ in range(MOST_PAGES):
            answer = self._patiently(path, [*params, *page])
            yield from _dicts(field(answer, "data"), "data")
            if not field(answer, "has_more"):
                return
            token = answer.get("next_page")
            if not isinstance(token, str) or token in seen:
                raise ProviderError("there is more, and the answer does not say where: pages are missing")
            seen.add(token)
            page = [("page", token)]
        raise ProviderError(f"there are more than {MOST_PAGES} pages: pages are missing")

    def _patiently(self, path: str, params: Sequence[tuple[str, str]]) -> Any:
        for tried in range(1, MOST_TRIES + 1):
            try:
                return self._api.call("GET", path, params=params)
            except ProviderError as error:
                wait_s = float(2**tried) if error.retry_after_s is None else error.retry_after_s
                if not error.may_pass or tried == MOST_TRIES or wait_s > MOST_WAIT_S:
                    raise
                self._wait(wait_s)
        raise AssertionError("the last try returns or raises")


def results(bucket: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of a bucket. Raises `ProviderError`."""
    return _dicts(field(bucket, "results"), "results")


def named(row: dict[str, Any], name: str) -> str | None:
    """What a row is grouped by; None where the provider does not say."""
    value = row.get(name)
    return value if isinstance(value, str) and value else None


def _dicts(value: Any, name: str) -> Iterator[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ProviderError(f"the answer's {name} is no list of objects: is this the right address?")
    return iter(value)
