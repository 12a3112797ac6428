"""A certificate authority for a cluster, and a store for each of its brokers, as PEM files in a folder.

For clusters that have no authority of their own. What is there and still valid for a while is kept.
"""

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS: Final = 3650
BROKER_DAYS: Final = 397
RENEW_DAYS: Final = 30
"""A certificate that ends sooner is made anew."""
_NAME: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Spendfuse's Kafka")])


def make_authority(folder: Path) -> tuple[Path, bool]:
    """The certificate that clients are given, `ca.pem`, made with its key if there is none; and whether it was."""
    path = folder / "ca.pem"
    if path.exists():
        return path, False
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _begun(_NAME, key.public_key(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(folder / "ca.key", _pem(key))
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path, True


def make_store(folder: Path, host: str) -> tuple[Path, bool]:
    """A broker's key and certificate in one file, `HOST.pem`, made if there is none or it ends soon; and
    whether it was.

    Args:
        folder: with the authority.
        host: the name or address by which clients reach the broker.
    """
    path = folder / f"{host}.pem"
    if path.exists() and not _ends_soon(path):
        return path, False
    authority = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    assert isinstance(authority, ec.EllipticCurvePrivateKey), "it was made so"
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    certificate = (
        _begun(name, key.public_key(), BROKER_DAYS)
        .add_extension(x509.SubjectAlternativeName(_reached_by([host])), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False)
        .sign(authority, hashes.SHA256())
    )
    _write(path, _pem(key) + certificate.public_bytes(serialization.Encoding.PEM))
    return path, True


def _begun(subject: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(_NAME)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # a broker whose clock is behind believes it at once
        .not_valid_after(now + timedelta(days=days))
    )


def _reached_by(hosts: Sequence[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for host in hosts:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            found.append(x509.DNSName(host))
    return found


def _ends_soon(path: Path) -> bool:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return certificate.not_valid_after_utc < datetime.now(UTC) + timedelta(days=RENEW_DAYS)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
