"""What can be wrong with what we are given.

SpendfuseError
├── Undecodable      bytes that are no valid message: a dead letter
├── PolicyError      a policy with faults, all of them listed: keep the old one
├── SettingsError    wrong settings, all of them listed: exit 2
├── StateError       state that cannot be trusted: exit 3, with what to do
└── BrokerError      the broker cannot be reached: exit 4
"""

from schemas.dead_letter import Reason


class SpendfuseError(Exception):
    """Base of all errors that carry a message for people; `exit_code` is what a process ends with."""

    exit_code = 1


class Undecodable(SpendfuseError):
    """Bytes that are no valid message. `reason` is from a closed list, `detail` names the field and its fault."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: Reason = reason
        self.detail = detail


class PolicyError(SpendfuseError):
    """A policy with faults. `faults` lists every one with the name of its place."""

    exit_code = 2

    def __init__(self, faults: list[str]) -> None:
        super().__init__("the policy has faults:\n" + "\n".join(f"  - {fault}" for fault in faults))
        self.faults = faults


class SettingsError(SpendfuseError):
    """Settings that cannot be used, all faults together."""

    exit_code = 2


class StateError(SpendfuseError):
    """State that does not match its own proof, or was written by something newer. Never used, never guessed at."""

    exit_code = 3


class BrokerError(SpendfuseError):
    """The broker cannot be reached, or refuses what we need."""

    exit_code = 4
