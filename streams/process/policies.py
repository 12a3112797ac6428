"""The policy in force: policy.v1, read whole and followed by every process that needs it, outside of any group."""

import logging

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition
from prometheus_client import Counter

from models.rules.policy import Policy, read_policy_json
from models.stimuli import PolicyChanged
from schemas.errors import BrokerError, PolicyError, StateError
from streams.clock import seconds, wall_ms
from streams.kafka.admin import existing_topics
from streams.kafka.client import make_consumer, refuse_without_rights
from streams.kafka.leaders import watermarks
from streams.process.logs import fields
from streams.process.metrics import Metrics
from streams.settings import Settings

log = logging.getLogger("spendfuse.policies")
READ_TIMEOUT_S = 30.0


class PolicyLost(StateError):  # it names what is wrong with policy.v1
    """A policy was published, and nothing that could be used is left of it; nor is there a file to go by instead."""


class Policies:
    """Follows the key `policy_name` of policy.v1. A faulty policy is refused, and so is a deletion: the one before it
    stays.
    """

    def __init__(self, settings: Settings, faults: Counter) -> None:
        self._settings = settings
        self._faults = faults
        self._name = settings.policy_name.encode()
        self._at_end = False
        self._reached = 0
        self._read_records = 0
        self._refused = ""
        """What is wrong with the newest record under the name; empty where that is in force, or there is none."""
        self.is_named = settings.policy is not None
        """Whether somebody says which policy is in force: one is published, or the settings name a file."""
        self.oldest_offset: int | None = None
        """Of the first record that was read: above 0 where compaction has taken what was before it."""
        self._consumer = make_consumer(settings, f"spendfuse-policies-{settings.slot}", {"fetch.wait.max.ms": 100})
        self._consumer.assign([TopicPartition(settings.topic("policy.v1"), 0, OFFSET_BEGINNING)])

    def first(self, now_ms: int) -> PolicyChanged:
        """The policy to start with: the topic's since its append, else the file's, else the defaults, since now.

        Raises:
            PolicyLost: the topic has held one, and it is not known any more which.
            BrokerError: the topic cannot be read.
        """
        found: PolicyChanged | None = None
        deadline = seconds() + READ_TIMEOUT_S
        while not self._at_end:
            found = self.changed(wait_s=0.05) or found
            if seconds() > deadline:
                raise BrokerError(
                    f"{self._settings.topic('policy.v1')} could not be read within {READ_TIMEOUT_S:.0f} s"
                )
        if not self.is_named and (why := self._why_lost()):
            raise PolicyLost(
                f"no policy can be read from {self._settings.topic('policy.v1')}: {why}. The defaults stop nothing and "
                "tell nobody, so they are not taken in its place. Publish the one that is meant: "
                "python -m streams policy publish FILE"
            )
        return found or PolicyChanged(self._settings.file_policy(), now_ms)

    def changed(self, wait_s: float = 0.0) -> PolicyChanged | None:
        """The newest valid policy that has arrived since the last call, in force since its append; None for none."""
        return next(reversed(self._arrived(wait_s)), None)

    def until_now(self, patience_s: float = READ_TIMEOUT_S) -> list[PolicyChanged]:
        """Every valid policy since the last call, up to where the topic ends now; each in force since its append.

        Raises:
            BrokerError: the end cannot be reached within the time.
        """
        place = TopicPartition(self._settings.topic("policy.v1"), 0)
        deadline = seconds() + patience_s
        try:
            _, end = watermarks(self._consumer, place, patience_s)
        except KafkaException as error:
            raise BrokerError(f"the broker does not say where policy.v1 ends: {error.args[0].str()}") from None
        found: list[PolicyChanged] = []
        while self._reached < end:
            found += self._arrived(wait_s=0.05)
            if seconds() > deadline:
                raise BrokerError(f"{place.topic} could not be read within {patience_s:.0f} s")
        return found

    def _arrived(self, wait_s: float) -> list[PolicyChanged]:
        found: list[PolicyChanged] = []
        for message in self._consumer.consume(100, wait_s):
            error, offset = message.error(), message.offset() or 0
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    self._at_end = True
                    self._reached = max(self._reached, offset)
                refuse_without_rights(error)
                continue
            self._reached = offset + 1
            self.oldest_offset = offset if self.oldest_offset is None else self.oldest_offset
            self._read_records += 1
            if message.key() == self._name and (policy := self._read(message.value())) is not None:
                found.append(PolicyChanged(policy, message.timestamp()[1]))
        return found

    def _read(self, value: bytes | None) -> Policy | None:
        try:
            policy = read_published(value)
        except PolicyError as error:
            self._faults.inc()
            self._refused = error.faults[0]
            log.error("a policy was refused; the one before it stays in force", extra=fields(faults=error.faults))
            return None
        self._refused = ""
        self.is_named = True
        return policy

    def _why_lost(self) -> str:
        """Why it is not known any more what was published, in words; nothing where nothing ever was."""
        if self._refused:
            return f"its newest record is refused ({self._refused}), and no other is left"
        return "what was written there is gone" if self._reached and not self._read_records else ""

    def close(self) -> None:
        """Stop following."""
        self._consumer.close()


def read_published(value: bytes | None) -> Policy:
    """The policy in a record of policy.v1. Raises `PolicyError`, for a deletion too: whoever wants none says which."""
    if value is None:
        raise PolicyError(["it is a deletion"])
    return read_policy_json(value)


def policy_in_force(settings: Settings) -> Policy:
    """The policy in force now, for a tool that does not follow it. Raises `BrokerError` or `PolicyLost`."""
    existing_topics(settings, ["policy.v1"])  # or reading would wait for half a minute to say less
    try:
        policies = Policies(settings, Metrics().policy_faults)
    except KafkaException as error:
        raise BrokerError(error.args[0].str()) from None
    try:
        return policies.first(wall_ms()).policy
    finally:
        policies.close()
