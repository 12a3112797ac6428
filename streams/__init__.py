"""The processes and tools. Guards are those of the client library, which comes from this checkout, as the service does:
to run it, nothing has to be installed but what `requirements/service.lock` names.
"""

import sys
from pathlib import Path

_CLIENT = str(Path(__file__).parents[1] / "sdk" / "src")

if _CLIENT not in sys.path:
    sys.path.insert(0, _CLIENT)
