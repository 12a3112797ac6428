"""A plugin for pytest: with `-p infra.compiled.tested` the tests meet the compiled engine instead of the sources, in
their own process and in those that they start.
"""

import importlib
import os
import sys

from infra.compiled.build import HOME

sys.path.insert(0, str(HOME))
engine = importlib.import_module("models.engine")
if not (engine.__file__ or "").startswith(str(HOME)) or not engine.COMPILED:
    raise SystemExit(f"there is no compiled engine in {HOME}, run: make compiled")
os.environ["PYTHONPATH"] = str(HOME)
os.environ["PYTHONSAFEPATH"] = "1"  # a process would look into its working directory first, which is the checkout
