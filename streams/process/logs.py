"""Logs for machines: one JSON object a line, on standard error. What was caused by an event carries the event's id."""

import logging
import sys
from typing import Any

import orjson

CHATTY = ("faust", "mode", "aiokafka", "streams.notifier.committed")
"""Libraries, and a class of ours that logs as one, whose every step is no news."""


class JsonLines(logging.Formatter):
    """Time, level, message, and whatever fields the call gave as `extra={"fields": …}`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts_ms": int(record.created * 1000),
            "level": record.levelname.lower(),
            "at": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def start_logging(level: str) -> None:
    """Send all logs of this process to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for library in CHATTY:
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLogger().level))


def fields(**values: Any) -> dict[str, Any]:
    """Fields for a log call's `extra`."""
    return {"fields": values}
