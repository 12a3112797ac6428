"""How a command ends: with an exit code and, where something is wrong, a sentence; a traceback is a fault of ours."""

import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

from schemas.errors import BrokerError, SettingsError, SpendfuseError

INTERRUPTED: Final = 128 + signal.SIGINT
NOBODY_READS: Final = 128 + signal.SIGPIPE
"""What a shell says of a program that went on writing to one that had ended, such as `head`."""
OF_THE_MACHINE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EADDRINUSE, errno.EMFILE})
"""What is no fault of ours even where no file is named."""


def run_to_end(command: Callable[[], int], name: str = "spendfuse") -> int:
    """Run a command; returns its exit code. What people must know is said on standard error, after `name`."""
    try:
        try:
            return command()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _write_nowhere()
        return NOBODY_READS
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        known = _known(error)
        if known is None:
            raise
        print(f"{name}: {known}", file=sys.stderr)
        return known.exit_code


def _known(error: Exception) -> SpendfuseError | None:
    """The same in our own words, where it is a file's, a setting's or a broker's fault."""
    match error:
        case SpendfuseError():
            return error
        case OSError(strerror=str(why), filename=str(path)):
            return SettingsError(f"{path}: {why}. Name another file or folder, or see that this one can be used")
        case OSError(strerror=str(why), errno=number) if number in OF_THE_MACHINE:
            return SettingsError(f"this machine does not allow it: {why}")
    return _of_kafka(error)


def _of_kafka(error: Exception) -> SpendfuseError | None:
    kafka: Any = sys.modules.get("confluent_kafka")  # a command that needs no broker has not loaded it
    if kafka is None or not isinstance(error, kafka.KafkaException) or not error.args:
        return None
    said = error.args[0]
    if said.code() == kafka.KafkaError._INVALID_ARG:
        return SettingsError(f"these settings are of no use to Kafka's client: {said.str()}. Look at SPENDFUSE_KAFKA_…")
    return BrokerError(f"the broker did not do it: {said.str()}")


def _write_nowhere() -> None:
    """Let what is still to be written vanish: at its end Python would try again, and complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
