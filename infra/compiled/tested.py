"""A plugin for pytest: with `-p infra.compiled.tested` the tests meet the compiled engine instead of the sources."""

import importlib
import sys

from infra.compiled.build import HOME

sys.path.insert(0, str(HOME))
engine = importlib.import_module("models.engine")
if engine.__file__ is None or not engine.__file__.startswith(str(HOME)) or engine.__file__.endswith(".py"):
    raise SystemExit(f"there is no compiled engine in {HOME}, run: make compiled")
