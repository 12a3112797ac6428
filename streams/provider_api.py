"""Calls to the interfaces of providers and of systems that are polled, over HTTP: errors in words for people, and no
credential in any of them.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx2

from streams.clock import wall_ms

TIMEOUT_S: Final = 10.0


class ProviderError(Exception):
    """The provider has not done what it was asked for; the text says what to do and holds no credential."""

    def __init__(
        self, text: str, *, may_pass: bool = False, retry_after_s: float | None = None, status: int | None = None
    ) -> None:
        """`may_pass`: the same call may work later, after `retry_after_s` where the provider has said so. `status` is
        its answer's, where it is what was wrong.
        """
        super().__init__(text)
        self.status = status
        self.may_pass = may_pass
        self.retry_after_s = retry_after_s


class Api:
    """Calls to a provider that answers in JSON."""

    def __init__(self, address: str, headers: dict[str, str], timeout_s: float = TIMEOUT_S) -> None:
        self._client = httpx2.Client(base_url=address, headers=headers, timeout=timeout_s, follow_redirects=False)

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Sequence[tuple[str, str]] = (),
        absent: Any = None,
    ) -> Any:
        """One call; the answer, or `absent` where that is not None and the provider knows nothing of the kind.

        Raises:
            ProviderError: the provider does not answer, refuses, or answers with something else than JSON.
        """
        try:
            answer = self._client.request(method, path, json=body, params=list(params) or None)
        except httpx2.HTTPError as error:
            raise ProviderError(
                f"{self._client.base_url} does not answer: {type(error).__name__}", may_pass=True
            ) from None
        status = answer.status_code
        if status == 404 and absent is not None:
            return absent
        if status in (401, 403):
            raise ProviderError(
                f"{method} {path} was refused ({status}): the credential may not do this", status=status
            )
        if status == 404:
            raise ProviderError(
                f"{path} is not known there (404): look at the key's id and at `base_url`", status=status
            )
        if not answer.is_success:
            raise ProviderError(
                f"{method} {path} was answered with {status}",
                may_pass=status == 429 or status >= 500,
                retry_after_s=_seconds(answer.headers.get("Retry-After")),
                status=status,
            )
        try:
            return answer.json()
        except ValueError:
            raise ProviderError(f"{method} {path} was answered with something that is no JSON") from None


def field(answer: Any, *names: str) -> Any:
    """A field of an answer, by its path. Raises `ProviderError` where it is missing."""
    for name in names:
        if not isinstance(answer, dict) or name not in answer:
            raise ProviderError(f"the answer has no {'.'.join(names)}: is this the right address?")
        answer = answer[name]
    return answer


def _seconds(retry_after: str | None) -> float | None:
    """A `Retry-After`, which is so many seconds or a date; None without one that can be read."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - wall_ms() / 1000)
