"""What is wrong, and how sure we are. Every file here registers one detector; importing the folder knows them all."""

import importlib
import pkgutil

from models.detectors.base import REGISTRY

__all__ = ["REGISTRY"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
