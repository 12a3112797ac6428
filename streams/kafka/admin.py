"""Asking a broker about itself: every wait is bounded, every failure is one sentence."""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Final, NamedTuple, TypeVar

from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # offered, but not exported
    AclOperation,
    MemberDescription,
    TopicMetadata,
)

from schemas.errors import BrokerError
from streams.kafka.client import HOW_TO_GRANT, Admin, silent
from streams.settings import Settings

REQUEST_TIMEOUT_S: Final = 15.0
READY_TIMEOUT_S: Final = 30.0
QUICK_ANSWER_S: Final = 3.0
"""For a question beside other work."""
LOGIN_PATIENCE_S: Final = 2.0
"""How long a login may be refused before nobody is asked any more: another broker of the cluster may know it."""

_LOOK_AGAIN_S: Final = 0.05
_SETTLED: Final = frozenset({ConsumerGroupState.STABLE, ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD})

Result = TypeVar("Result")


class BrokerUnreachableError(BrokerError):
    """The broker did not answer, or not in time, or not to this kind of question."""


class UnsupportedByBrokerError(BrokerUnreachableError):
    """The broker does not know this kind of question."""


class BrokerRefusedError(BrokerError):
    """The broker answered no; the message says to what and why."""

    exit_code = 2

    def __init__(self, text: str, code: int = KafkaError.UNKNOWN) -> None:
        super().__init__(text)
        self.code = code
        """The broker's answer, a code of `confluent_kafka.KafkaError`."""


def in_background(call: Callable[[], Result], name: str) -> Future[Result]:
    """Make a call in a thread of its own, because the client's own wait hears no Ctrl-C. Nobody waits for it when the
    process ends.
    """
    asked: Future[Result] = Future()
    asked.set_running_or_notify_cancel()

    def ask() -> None:
        try:
            asked.set_result(call())
        except BaseException as error:  # it belongs to whoever waits
            asked.set_exception(error)

    threading.Thread(target=ask, name=name, daemon=True).start()
    return asked


def topics_on_broker(admin: Admin) -> dict[str, TopicMetadata]:
    """All topics by name, with their partitions and leaders.

    Raises:
        BrokerUnreachableError: the broker did not answer in time.
    """
    asked = in_background(lambda: dict(admin.list_topics(timeout=REQUEST_TIMEOUT_S).topics), "list-topics")
    refused_s: float | None = None
    while not wait([asked], _LOOK_AGAIN_S).done:
        admin.poll(0)  # hands out what the client has to say for itself
        if admin.complaints.login is not None:
            refused_s = refused_s or time.monotonic()
            if time.monotonic() > refused_s + LOGIN_PATIENCE_S:
                raise BrokerUnreachableError(_login_refused(admin))
    try:
        return asked.result()
    except KafkaException as error:
        raise BrokerUnreachableError(_unanswered(admin, error)) from error


def existing_topics(settings: Settings, needed: Iterable[str]) -> dict[str, TopicMetadata]:
    """All topics by name. Ask before writing: a broker that creates topics by itself makes wrong ones.

    Raises:
        BrokerError: no broker answers, or a needed topic is missing.
    """
    found = topics_on_broker(Admin(settings))
    require_topics(found, map(settings.topic, needed))
    return found


def require_topics(found: Mapping[str, TopicMetadata], topics: Iterable[str]) -> None:
    """Raises `BrokerError` when one of the topics, named in full, is not among those that the broker showed."""
    missing = [topic for topic in topics if topic not in found]
    if missing:
        raise BrokerError(
            f"topics are missing, or this client may not see them: {', '.join(missing)}. "
            "Create them: python -m streams topics apply. If they are there, the right to see them is missing. "
            f"{HOW_TO_GRANT}"
        )


def missing_topics(settings: Settings, needed: Iterable[str]) -> list[str]:
    """Which of the topics the broker does not show, named in full; none where it does not say within seconds."""
    try:
        found = Admin(settings).list_topics(timeout=QUICK_ANSWER_S).topics
    except KafkaException:
        return []
    return [topic for topic in map(settings.topic, needed) if topic not in found]


def require_write(settings: Settings, needed: Iterable[str]) -> None:
    """Raises `BrokerError` when the broker says that this client may not write one of the topics.

    For topics that are written seldom: that a right is missing shows at once, and not when somebody waits for it. Who
    does not log in has no rights of its own.
    """
    if settings.kafka_security_protocol == "PLAINTEXT":
        return
    topics = list(map(settings.topic, needed))
    admin = Admin(settings)  # held in a name: the request dies with its client
    asked = admin.describe_topics(
        TopicCollection(topics), include_authorized_operations=True, request_timeout=REQUEST_TIMEOUT_S
    )
    for topic, future in asked.items():
        allowed = answer(future, f"describe {topic}").authorized_operations
        if allowed is not None and AclOperation.WRITE not in allowed:
            raise BrokerError(
                f"the broker does not allow it: what is missing is the right to write the topic {topic}. {HOW_TO_GRANT}"
            )


def partition_count(settings: Settings, *, needed: Iterable[str], alike: Sequence[str]) -> int:
    """How many partitions each of the topics `alike` has.

    Raises:
        BrokerError: no broker answers, a needed topic is missing, or the topics `alike` differ in their partitions.
    """
    found = existing_topics(settings, needed)
    counts = {name: len(found[settings.topic(name)].partitions) for name in alike}
    if len(set(counts.values())) != 1:
        raise BrokerError(f"{' and '.join(alike)} must have the same number of partitions: {counts}")
    return counts[alike[0]]


