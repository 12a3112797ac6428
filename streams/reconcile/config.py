"""Which consoles of providers our figures are held against: a TOML file with one `[[console]]` each."""

import os
from collections.abc import Mapping
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.duration import HOUR_MS
from schemas.errors import SettingsError
from schemas.money import usd_to_nanousd
from streams.toml_tables import read_tables

Source = Literal["openai", "anthropic", "google"]
BASES: Final[Mapping[Source, str]] = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
}
LAG_HOURS: Final[Mapping[Source, int]] = {"openai": 6, "anthropic": 6, "google": 48}
"""How long after a day's end its figures are still incomplete: minutes at OpenAI and Anthropic, days at Google."""
Text = Annotated[str, Field(min_length=1, max_length=256)]


class Console(BaseModel):
    """One organization at one provider, and which events of ours its figures speak of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
    source: Source
    secret_env: Text | None = None
    """Name of the environment variable with the credential that may read it."""
    base_url: Text | None = None
    file: Path | None = None
    """Google's billing export; where its path is relative, from the folder of this file."""
    tenant_id: Text | None = None
    """Whose usage of ours it stands against; that of all tenants unless written."""
    providers: tuple[Text, ...] = ()
    """Providers of our events that belong to it; its own source unless written."""
    key_tag: Text | None = None
    """The tag of our events that holds the provider's id of the API key; without it keys are not told apart."""
    leave_out: tuple[Text, ...] = ()
    """Patterns of models and of items of a bill that are not compared: what agents of ours never use."""
    tell_above: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """The share of the larger figure above which a difference is told."""
    floor_usd: Annotated[Decimal, Field(ge=0)] = Decimal(1)
    """A smaller difference in money is never told."""
    floor_tokens: Annotated[int, Field(ge=0)] = 100_000
    """A smaller difference in tokens is never told."""
    lag_hours: Annotated[int, Field(ge=0, le=240)] | None = None
    """How long after its end a day is left alone."""

    @property
    def address(self) -> str:
        """Where the provider answers, without a slash at its end."""
        return (self.base_url or BASES.get(self.source, "")).rstrip("/")

    @property
    def lag_ms(self) -> int:
        """How long after its end a day is left alone."""
        return HOUR_MS * (LAG_HOURS[self.source] if self.lag_hours is None else self.lag_hours)

    @property
    def floor_nanousd(self) -> int:
        """A smaller difference in money is never told."""
        return usd_to_nanousd(self.floor_usd)

    @property
    def secret(self) -> str:
        """The credential. Raises `SettingsError` where its variable is not set."""
        secret = os.environ.get(self.secret_env or "")
        if not secret:
            raise SettingsError(f"console {self.name}: the environment variable {self.secret_env} is not set")
        return secret

    def leaves_out(self, *names: str | None) -> bool:
        """Whether a row with one of these names is not compared."""
        return any(fnmatchcase(name, pattern) for name in names if name is not None for pattern in self.leave_out)


def read_consoles(path: Path) -> list[Console]:
    """The consoles of a file. Raises `SettingsError` with all its faults, credentials that are missing among them."""
    found = read_tables(path, "console", Console, ("name",), _faults)
    for one in found:
        if one.source != "google":
            _ = one.secret
    return [one if one.file is None else one.model_copy(update={"file": path.parent / one.file}) for one in found]


def _faults(one: Console) -> list[str]:
    faults: list[str] = []
    if one.source == "google":
        if one.file is None:
            faults.append("google is read from `file`, an export of the billing table")
        if one.secret_env is not None or one.base_url is not None:
            faults.append("google is read from a file: `secret_env` and `base_url` say nothing there")
    else:
        if one.secret_env is None:
            faults.append(f"{one.source} needs `secret_env`, the variable that holds an admin key")
        if one.file is not None:
            faults.append("only google is read from a `file`")
    return [f"console {one.name}: {fault}" for fault in faults]
