"""From a Kafka that lets everybody in to one where each part of the service has a login and the least rights.

`brokers` makes certificates and the lines of `server.properties` for a listener with TLS and SCRAM. `users` makes the
users, their passwords and their rights, as the administrator whose login the SPENDFUSE_KAFKA_… variables are, and tries
each login. Both say what they did, and do nothing a second time.
"""

import argparse
import os
import secrets
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it offers these names, but does not export them
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from infra.kafka.access import rights, roles
from infra.kafka.certificates import make_authority, make_store
from infra.kafka.settings import tls_listener_settings
from schemas.errors import BrokerError, SettingsError
from streams.kafka.client import Admin
from streams.process.ending import run_to_end
from streams.settings import Settings, read_settings

MECHANISM: Final = "SCRAM-SHA-512"
ITERATIONS: Final = 8192
ASK_S: Final = 15.0
LOGIN_S: Final = 15.0
"""How long a new password may take to reach the broker that is asked."""


class Cluster:
    """A cluster seen by its administrator.

    Args:
        settings: the administrator's, with the prefix of the installation.
        folder: where each user's settings are kept, a file each.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._admin = Admin(settings)

    def secure(self, role: str, user: str, *, replace: bool = False) -> str:
        """Give a role's user its password and its rights; returns in a sentence what was done.

        Args:
            role: of `access.toml`.
            user: its name on the cluster.
            replace: give it a new password if it has one that is not in the folder.

        Raises:
            SettingsError: it has such a password.
            BrokerError: the administrator may not do it, or nobody answers, or the login does not work.
        """
        path = self._folder / f"{user}.toml"
        is_there, is_known = user in self._users(), path.exists()
        if is_there and not is_known and not replace:
            raise SettingsError(
                f"{user} is there, and its password is not in {self._folder}: name the folder that has {path.name}, "
                "or give it a new one with --replace, which ends the logins of whoever uses the old one"
            )
        given = self._given(path, user)
        if not is_there or not is_known:
            self._set_password(user, str(given["kafka_sasl_password"]))
        new, more = self._grant(role, user)
        self._try(Settings.model_validate(given), user)
        done = "kept" if is_there and is_known else "given a new password" if is_there else "made"
        surplus = f"; it has {more} rights that its role does not need" if more else ""
        return f"{user}: {done}, {new} rights granted{surplus}; it logs in by {path}"

    def _users(self) -> set[str]:
        found: Any = self._admin.describe_user_scram_credentials(request_timeout=ASK_S)
        return set(_answer(found))

    def _given(self, path: Path, user: str) -> dict[str, str]:
        """A user's settings, written first where they are not there."""
        if not path.exists():
            admin = self._settings
            given = {
                "kafka_bootstrap": admin.kafka_bootstrap,
                "kafka_security_protocol": admin.kafka_security_protocol,
                "kafka_sasl_mechanism": MECHANISM,
                "kafka_sasl_username": user,
                "kafka_sasl_password": secrets.token_urlsafe(32),
                "prefix": admin.prefix,
            } | ({"kafka_ssl_ca": str(admin.kafka_ssl_ca)} if admin.kafka_ssl_ca else {})
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.writelines(f'{name} = "{value}"\n' for name, value in given.items())
        read: dict[str, str] = tomllib.loads(path.read_text(encoding="utf-8"))
        return read

    def _set_password(self, user: str, password: str) -> None:
        kind = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
        wanted = UserScramCredentialUpsertion(user, kind, password.encode())
        _answer(self._admin.alter_user_scram_credentials([wanted], request_timeout=ASK_S)[user])

    def _grant(self, role: str, user: str) -> tuple[int, int]:
        """Grant what is missing; returns how many rights that were, and how many the user has beyond its role's."""
        principal = f"User:{user}"
        every: tuple[Any, ...] = (
            ResourceType.ANY, None, ResourcePatternType.ANY, principal, None, AclOperation.ANY, AclPermissionType.ANY,
        )  # fmt: skip
        there: set[AclBinding] = set(
            _answer(self._admin.describe_acls(AclBindingFilter(*every), request_timeout=ASK_S))
        )
        wanted = {right.binding(principal) for right in rights(role, self._settings.prefix)}
        missing = list(wanted - there)
        if missing:
            for granted in self._admin.create_acls(missing, request_timeout=ASK_S).values():
                _answer(granted)
        return len(missing), len(there - wanted)

    def _try(self, settings: Settings, user: str) -> None:
        """Log in as the user. Raises `BrokerError` if that does not work in time."""
        deadline = time.monotonic() + LOGIN_S
        while True:
            try:
                Admin(settings).list_topics(timeout=5)
                return
            except KafkaException as error:
                if time.monotonic() > deadline:
                    raise BrokerError(f"{user} cannot log in: {error.args[0].str()}") from None


def _answer(future: Any) -> Any:
    return future.result(ASK_S + 5)


def secure_users(
    settings: Settings, folder: Path, wanted: Sequence[str], users: str, *, replace: bool
) -> Iterator[str]:
    """What was done for each role, in a sentence, as it is done. `users` has `{role}` in it."""
    cluster = Cluster(settings, folder)
    for role in wanted:
        yield cluster.secure(role, users.format(role=role), replace=replace)


def secure_brokers(folder: Path, hosts: Sequence[str]) -> Iterator[str]:
    """What was made for each broker, and the lines of its `server.properties`."""
    authority, is_new = make_authority(folder)
    yield f"# {authority}: {'made' if is_new else 'kept'}; give it to clients as SPENDFUSE_KAFKA_SSL_CA"
    for host in hosts:
        store, is_new = make_store(folder, host)
        yield f"\n# {store}: {'made' if is_new else 'kept'}. In server.properties of {host}, for a listener SASL_SSL:"
        yield from (f"{name}={value}" for name, value in tls_listener_settings(store, authority).items())


def main(arguments: list[str] | None = None) -> int:
    """Secure brokers or users; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.kafka.secure", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    brokers = actions.add_parser("brokers", help="certificates, and lines for server.properties")
    brokers.add_argument("folder", type=Path, help="where they are kept; the authority's key among them")
    brokers.add_argument("--host", action="append", required=True, help="by which clients reach a broker; one or more")
    users = actions.add_parser("users", help="users with passwords and rights, a file of settings each")
    users.add_argument("folder", type=Path, help="where their settings are kept")
    users.add_argument("--role", action="append", choices=list(roles()), help="one or more; all unless given")
    users.add_argument("--user", default="sf-{role}", metavar="sf-{role}", help="what users are called")
    users.add_argument("--replace", action="store_true", help="new passwords for those whose own are not in the folder")
    asked = parser.parse_args(arguments)
    if asked.action == "brokers":
        lines = secure_brokers(asked.folder, asked.host)
    else:
        lines = secure_users(
            read_settings(), asked.folder, asked.role or list(roles()), asked.user, replace=asked.replace
        )
    for line in lines:
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run_to_end(main))