class Member(NamedTuple):
    """A member of a consumer group."""

    name: str
    """The one that it keeps over restarts, else the one of its client."""
    host: str
    is_static: bool
    """Whether its name is its own: then it keeps its place for a session after its end."""
    owned: frozenset[int]
    """Partitions that it owns of every topic asked for."""


class GroupDescription(NamedTuple):
    """A consumer group as its coordinator describes it."""

    is_settled: bool
    """Whether all of it that is to be given away has been; not while it rebalances."""
    members: tuple[Member, ...]

    @property
    def owned(self) -> frozenset[int]:
        """Partitions that somebody owns."""
        return frozenset[int]().union(*(member.owned for member in self.members))

    def owned_by(self, name: str) -> frozenset[int]:
        """Partitions that the member of this name owns."""
        return frozenset[int]().union(*(member.owned for member in self.members if member.name == name))


def describe_group(admin: Admin, group: str, topics: Collection[str] = ()) -> GroupDescription:
    """The members of a consumer group, and what they own of `topics`. One that ended without leaving, as a static
    member does, is a member until its session is over.

    Raises:
        UnsupportedByBrokerError: the broker cannot say, as the embedded one cannot.
        BrokerError: the broker did not say.
    """
    [described] = admin.describe_consumer_groups([group], request_timeout=REQUEST_TIMEOUT_S).values()
    try:
        found = answer(described, f"describe the group {group}")
    except BrokerRefusedError as error:
        if error.code == KafkaError.GROUP_ID_NOT_FOUND:
            return GroupDescription(is_settled=True, members=())
        raise
    return GroupDescription(found.state in _SETTLED, tuple(_member(each, topics) for each in found.members))


def group_members(admin: Admin, group: str) -> list[str]:
    """The members of a consumer group, each as the name it has there and its host. Raises as `describe_group` does."""
    return sorted(f"{member.name} on {member.host}" for member in describe_group(admin, group).members)


def _member(described: MemberDescription, topics: Collection[str]) -> Member:
    places = [] if described.assignment is None else described.assignment.topic_partitions
    owned = [frozenset(place.partition for place in places if place.topic == topic) for topic in topics]
    return Member(
        described.group_instance_id or described.client_id,
        described.host.lstrip("/"),
        bool(described.group_instance_id),
        frozenset[int]() if not owned else owned[0].intersection(*owned[1:]),
    )


def await_leaders(admin: Admin, names: list[str]) -> None:
    """Return when every topic is visible and each partition has a leader: before that, a client's first call fails.

    Raises:
        BrokerUnreachableError: that was not so within `READY_TIMEOUT_S`; names the topics.
    """
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        topics = topics_on_broker(admin)
        unready = [name for name in names if not _ready(topics.get(name))]
        if not unready:
            return
        if time.monotonic() > deadline:
            raise BrokerUnreachableError(f"After {READY_TIMEOUT_S:.0f} s there is no leader for: {', '.join(unready)}.")
        time.sleep(_LOOK_AGAIN_S)


def answer(future: "Future[Result]", what: str) -> Result:
    """The broker's answer to a request; `what` completes the sentence "The broker did not …".

    Raises:
        BrokerRefusedError: it said no.
        UnsupportedByBrokerError: it does not know the question.
        BrokerUnreachableError: it said nothing.
    """
    try:
        # The client's own time-out comes first; this one only makes sure that nothing waits for ever.
        return future.result(2 * REQUEST_TIMEOUT_S)
    except KafkaException as error:
        code = error.args[0].code()
        sentence = f"The broker did not {what}: {_reason(error)}."
        if code > 0 and code != KafkaError.REQUEST_TIMED_OUT:  # the client's own codes are below zero
            raise BrokerRefusedError(sentence, code) from error
        if code == KafkaError._UNSUPPORTED_FEATURE:
            raise UnsupportedByBrokerError(sentence) from error
        raise BrokerUnreachableError(sentence) from error
    except FutureTimeoutError as error:
        raise BrokerUnreachableError(f"The broker did not {what} in time.") from error


def _unanswered(admin: Admin, error: KafkaException) -> str:
    """Why nothing came back, with what to do: a login that is refused looks like silence to the client."""
    admin.poll(0)
    if admin.complaints.login is not None:
        return _login_refused(admin)
    return silent(admin.address, admin.protocol, _reason(error))


def _login_refused(admin: Admin) -> str:
    return (
        f"the broker at {admin.address} refuses the login: {admin.complaints.login}. Look at the settings "
        "SPENDFUSE_KAFKA_SECURITY_PROTOCOL, _SASL_MECHANISM, _SASL_USERNAME, _SASL_PASSWORD and _SSL_CA"
    )


def _ready(topic: TopicMetadata | None) -> bool:
    return topic is not None and bool(topic.partitions) and all(part.leader >= 0 for part in topic.partitions.values())


def _reason(error: KafkaException) -> str:
    kafka_error: KafkaError = error.args[0]
    return (kafka_error.str() or kafka_error.name()).rstrip(".")
