"""What an enforcer can switch at a provider."""

from typing import Any, Final, NamedTuple, Protocol

import httpx2

TIMEOUT_S: Final = 10.0


class LeverError(Exception):
    """The provider has not done what it was asked for; the text says what to do and holds no credential."""


class Found(NamedTuple):
    """How a key stands at its provider."""

    is_closed: bool
    before: str
    """What has to be known to put it back as it is, in the provider's own words."""


class Lever(Protocol):
    """One key or project. Every call may be made again."""

    def read(self) -> Found:
        """How it stands. Raises `LeverError`."""

    def close(self) -> None:
        """Let nothing more through. Raises `LeverError`."""

    def open(self, before: str) -> None:
        """Put it back as `read` found it. Raises `LeverError`."""


class Api:
    """Calls to a provider that answers in JSON."""

    def __init__(self, address: str, headers: dict[str, str]) -> None:
        self._client = httpx2.Client(base_url=address, headers=headers, timeout=TIMEOUT_S, follow_redirects=False)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, *, absent: Any = None) -> Any:
        """One call; the answer, or `absent` where that is not None and the provider knows nothing of the kind."""
        try:
            answer = self._client.request(method, path, json=body)
        except httpx2.HTTPError as error:
            raise LeverError(f"{self._client.base_url} does not answer: {type(error).__name__}") from None
        if answer.status_code == 404 and absent is not None:
            return absent
        if answer.status_code in (401, 403):
            raise LeverError(f"{method} {path} was refused ({answer.status_code}): the credential may not do this")
        if answer.status_code == 404:
            raise LeverError(f"{path} is not known there (404): look at `key`")
        if not answer.is_success:
            raise LeverError(f"{method} {path} was answered with {answer.status_code}")
        try:
            return answer.json()
        except ValueError:
            raise LeverError(f"{method} {path} was answered with something that is no JSON") from None


def field(answer: Any, *names: str) -> Any:
    """A field of an answer, by its path. Raises `LeverError` where it is missing."""
    for name in names:
        if not isinstance(answer, dict) or name not in answer:
            raise LeverError(f"the answer has no {'.'.join(names)}: is this the right address?")
        answer = answer[name]
    return answer
