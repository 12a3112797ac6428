"""What is wrong, and how sure we are. Every file below registers one detector; importing the folder knows them all.

limits    against a limit that somebody has set
past      against one's own past
results   against what the money has bought, and what was announced
loops     against the run's own calls: what goes nowhere
run_shape against what runs of the workflow and model send and get
service   about commands that are not obeyed, and about what our own figures cannot see
"""

import importlib
import pkgutil

from models.detectors.base import REGISTRY

__all__ = ["REGISTRY"]

for _module in pkgutil.walk_packages(__path__, f"{__name__}."):
    importlib.import_module(_module.name)
