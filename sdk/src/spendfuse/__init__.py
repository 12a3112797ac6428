"""What an AI agent imports to report its spend over Kafka and to obey a stop. See the README for two examples.

`spendfuse.kafka` connects to Kafka; `spendfuse.testing` has stand-ins for your own tests.
"""

from spendfuse._emitter import Emitter
from spendfuse._environment import keys_from_environment
from spendfuse._errors import InvalidEvent, Paused, SpendfuseError, Stopped
from spendfuse._guard import Advice, Guard
from spendfuse._hashing import hash_of
from spendfuse._run import Run
from spendfuse._signing import derive_keys, derive_tenant_key

__all__ = [
    "Advice",
    "Emitter",
    "Guard",
    "InvalidEvent",
    "Paused",
    "Run",
    "SpendfuseError",
    "Stopped",
    "derive_keys",
    "derive_tenant_key",
    "hash_of",
    "keys_from_environment",
]
