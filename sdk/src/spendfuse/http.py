"""A gateway for an Emitter and a Guard, where there is no Kafka: Python's own library is all it needs."""

from spendfuse._http.control import HttpControl
from spendfuse._http.transport import HttpTransport

__all__ = ["HttpControl", "HttpTransport"]
