"""Names of models and providers, as telemetry, gateways and clouds spell them, brought to one form.

`resolve` says where to look a name up: the provider whose price list counts, and the spellings to try there, the most
exact first. `plain_names` is a model's name without provider, route, version and date, for patterns in a policy.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_ALIASES: Final[dict[str, str]] = {
    "openai": "openai open-ai text-completion-openai",
    "anthropic": "anthropic",
    "aws": "aws bedrock aws-bedrock amazon amazon-bedrock bedrock-converse bedrock-mantle",
    "azure": "azure azure-ai azure-openai azure-ai-openai azure-ai-inference az-ai-openai az-ai-inference azure-text "
    "azure-foundry azure-ai-foundry azure-cognitive-services microsoft-foundry",
    "google": "google gcp gcp-vertex-ai gcp-gemini gcp-gen-ai vertex vertexai vertex-ai vertex-ai-beta gemini palm "
    "google-vertex google-vertexai google-vertex-ai google-genai google-gla google-ai-studio google-generative-ai",
    "mistral": "mistral mistralai mistral-ai codestral text-completion-codestral",
    "x-ai": "x-ai xai grok",
    "groq": "groq",
    "cohere": "cohere cohere-chat",
    "deepseek": "deepseek deepseek-ai",
    "perplexity": "perplexity perplexity-ai",
    "together": "together together-ai togetherai",
    "fireworks": "fireworks fireworks-ai",
    "openrouter": "openrouter open-router",
    "cerebras": "cerebras",
    "moonshotai": "moonshotai moonshot moonshot-ai",
    "minimax": "minimax",
    "zai": "zai z-ai",
    "zhipuai": "zhipuai zhipu zhipu-ai",
    "novita": "novita novita-ai",
    "cloudflare": "cloudflare cloudflare-workers-ai workers-ai",
    "databricks": "databricks",
    "ovhcloud": "ovhcloud ovh",
    "voyageai": "voyageai voyage",
    "github-copilot": "github-copilot copilot",
}
"""Provider of the price tables -> its names, lower case, with hyphens for dots, underscores and spaces."""
_PROVIDERS: Final = {name: provider for provider, names in _ALIASES.items() for name in names.split()}

GATEWAYS: Final = frozenset(
    {
        "litellm", "litellm-proxy", "portkey", "bifrost", "helicone", "kong", "kong-ai-gateway", "truefoundry",
        "ai-gateway", "vercel", "vercel-ai-gateway", "cloudflare-ai-gateway", "gateway", "llm-gateway",
    }
)  # fmt: skip
"""What passes calls on at the price of whoever answers them."""

_NOBODY: Final = frozenset({"-other", "other", "unknown", "none", "null", "undefined", "n/a"})
"""What stands for a provider that nobody knows; `_OTHER` is OpenTelemetry's word."""

FREE: Final = ":free"
"""How OpenRouter, and nobody else, ends the names of what it gives away."""

HOSTS: Final = frozenset(
    {
        "aws", "azure", "google", "together", "fireworks", "openrouter", "groq", "cerebras", "novita", "cloudflare",
        "databricks", "ovhcloud", "github-copilot",
    }
)  # fmt: skip
"""Providers that sell models of others: another maker before the model's name is no contradiction there."""

_FLAVOUR: Final = re.compile(r"-(?:chat|messages|responses|completions?|embeddings?|generative-ai|anthropic-models)$")
_BEDROCK: Final = re.compile(
    r"(?:(?P<geo>us-gov|us|eu|apac|ap|au|jp|ca|global)\.)?"
    r"(?P<maker>ai21|amazon|anthropic|cohere|deepseek|google|meta|minimax|mistral|moonshot|moonshotai|nvidia|openai|"
    r"qwen|stability|twelvelabs|writer|zai)\.(?=[a-z])"
)
_ROUTE_SEGMENT: Final = re.compile(
    r"converse|invoke|responses|chat|global|global-standard|[a-z]{2}(?:-gov)?-[a-z]+-\d", re.IGNORECASE
)
"""Segments between provider and model that say how or where a call is made, as `bedrock/converse/us-east-1/...`."""
_AREAS: Final = frozenset({"us", "eu"})
_VERSION: Final = re.compile(
    r"(?:-v\d+(?::\d+)*(?::\d+k)?|:\d+k?|@[a-z0-9.-]+|[-@]20\d{6}|-20\d\d-\d\d-\d\d|:(?:beta|nitro|floor|exacto|thinking))$"
)

_CLAUDE_HYPHEN: Final = re.compile(
    r"(?<=claude-opus-\d)-(?=\d\b)|(?<=claude-haiku-\d)-(?=\d\b)|(?<=claude-sonnet-\d)-(?=\d\b)"
)
_FAST: Final = re.compile(r"(?P<model>claude-\S+?)-fast(?:-20\d{6})?")


class Name(NamedTuple):
    """Where to look a price up."""

    provider: str | None
    """Of the price tables; None: whoever is known for the model."""
    spellings: tuple[str, ...]
    """Of the model, the most exact first."""
    regional: bool = False
    """The route names an area whose surcharge is no part of the model's name."""


