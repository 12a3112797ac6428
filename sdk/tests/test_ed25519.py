"""The client's own Ed25519 agrees with the standard's examples, and with a library where there is one."""

import random

import pytest

from spendfuse._control.ed25519 import public_key, sign, verify

RFC_8032 = [  # section 7.1: private key, public key, message, signature
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]
ORDER = 2**252 + 27742317777372353535851937790883648493


@pytest.mark.parametrize(("private", "public", "message", "signed"), RFC_8032)
def test_the_standards_examples(private: str, public: str, message: str, signed: str) -> None:
    """Keys and signatures are the published ones."""
    assert public_key(bytes.fromhex(private)).hex() == public
    assert sign(bytes.fromhex(private), bytes.fromhex(message)).hex() == signed
    assert verify(bytes.fromhex(public), bytes.fromhex(signed), bytes.fromhex(message))


@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_a_library(seed: int) -> None:
    """What one signs the other believes, and neither believes it with a bit changed."""
    library = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    dice = random.Random(seed)
    private, message = dice.randbytes(32), dice.randbytes(dice.randrange(200))
    theirs = library.Ed25519PrivateKey.from_private_bytes(private)
    public, signed = theirs.public_key().public_bytes_raw(), theirs.sign(message)
    assert (public_key(private), sign(private, message)) == (public, signed)
    for _ in range(20):
        changed = bytearray(signed)
        changed[dice.randrange(64)] ^= 1 << dice.randrange(8)
        assert not verify(public, bytes(changed), message)
    assert not verify(public, signed, message + b"\0")


def test_what_is_no_signature_or_no_key_is_refused() -> None:
    """Wrong lengths, numbers out of range and points that are none are answers of False, not errors."""
    private = b"k" * 32
    public, signed = public_key(private), sign(private, b"m")
    higher = int.from_bytes(signed[32:], "little") + ORDER
    for key, signature in [
        (public, b""),
        (public, signed[:-1]),
        (public, signed + b"\0"),
        (public, signed[:32] + higher.to_bytes(32, "little")),  # the same modulo the order: a second signature
        (public, b"\xff" * 64),
        (b"", signed),
        (b"\xff" * 32, signed),
        ((2).to_bytes(32, "little"), signed),  # no point of the curve has this y
        ((1 | 1 << 255).to_bytes(32, "little"), signed),  # x = 0 has no odd twin
    ]:
        assert not verify(key, signature, b"m")
