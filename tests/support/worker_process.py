"""A detection worker as a process of its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.signing import OperatorKey
from tests.support.service_process import ENGINE_KEY, OPERATOR_KEY, ServiceProcess

__all__ = ["ENGINE_KEY", "OPERATOR_KEY", "WorkerProcess"]

OPERATOR_PUBLIC_KEY = OperatorKey(OPERATOR_KEY.encode()).public_key.hex()


class WorkerProcess(ServiceProcess):
    """`python -m streams worker`.

    Args:
        bootstrap: the broker's address.
        prefix: before every topic's name.
        policy: the policy file.
        slot: the worker's place among its siblings.
        variables: of its environment, beside settings, by their whole names.
        settings: further settings.
    """

    def __init__(
        self,
        bootstrap: str,
        prefix: str,
        policy: Path | None = None,
        *,
        slot: str = "0",
        variables: Any = None,
        **settings: Any,
    ) -> None:
        given: dict[str, object] = {"KAFKA_BOOTSTRAP": bootstrap, "PREFIX": prefix, "SLOT": slot, "POLICY": policy}
        given |= {"OPERATOR_KEY": None, "OPERATOR_PUBLIC_KEY": OPERATOR_PUBLIC_KEY}  # it can check, and not order
        given |= {"WATCHDOG_S": 0, **settings}  # what is on alerts.v1 follows from the events alone
        super().__init__(["streams", "worker"], given, variables)

    def applied(self) -> dict[int, int]:
        """Partition -> offset of the last record of usage.v1 whose effects it has committed."""
        values = self.metric("spendfuse_applied_offset")
        return {int(labels.split('"')[1]): int(value) for labels, value in values.items()}

    def wait_applied(self, ends: Mapping[int, int], timeout_s: float = 90) -> None:
        """Wait until everything up to these offsets is committed.

        Raises:
            AssertionError: it is not within the time, or the worker has ended; with the end of its log.
        """

        def reached() -> bool:
            applied = self.applied()
            return not self.running or all(applied.get(partition, -1) >= end for partition, end in ends.items())

        self.wait_for(reached, timeout_s, f"applied up to {dict(ends)}")
        assert self.running, f"the worker ended with {self.process.returncode}:\n{self.tail()}"
