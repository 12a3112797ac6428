"""Which keys are switched off for whom: a TOML file with one `[[enforcer]]` each."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import SettingsError
from streams.toml_tables import read_tables

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


def read_enforcers(path: Path) -> list[EnforcerSettings]:
    """The enforcers of a file. Raises `SettingsError` with all its faults."""
    return read_tables(path, "enforcer", EnforcerSettings, ("name", "key"), _faults)


def _faults(one: EnforcerSettings) -> list[str]:
    if one.address:
        return []
    return [f"enforcer {one.name}: a {one.provider} needs `base_url`, the address it answers at"]
