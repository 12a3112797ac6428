"""Ed25519 signatures (RFC 8032) with the standard library alone: two or three milliseconds each, for the rare lift.

Checking handles nothing secret. Signing, for test doubles, takes no care to keep a key from whoever can time it.
"""

import hashlib
from functools import lru_cache

_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_SQRT_MINUS_1 = pow(2, (_P - 1) // 4, _P)

_Point = tuple[int, int, int, int]
"""X, Y, Z and T of extended coordinates: x = X/Z, y = Y/Z, xy = T/Z."""
_ZERO: _Point = (0, 1, 1, 0)


def public_key(seed: bytes) -> bytes:
    """Return the public key of a private one, 32 bytes each."""
    return _compressed(_times(_secret(seed)[0], _BASE))


def sign(seed: bytes, message: bytes) -> bytes:
    """Return the 64-byte signature of a message."""
    scalar, prefix = _secret(seed)
    nonce = _number(prefix, message)
    commitment = _compressed(_times(nonce, _BASE))
    challenge = _number(commitment, public_key(seed), message)
    return commitment + ((nonce + challenge * scalar) % _ORDER).to_bytes(32, "little")


def verify(key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `signature` is that of the message under a public key."""
    if len(signature) != 64:
        return False
    holder, commitment = _point(key), _point(signature[:32])
    answer = int.from_bytes(signature[32:], "little")
    if holder is None or commitment is None or answer >= _ORDER:
        return False
    challenge = _number(signature[:32], key, message)
    return _equal(_times(answer, _BASE), _sum(commitment, _times(challenge, holder)))


def _secret(seed: bytes) -> tuple[int, bytes]:
    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little")
    return scalar & ((1 << 254) - 8) | 1 << 254, digest[32:]


def _number(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % _ORDER


def _sum(p: _Point, q: _Point) -> _Point:
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % _P, (p[1] + p[0]) * (q[1] + q[0]) % _P
    c, d = 2 * p[3] * q[3] * _D % _P, 2 * p[2] * q[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times(factor: int, point: _Point) -> _Point:
    product = _ZERO
    for bit, doubled in enumerate(_doublings(point)):
        if factor >> bit & 1:
            product = _sum(product, doubled)
    return product


@lru_cache(maxsize=8)
def _doublings(point: _Point) -> tuple[_Point, ...]:
    """The point times 1, 2, 4, … up to 2**255: only the base and a few public keys are ever multiplied."""
    doublings = [point]
    for _ in range(255):
        doublings.append(_sum(doublings[-1], doublings[-1]))
    return tuple(doublings)


def _equal(p: _Point, q: _Point) -> bool:
    return (p[0] * q[2] - q[0] * p[2]) % _P == 0 and (p[1] * q[2] - q[1] * p[2]) % _P == 0


def _compressed(point: _Point) -> bytes:
    inverse = pow(point[2], -1, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _point(data: bytes) -> _Point | None:
    """The point that 32 bytes stand for; None if they stand for none."""
    if len(data) != 32:
        return None
    y = int.from_bytes(data, "little")
    odd, y = y >> 255, y & ((1 << 255) - 1)
    x = None if y >= _P else _x_of(y, odd)
    return None if x is None else (x, y, 1, x * y % _P)


def _x_of(y: int, odd: int) -> int | None:
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _SQRT_MINUS_1 % _P
    if (x * x - square) % _P or (not x and odd):
        return None
    return _P - x if x & 1 != odd else x


_BASE = _point((4 * pow(5, -1, _P) % _P).to_bytes(32, "little")) or _ZERO