def provider_id(name: str) -> str | None:
    """The price tables' name of a provider, None for one that the table of names does not know."""
    name = _hyphened(name)
    return _PROVIDERS.get(name) or _PROVIDERS.get(_FLAVOUR.sub("", name))


def is_gateway(name: str) -> bool:
    """Whether that provider only passes calls on."""
    return _hyphened(name) in GATEWAYS


def resolve(provider: str | None, model: str) -> Name | None:
    """Where the price of `model` is to be looked up; None where its name contradicts `provider`, or says nobody known.

    A provider that the table of names does not know is passed on as it is: the price tables may know it.
    """
    model = model.strip().lower()
    provider = (provider or "").strip().lower()
    if not provider or _hyphened(provider) in GATEWAYS | _NOBODY:
        host = "openrouter" if model.endswith(FREE) else None
    else:
        host = provider_id(provider) or provider
    whole = () if host is None else (model,)
    rest, named, regional = _peeled(model, host)
    if host is None:
        host = named or ("aws" if _BEDROCK.match(rest) else "openai" if rest.startswith("ft:gpt-") else None)
        if host is None and "/" in rest and not rest.startswith(("@cf/", "accounts/")):
            return None  # a prefix that is no provider's: somebody's own server, with prices of its own
    elif named is not None and named != host and host not in HOSTS:
        return None
    return Name(host, tuple(dict.fromkeys((*whole, *_spellings(rest, host)))), regional)


def plain_names(model: str) -> tuple[str, ...]:
    """The model's name without provider and route, and without version and date too; lower case."""
    name = _after_resource(model.strip().lower()).rsplit("/", 1)[-1]
    first, _, after = name.partition(":")
    names = (after, name) if after and (provider_id(first) or is_gateway(first)) else (name,)  # `mistral:7b` is a tag
    plain = [_one_spelling(_BEDROCK.sub("", one, count=1)) for one in names]
    return tuple(dict.fromkeys(spelling for one in plain for spelling in (one, unversioned(one))))


def plain_pattern(pattern: str) -> str:
    """A policy's pattern in the spelling of `plain_names`."""
    return _one_spelling(pattern.lower())


def unversioned(name: str) -> str:
    """The name without its version and date."""
    while (shorter := _VERSION.sub("", name)) != name and shorter:
        name = shorter
    return name


def without_fast_mode(name: str) -> str | None:
    """The model that a Claude model's name in fast mode (`claude-opus-5-fast`) stands for, None for any other name.

    Anthropic has a setting for it; gateways made it a part of the name. It is the same model, and dearer.
    """
    found = _FAST.fullmatch(name.rsplit("/", 1)[-1])
    return None if found is None else found["model"]


def _peeled(model: str, host: str | None) -> tuple[str, str | None, bool]:
    """The name without providers and routes before it, the provider named last, and whether an area was."""
    first, _, after = model.partition(":")
    if after and "/" not in first:  # `openai:gpt-5`, as frameworks write it that have a provider for each model
        found = provider_id(first)
        if is_gateway(first) or (found is not None and host in (None, found)):
            rest, named, regional = _peeled(after, found or host)
            return rest, named or found, regional
    named = "aws" if ":bedrock:" in model and "arn:" in model else None
    if "publishers/" in model:
        named = "google"
    rest = _after_resource(model)
    regional = False
    while "/" in rest and not rest.startswith(("@cf/", "accounts/")):
        first, _, after = rest.partition("/")
        found = provider_id(first)
        at = named or host
        if is_gateway(first):
            rest, inside, area = _peeled(after, at)
            return rest, inside or named, regional or area
        if at is not None and _ROUTE_SEGMENT.fullmatch(first):
            rest = after
        elif at == "azure" and first in _AREAS:
            rest, regional = after, True
        elif found is not None and (at is None or found == at):
            rest, named = after, found
        elif found is not None and at not in HOSTS:
            return after, found, regional
        else:
            break
    return rest, named, regional


def _after_resource(model: str) -> str:
    """The model of a cloud's resource name: `arn:...:inference-profile/M`, `projects/.../models/M`, `models/M`."""
    if "arn:" in model or "publishers/" in model or model.startswith("models/"):
        return model.rsplit("/", 1)[-1]
    return model


def _spellings(name: str, host: str | None) -> Iterator[str]:
    yield name
    yield unversioned(name)
    last = name.rsplit("/", 1)[-1]
    if host in HOSTS and host != "openrouter":
        yield from (last, unversioned(last))
    if host == "aws" and (bedrock := _BEDROCK.match(last)):
        without_area = last if bedrock["geo"] is None else last[len(bedrock["geo"]) + 1 :]
        yield from (without_area, unversioned(without_area))
    if host == "openrouter":
        yield _CLAUDE_HYPHEN.sub(".", name)
    if host == "azure" and last.startswith("gpt-35"):
        yield last.replace("gpt-35", "gpt-3.5", 1)


def _one_spelling(name: str) -> str:
    """Claude's versions are written with a dot by some and with a hyphen by others; elsewhere the two differ."""
    return re.sub(r"(?<=\d)\.(?=\d)", "-", name) if name.startswith("claude") else name


def _hyphened(name: str) -> str:
    return re.sub(r"[._ ]", "-", name.strip().lower())
