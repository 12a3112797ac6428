"""`python -m infra.compiled [FOLDER]`: build the compiled copy of the service, in `build/compiled` by default."""

import sys
from pathlib import Path

from infra.compiled.build import HOME, build

if __name__ == "__main__":
    build(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else HOME)
