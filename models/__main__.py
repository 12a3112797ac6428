"""`python -m models export | check`: the JSON Schema of the policy with the tables of all detectors."""

import sys

from models.detectors import REGISTRY
from schemas.export import main, policy_document

TABLES = {table: detector.settings_class for table, detector in REGISTRY.items()}

if __name__ == "__main__":
    raise SystemExit(main(policy_document(TABLES), "python -m models", sys.argv[1:]))
