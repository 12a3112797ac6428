"""The only reader of the environment. Settings come from `SPENDFUSE_…` variables, or from the file that
`SPENDFUSE_SETTINGS` names; a variable goes before the file. Every fault is reported at once.
"""

import json
import os
import pwd
import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from models.rules.policy import Policy, default_policy, read_policy_toml
from schemas.errors import SettingsError
from schemas.signing import SHORTEST_ROOT, OperatorKey
from schemas.topics import of_generation

PREFIX = "SPENDFUSE_"
FILE = f"{PREFIX}SETTINGS"
PUBLIC_KEY_BYTES = 32
LAST_GENERATION = 9_999
Positive = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Everything that differs between installations."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    kafka_bootstrap: str = "localhost:9092"
    """Broker addresses, `host:port` with commas between."""
    kafka_security_protocol: str = "PLAINTEXT"
    kafka_sasl_mechanism: str | None = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_sasl_oauth_token_url: str | None = None
    """Where a token is had for the mechanism OAUTHBEARER, by the client-credentials grant."""
    kafka_sasl_oauth_client_id: str | None = None
    kafka_sasl_oauth_client_secret: SecretStr | None = None
    kafka_sasl_oauth_scope: str | None = None
    kafka_ssl_ca: Path | None = None
    kafka_ssl_certificate: Path | None = None
    kafka_ssl_key: Path | None = None
    kafka_ssl_key_password: SecretStr | None = None
    kafka_check_crcs: bool = True
    """Whether alerting checks what it reads against its checksums. The embedded broker's markers have wrong ones."""
    prefix: str = ""
    """Stands before every topic, group and transaction name, so that environments can share a cluster."""
    partitions: Positive = 6
    """Partitions that `topics apply` creates for usage.v1, and for what is read and written beside it."""
    replication: Positive = 1
    state_generation: Annotated[int, Field(ge=1, le=LAST_GENERATION)] = 1
    """Which generation of the state workers keep: another one has topics of its own, and is filled beside running
    workers by `rebuild --generation`."""
    slot: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] | None = None
    """This worker's name among its siblings; unset, the host's name and the lowest number free on it."""
    policy: Path | None = None
    """Policy file in force while policy.v1 is empty."""
    policy_name: str = "default"
    """The key of policy.v1 whose value is in force."""
    batch_records: Positive = 40_000
    """At most so many records in a transaction. Only a worker that is behind takes so many: a row is then written once
    for many events."""
    batch_wait_ms: Positive = 10
    tick_ms: Positive = 1000
    session_timeout_ms: Positive = 10_000
    transaction_timeout_ms: Positive = 10_000
    restore_timeout_s: Positive = 120
    """A changelog that brings nothing for so long while it is read back ends the worker."""
    call_timeout_s: Positive = 15
    """After so long a call to the broker is given up, to be made again."""
    unhealthy_s: Positive = 30
    """Health is red once the loop stood still, nothing could be committed, or no broker answered for so long. After
    three times as long, workers see to records that wait in a partition on which nobody works."""
    stall_limit_s: Positive = 120
    """A loop that stands still for so long ends its process, with the stacks of all threads on standard error. It must
    be longer than any call to the broker may take."""
    dead_letter_limit: Annotated[int, Field(ge=0)] = 10_000
    """So many records of usage.v1 in a row on one partition that nobody can read stop the worker; 0 never does."""
    accept_input_gap: bool = False
    """Go on although input that was never counted has been deleted; the missing range is logged."""
    watchdog_s: Annotated[int, Field(ge=0)] = 60
    """How often every partition shows on alerts.v1 that it keeps up, in seconds; 0 for never."""
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    """Port of /metrics and /healthz; 0 for none."""
    metrics_host: str = "127.0.0.1"
    """Address that it listens on. `0.0.0.0` lets other machines in: Prometheus, and whoever else gets there."""
    engine_key: SecretStr | None = None
    """Root key that the worker signs commands with; agents have keys derived from it (`python -m streams keys derive`).
    Unset, commands go out unsigned, and the log says so."""
    engine_key_before: SecretStr | None = None
    """The root key before this one, while it is replaced: what stands under it is signed anew and is no forgery."""
    operator_key: SecretStr | None = None
    """What operators sign orders with: for their tools, and for alerting where Slack's buttons give orders."""
    operator_public_key: tuple[bytes, ...] = ()
    """What orders are checked with, in hexadecimal, several with commas between; for worker and alerting. Unset, the
    one that belongs to `operator_key`; without both, every order is refused."""
    operator_hmac_until: datetime | None = None
    """Orders written before this moment may have the signature of before operators had key pairs, an HMAC under
    `operator_key`: for the change, and for `rebuild` over orders of that time."""
    operator_name: str | None = None
    """Who gives an order where `--who` is left out; unset, the login name."""
    actions_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    """Port on which `python -m alerting` listens for the buttons of Slack's messages; 0 for none."""
    actions_host: str = "127.0.0.1"
    """Address that it listens on. Slack calls over TLS, which whatever stands before it ends."""
    slack_signing_secret: SecretStr | None = None
    """Proves that a button was pressed in Slack; from the Slack app's page."""
    slack_operators: tuple[str, ...] = ()
    """Slack user ids, with commas between, of those who may let a killed run go on by a button. Empty: nobody."""
    alerts_from: Literal["earliest", "latest"] = "earliest"
    """Where `python -m alerting` begins on a cluster on which it has never run."""
    slack_url: str = "https://slack.com/api/"
    pagerduty_url: str = "https://events.pagerduty.com"
    """PagerDuty's European region has another address."""
    gateway_port: Annotated[int, Field(ge=0, le=65_535)] = 8440
    """Port on which `python -m streams gateway` takes usage and answers guards."""
    gateway_host: str = "127.0.0.1"
    """Address that it listens on. `0.0.0.0` lets other machines in; give it a certificate then."""
    gateway_tls_certificate: Path | None = None
    """PEM file with the certificate and its chain; unset, plain HTTP."""
    gateway_tls_key: Path | None = None
    spool_folder: Path | None = None
    """Where a gateway keeps what it has taken while no broker answers: a folder of its own on a disk that outlives it.
    Unset, `spendfuse/spool-PORT` in the user's state folder."""
    spool_mb: Positive = 1024
    """At most so much of it; beyond, senders are asked to try again."""
    helicone_secrets: dict[str, SecretStr] = {}
    """Who signs what it sends to `/in/helicone/NAME`: name -> `KEY_ID:SECRET`, a key of the gateway and the secret that
    Helicone shows for its webhook. In the environment as JSON."""
    sink: SecretStr | None = None
    """Store of the wide event table, as `--to` of `python -m streams sink` names it: an address with its password."""
    sink_key_tag: str | None = None
    """The tag of events that holds the provider's id of the API key, as `key_tag` of reconciliation."""
    console_port: Annotated[int, Field(ge=0, le=65_535)] = 8441
    """Port on which `python -m streams console` shows the live page."""
    console_host: str = "127.0.0.1"
    """Address that it listens on. `0.0.0.0` lets other machines in; give it a certificate then, or put a proxy with one
    before it."""
    console_tls_certificate: Path | None = None
    """PEM file with the certificate and its chain; unset, plain HTTP."""
    console_tls_key: Path | None = None
    console_secret: SecretStr | None = None
    """What the page signs its logins with. Unset, a new one each time it starts: everybody logs in again then. Several
    consoles behind one address need the same."""
    console_url: str | None = None
    """Where people reach the live page, such as `https://spend.example.com`: messages link to it, and so does the
    gateway's own `/`. Unset, nothing does."""
    receivers_ca: Path | None = None
    """A certificate authority to trust beside none: for receivers behind a proxy of one's own."""
    links: dict[str, str] = {}
    """Links in messages, label -> address with {tenant_id}, {run_id}, {incident_id}, {rule}, {detector}. In the
    environment as JSON."""
    log_level: str = "INFO"

    @field_validator("engine_key", "engine_key_before", "operator_key", "console_secret")
    @classmethod
    def _long_enough(cls, given: SecretStr | None) -> SecretStr | None:
        if given is not None and len(given.get_secret_value().encode()) < SHORTEST_ROOT:
            raise ValueError(f"shorter than {SHORTEST_ROOT} bytes; make one with `python -m streams keys generate`")
        return given

    @field_validator("operator_public_key", mode="before")
    @classmethod
    def _public_keys(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        try:
            keys = tuple(bytes.fromhex(text.strip()) for text in given.split(",") if text.strip())
        except ValueError:
            keys = (b"",)
        if any(len(key) != PUBLIC_KEY_BYTES for key in keys):
            raise ValueError("write public keys as `python -m streams keys derive` prints them, with commas between")
        return keys

    @field_validator("operator_hmac_until")
    @classmethod
    def _with_time_zone(cls, given: datetime | None) -> datetime | None:
        if given is not None and given.tzinfo is None:
            raise ValueError("say in which time zone, such as 2026-12-01T00:00Z")
        return given

    @field_validator("links", "helicone_secrets", mode="before")
    @classmethod
    def _from_json(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        try:
            return json.loads(given)
        except ValueError:
            raise ValueError("write a JSON object of names and texts") from None

    @field_validator("helicone_secrets")
    @classmethod
    def _of_keys(cls, given: dict[str, SecretStr]) -> dict[str, SecretStr]:
        if not all(re.fullmatch(r"[0-9a-f]{12}:.+", secret.get_secret_value()) for secret in given.values()):
            raise ValueError("write KEY_ID:SECRET for each; `python -m streams keys list` shows the ids")
        return given

    @field_validator("console_url")
    @classmethod
    def _of_the_web(cls, given: str | None) -> str | None:
        if given is not None and not re.fullmatch(r"https?://[^\s/?#{}<>|\"]+(/[^\s?#{}<>|\"]*)?", given):
            raise ValueError("write where people reach the live page, such as https://spend.example.com")
        return given.rstrip("/") if given else None

    @field_validator("slack_operators", mode="before")
    @classmethod
    def _from_commas(cls, given: Any) -> Any:
        return [name.strip() for name in given.split(",") if name.strip()] if isinstance(given, str) else given

    @model_validator(mode="after")
    def _agree(self) -> "Settings":
        """Of two that contradict each other one would count, and nobody would know which."""
        protocol = self.kafka_security_protocol.upper()
        login = self.kafka_sasl_mechanism or self.kafka_sasl_username or self.kafka_sasl_password
        faults = {
            f"{PREFIX}KAFKA_SECURITY_PROTOCOL is {protocol}, which logs nobody in, and {PREFIX}KAFKA_SASL_… says as "
            "whom: set SASL_SSL or SASL_PLAINTEXT": bool(login) and not protocol.startswith("SASL"),
            f"{PREFIX}KAFKA_SECURITY_PROTOCOL is {protocol}, without TLS, and {PREFIX}KAFKA_SSL_… names certificates: "
            "set SSL or SASL_SSL": bool(self.kafka_ssl_ca or self.kafka_ssl_certificate) and "SSL" not in protocol,
        }
        if found := [fault for fault, is_there in faults.items() if is_there]:
            raise ValueError("; ".join(found))
        return self

    def topic(self, name: str) -> str:
        """The name of a topic on this cluster, in the generation of the state that these settings name."""
        return f"{self.prefix}{of_generation(name, self.state_generation)}"

    def at_generation(self, generation: int) -> "Settings":
        """The same installation with another generation of the state."""
        return self.model_copy(update={"state_generation": generation})

    def group(self, name: str) -> str:
        """The name of a consumer group on this cluster."""
        return f"{self.prefix}{name}"

    @property
    def message_links(self) -> dict[str, str]:
        """Templates of the links in messages: to incident, run and list on the live page, then those of `links`."""
        if self.console_url is None:
            return self.links
        about = f"{self.console_url}/incident?tenant={{tenant_id}}&incident={{incident_id}}"
        run = f"{self.console_url}/run?tenant={{tenant_id}}&run={{run_id}}"
        return {
            "Open on the live page": about,
            "Its run": run,
            "All that is open": f"{self.console_url}/",
            **self.links,
        }

    @property
    def engine_root_key(self) -> bytes | None:
        """The root of the keys that commands are signed with."""
        return _bytes(self.engine_key)

    @property
    def engine_root_key_before(self) -> bytes | None:
        """The root of the keys that commands were signed with before."""
        return _bytes(self.engine_key_before)

    @property
    def operator_root_key(self) -> bytes | None:
        """The root of the key that orders are signed with."""
        return _bytes(self.operator_key)

    @property
    def operator_public_keys(self) -> tuple[bytes, ...]:
        """What orders are checked with; empty where every order is refused."""
        if self.operator_public_key or self.operator_root_key is None:
            return self.operator_public_key
        return (OperatorKey(self.operator_root_key).public_key,)

    def kafka(self) -> dict[str, Any]:
        """What every Kafka client is given."""
        config: dict[str, Any] = {
            "bootstrap.servers": self.kafka_bootstrap,
            "security.protocol": self.kafka_security_protocol,
        }
        if self.kafka_sasl_mechanism:
            config["sasl.mechanism"] = self.kafka_sasl_mechanism
            config |= self._oauth() if self.kafka_sasl_mechanism == "OAUTHBEARER" else self._password()
        if self.kafka_ssl_ca:
            config["ssl.ca.location"] = str(self.kafka_ssl_ca)
        if self.kafka_ssl_certificate:
            config["ssl.certificate.location"] = str(self.kafka_ssl_certificate)
        if self.kafka_ssl_key:
            config["ssl.key.location"] = str(self.kafka_ssl_key)
        if self.kafka_ssl_key_password:
            config["ssl.key.password"] = self.kafka_ssl_key_password.get_secret_value()
        return config

    def _password(self) -> dict[str, Any]:
        password = self.kafka_sasl_password
        return {
            "sasl.username": self.kafka_sasl_username or "",
            "sasl.password": password.get_secret_value() if password else "",
        }

    def _oauth(self) -> dict[str, Any]:
        secret = self.kafka_sasl_oauth_client_secret
        given = {
            "token.endpoint.url": self.kafka_sasl_oauth_token_url,
            "client.id": self.kafka_sasl_oauth_client_id,
            "client.secret": secret.get_secret_value() if secret else None,
            "scope": self.kafka_sasl_oauth_scope,
        }
        named = {f"sasl.oauthbearer.{name}": value for name, value in given.items() if value}
        return {"sasl.oauthbearer.method": "oidc", **named}

    def file_policy(self) -> Policy:
        """The policy of the file, else the documented defaults. Raises `PolicyError` or `SettingsError`."""
        if self.policy is None:
            return default_policy()
        try:
            return read_policy_toml(self.policy.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"{PREFIX}POLICY: {self.policy} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise SettingsError(f"{PREFIX}POLICY: {self.policy} is not UTF-8 text") from None


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read all settings. Raises `SettingsError` that lists every fault."""
    login = _login() if environment is None else None
    environment = os.environ if environment is None else environment
    given: dict[str, Any] = {}
    if path := environment.get(FILE):
        given |= _read_file(Path(path))
    for name in Settings.model_fields:
        value = environment.get(PREFIX + name.upper())
        if value:
            given[name] = value
    given.setdefault("operator_name", environment.get("LOGNAME") or environment.get("USER") or login)
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        lines = [
            f"  - {PREFIX}{str(fault['loc'][0]).upper()}: {fault['msg']}" if fault["loc"] else f"  - {fault['msg']}"
            for fault in error.errors()
        ]
        raise SettingsError("the settings have faults:\n" + "\n".join(lines)) from None


def read_secrets(wanted: Mapping[str, str], environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The values of variables that the policy names, each with the receiver that needs it.

    Raises:
        SettingsError: with every variable that is not set.
    """
    environment = os.environ if environment is None else environment
    missing = [
        f"  - {variable}, for the receiver {name!r}"
        for variable, name in wanted.items()
        if not environment.get(variable)
    ]
    if missing:
        raise SettingsError("the policy's receivers need variables that are not set:\n" + "\n".join(missing))
    return {variable: environment[variable] for variable in wanted}


def read_others(names: Sequence[str], system: str, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The values of another system's own variables. Raises `SettingsError` with every one that is not set."""
    environment = os.environ if environment is None else environment
    missing = [name for name in names if not environment.get(name)]
    if missing:
        raise SettingsError(f"{system} is reached with {', '.join(names)}; not set: {', '.join(missing)}")
    return {name: environment[name] for name in names}


def wants_traces(environment: Mapping[str, str] | None = None) -> bool:
    """Whether OpenTelemetry's standard variables name a collector for traces, and do not switch them off."""
    environment = os.environ if environment is None else environment
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return any(environment.get(name) for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"))


def unknown_variables(environment: Mapping[str, str] | None = None) -> list[str]:
    """Variables that look like settings and are none: misspelt, most likely."""
    environment = os.environ if environment is None else environment
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {FILE, f"{PREFIX}CACHE"}
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)


def _bytes(secret: SecretStr | None) -> bytes | None:
    return None if secret is None else secret.get_secret_value().encode()


def _login() -> str | None:
    """The name of whoever this process belongs to, where no variable says it; None where it has no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return None


def _read_file(path: Path) -> dict[str, Any]:
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{FILE}: {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{FILE}: {path} is not TOML: {error}") from None
    unknown = sorted(set(given) - set(Settings.model_fields))
    if unknown:
        raise SettingsError(f"{FILE}: {path} has unknown settings: {', '.join(unknown)}")
    return given
