"""What can be switched at which provider."""

from collections.abc import Callable, Mapping
from typing import Final

from streams.enforcer.config import EnforcerSettings
from streams.enforcer.levers.anthropic import AnthropicKey
from streams.enforcer.levers.lever import Lever
from streams.enforcer.levers.litellm import LiteLlmKey
from streams.enforcer.levers.openai import OpenAiProject
from streams.enforcer.levers.openrouter import OpenRouterKey

_LEVERS: Final[Mapping[str, Callable[[str, str, str], Lever]]] = {
    "openrouter": OpenRouterKey,
    "litellm": LiteLlmKey,
    "anthropic": AnthropicKey,
    "openai": OpenAiProject,
}


def lever_of(settings: EnforcerSettings) -> Lever:
    """The lever of an enforcer. Raises `SettingsError` where its credential is not set."""
    return _LEVERS[settings.provider](settings.address, settings.secret, settings.key)
