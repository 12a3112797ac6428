"""Who bills a model call, and under which plain name of the model: what our calls and providers' reports meet by."""

from models.prices.names import plain_names, resolve
from models.prices.tables import Tables

MOST_KNOWN = 10_000
"""Names come from outside: beyond so many all are looked up anew."""


class Makers:
    """Looks providers up, each (provider, model) once."""

    def __init__(self) -> None:
        self._tables = Tables()
        self._known: dict[tuple[str | None, str], tuple[str | None, str]] = {}

    def of(self, provider: str | None, model: str) -> tuple[str | None, str]:
        """Who bills a call of that model, None if nobody knows; and the model without version and date."""
        known = self._known.get((provider, model))
        if known is None:
            name = resolve(provider, model)
            maker = None if name is None else name.provider
            if name is not None and maker is None and (found := self._tables.find(name)) is not None:
                maker = found.provider
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            known = self._known[provider, model] = maker, model_name(model)
        return known


def model_name(model: str) -> str:
    """A model without provider, version and date, by the one table of names, as both sides are compared."""
    return plain_names(model)[-1]
