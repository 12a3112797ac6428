"""A certificate authority for one test run, and certificates of it for loopback, as PEM files in a folder."""

import shutil
import subprocess
from pathlib import Path

import pytest

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def make_ca(folder: Path) -> Path:
    """Make the authority: `ca.pem`, which is returned, and `ca.key`. Skips the test where there is no `openssl`."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    _openssl(
        folder, "req", "-x509", *_NEW_KEY, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Test"
    )
    return folder / "ca.pem"


def issue(
    folder: Path, name: str, common_name: str | None = None, *, host: str = "IP:127.0.0.1", days: int = 2
) -> None:
    """Have the authority in `folder` certify a key: `NAME.key` and `NAME.pem`, for `common_name` or for `name`. `days`
    below zero make one that has expired.
    """
    (folder / "san.cnf").write_text(f"subjectAltName={host}\n")
    subject = f"/CN={common_name or name}"
    _openssl(folder, "req", *_NEW_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
    signing = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", str(days), "-extfile", "san.cnf"]
    _openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signing)


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
