"""The certificate that a process serves with."""

import ssl
from pathlib import Path

from schemas.errors import SettingsError
from streams.settings import PREFIX


def server_tls(certificate: Path | None, key: Path | None, setting: str) -> ssl.SSLContext | None:
    """What to serve TLS with; None without a certificate. `setting` is what the two settings' names begin with.

    Raises:
        SettingsError: they cannot be used.
    """
    if certificate is None:
        if key is not None:
            raise SettingsError(f"{PREFIX}{setting}_KEY is set without {PREFIX}{setting}_CERTIFICATE: set both")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # With a password, or OpenSSL would ask at the terminal for that of a key which has one.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"{PREFIX}{setting}_CERTIFICATE and _KEY: {certificate} with {key or 'its key inside'} cannot be used: "
            f"{error.strerror or error}. Both are PEM files, the key without a password and of this certificate"
        ) from None
    return context
