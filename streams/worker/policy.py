"""Which policy the partitions of a worker are decided by, whatever becomes of policy.v1."""

import logging
from collections.abc import Mapping
from typing import Final

from models.rules.policy import default_policy
from models.state.restore import written_under
from models.stimuli import PolicyChanged
from schemas.errors import BrokerError
from streams.clock import BrokerClock
from streams.kafka.state_reader import Rows
from streams.process.logs import fields
from streams.process.metrics import Metrics
from streams.process.policies import Policies, PolicyLost
from streams.settings import Settings

log = logging.getLogger("spendfuse.worker")

ANSWER_S: Final = 5.0
"""For so long policy.v1 is waited for before partitions are taken over with the policy that is known."""


class PolicyInForce:
    """The published policy, else the file's, else the one that the state follows, else the defaults.

    Raises `BrokerError` when made: policy.v1 cannot be read.
    """

    def __init__(self, settings: Settings, metrics: Metrics, brokers: BrokerClock) -> None:
        self._brokers = brokers
        self._policies = Policies(settings, metrics.policy_faults)
        try:
            self.now = self._policies.first(brokers.now_ms())
        except PolicyLost as lost:
            log.error("the policy is lost; what the state follows stays in force", extra=fields(error=str(lost)))
            self.now = PolicyChanged(default_policy(), brokers.now_ms())

    def changed(self) -> PolicyChanged | None:
        """Another policy that decides otherwise, if one has been published since the last call."""
        changed = self._policies.changed()
        if changed is None:
            return None
        before, self.now = self.now, changed
        if changed.policy.stamp == before.policy.stamp:
            return None  # what differs, if anything, is whom to tell
        log.info("policy changed", extra=fields(policy_version=changed.policy.version))
        return changed

    def meet(self, changelog: Mapping[int, Rows]) -> None:
        """Before partitions are made of their rows: be as new as their last owner, or tenants would go back to an older
        policy for a moment. Where nobody says which is in force, the one that the rows follow stays: that none is
        published is no order to stop nothing.
        """
        try:
            self.now = next(reversed(self._policies.until_now(ANSWER_S)), self.now)
        except BrokerError as error:
            log.warning("whether another policy is published is not known yet", extra=fields(error=str(error)))
        if self._policies.is_named:
            return
        for number in sorted(changelog):
            followed = written_under(changelog[number])
            if followed is not None and followed.stamp != self.now.policy.stamp:
                about = fields(partition=number, policy_version=followed.version)
                log.warning("no policy is published; the one that the state follows stays in force", extra=about)
                self.now = PolicyChanged(followed, self._brokers.now_ms())
                return

    def close(self) -> None:
        """Stop following."""
        self._policies.close()
