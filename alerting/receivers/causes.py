"""Why a receiver was not reached, in words that say what to look at. Nothing of an exception's own text, which may hold
an address that is a secret.
"""

import errno
import socket
import ssl
from collections.abc import Iterator

_OF_CERTIFICATES = {
    9: "its certificate is not valid yet: look at this host's clock",
    10: "its certificate has expired",
    62: "its certificate is for another host: look at the address, and at proxies on the way",
    64: "its certificate is for another host: look at the address, and at proxies on the way",
}
"""By OpenSSL's number for what is wrong."""
_UNKNOWN_AUTHORITY = (
    "nobody known here vouches for its certificate: behind a proxy, name its authority in SPENDFUSE_RECEIVERS_CA"
)
_NO_WAY = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
_LEADS_TO = ("certificate_error", "os_error", "__cause__", "__context__")
"""Where clients put the exception that theirs follows from."""


def cause(error: BaseException) -> str:
    """What stood in the way; the name of the exception where it follows from nothing that is known here.

    The farthest of what it follows from says most: some clients' exceptions claim to be of every class at once.
    """
    found = reversed([*_followed(error)])
    return next((words for each in found if (words := _words(each))), type(error).__name__)


def _followed(error: BaseException) -> Iterator[BaseException]:
    """An exception and those that it follows from, the nearest first."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        found = (getattr(each, name, None) for name in _LEADS_TO)
        waiting += [one for one in found if isinstance(one, BaseException)]


def _words(error: BaseException) -> str:
    match error:
        case ssl.SSLCertVerificationError(verify_code=code):
            return _OF_CERTIFICATES.get(code, _UNKNOWN_AUTHORITY)
        case ssl.SSLError():
            return "TLS was not agreed on: look at the address, http or https, and at proxies on the way"
        case socket.gaierror():
            return "its name is not found: look at the address, and at this host's DNS"
        case ConnectionRefusedError():
            return "nothing listens at its address and port"
        case ConnectionResetError() | BrokenPipeError():
            return "the connection was broken off"
        case OSError(errno=number) if number in _NO_WAY:
            return "there is no way to it from this host: look at its network, IPv6 included"
        case TimeoutError():
            return "it has not answered in time"
        case _:
            return ""
