"""River's Page-Hinkley test, without what its package loads beside it."""

import importlib
import sys
from importlib.machinery import ModuleSpec
from importlib.util import LazyLoader
from typing import Any, Final

NOT_NEEDED: Final = {"scipy.stats", "river.drift.datasets"}
"""For river's other tests and examples: 700 modules, 0.7 s of a processor and 70 MB. While a thread loaded them, a
worker at 10,000 events/s fell two seconds behind.
"""


def load_page_hinkley() -> Any:
    """The class `river.drift.PageHinkley`. The first time takes a tenth of a second: whoever may not wait so long
    between two events loads it before them.
    """
    later = _Later()
    sys.meta_path.insert(0, later)
    try:
        return importlib.import_module("river.drift").PageHinkley
    finally:
        sys.meta_path.remove(later)


class _Later:
    """A finder for modules that are loaded when something of them is used."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """The module's own spec, with a loader that waits; None for modules that are loaded at once."""
        if name not in NOT_NEEDED:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next((spec for finder in others if (spec := finder.find_spec(name, path, target))), None)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec
