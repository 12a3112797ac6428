"""Sending to the terminal: the demo's default."""

import sys
from typing import TextIO

from alerting.errors import SendError
from alerting.notice import Notice, Receipt
from alerting.rendering.render import plain_text

_COLOURS = {"critical": "1;31", "error": "31", "warning": "33", "info": "36"}
_RESOLVED = "32"
_DIM = "2"


class ConsoleSender:
    """Prints the notice to `out`, in colour where that is a terminal."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout

    async def send(self, delivery_id: str, notice: Notice) -> Receipt:
        try:
            self._out.write(self._writable("\n".join(self._lines(notice)) + "\n"))
            self._out.flush()
        except (OSError, ValueError) as error:
            raise SendError("network", f"the console is closed: {type(error).__name__}", retryable=False) from None
        return Receipt({"delivery_id": delivery_id})

    async def aclose(self) -> None:
        """Nothing to let go of: the stream is the caller's."""

    def _lines(self, notice: Notice) -> list[str]:
        if notice.ready is not None:
            return notice.ready.text.split("\n")
        first, *rest = plain_text(notice).split("\n")
        colour = _RESOLVED if notice.alert.state == "resolved" else _COLOURS.get(notice.alert.severity, "")
        return [self._paint(first, colour), *(self._paint(f"    {line}", _DIM) for line in rest)]

    def _writable(self, text: str) -> str:
        """Not every terminal has every character."""
        encoding = self._out.encoding or "utf-8"
        return text.encode(encoding, "replace").decode(encoding)

    def _paint(self, text: str, colour: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if colour and self._out.isatty() else text
