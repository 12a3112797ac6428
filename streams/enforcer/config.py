"""Which keys are switched off for whom: a TOML file with one `[[enforcer]]` each."""

import os
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.errors import SettingsError

Provider = Literal["openrouter", "litellm", "anthropic", "openai"]
BASES: Final[Mapping[Provider, str | None]] = {
    "openrouter": "https://openrouter.ai/api/v1",
    "litellm": None,
    "anthropic": "https://api.anthropic.com",
    "openai": "https://api.openai.com/v1",
}
"""Where the providers answer; LiteLLM is wherever somebody runs it."""
Text = Annotated[str, Field(min_length=1, max_length=256)]


class EnforcerSettings(BaseModel):
    """One key at one provider, and whose spend goes through it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
    provider: Provider
    key: Text
    """The provider's id of it: OpenRouter's hash, LiteLLM's hashed token, Anthropic's `apikey_…`, OpenAI's `proj_…`."""
    secret_env: Text
    """Name of the environment variable with the credential that may switch it."""
    tenant_id: Text
    workflow: Text | None = None
    attribution: dict[str, Text] = {}
    """Further dimensions of the spend that goes through it, such as `environment`: what a command must cover."""
    on: Annotated[tuple[Literal["kill", "pause"], ...], Field(min_length=1)] = ("kill", "pause")
    base_url: Text | None = None

    @property
    def address(self) -> str:
        """Where the provider answers, without a slash at its end."""
        return (self.base_url or BASES[self.provider] or "").rstrip("/")

    @property
    def secret(self) -> str:
        """The credential. Raises `SettingsError` where its variable is not set."""
        secret = os.environ.get(self.secret_env)
        if not secret:
            raise SettingsError(f"enforcer {self.name}: the environment variable {self.secret_env} is not set")
        return secret


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    enforcer: list[EnforcerSettings]


def read_enforcers(path: Path) -> list[EnforcerSettings]:
    """The enforcers of a file. Raises `SettingsError` with all its faults."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None
    try:
        found = _File.model_validate(given).enforcer
    except ValidationError as error:
        faults = [f"{_place(given, one['loc'])}: {one['msg']}" for one in error.errors()]
        raise SettingsError(_words(path, faults)) from None
    faults = [
        f"enforcer {one.name}: a {one.provider} needs `base_url`, the address it answers at"
        for one in found
        if not one.address
    ]
    for field in ("name", "key"):
        counts = Counter(getattr(one, field) for one in found)
        faults += [f"two enforcers have the {field} {value}" for value, times in counts.items() if times > 1]
    if faults:
        raise SettingsError(_words(path, faults))
    return found


def _words(path: Path, faults: list[str]) -> str:
    return f"{path} has faults:\n" + "\n".join(f"  - {fault}" for fault in faults)


def _place(given: Mapping[str, Any], loc: tuple[int | str, ...]) -> str:
    """Where a fault is, by the enforcer's name where it has one."""
    if len(loc) < 2 or not isinstance(loc[1], int):
        return ".".join(map(str, loc)) or "the file"
    table = given["enforcer"][loc[1]]
    name = table.get("name", f"number {loc[1] + 1}") if isinstance(table, dict) else f"number {loc[1] + 1}"
    return f"enforcer {name}: {'.'.join(map(str, loc[2:]))}" if loc[2:] else f"enforcer {name}"
