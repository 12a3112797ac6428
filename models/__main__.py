"""`python -m models export | check`: the policy's JSON Schema and the README's table, written from the detectors."""

import sys
from pathlib import Path

from models.detectors import REGISTRY
from models.rules.readme_table import with_table
from schemas.export import main, policy_document

TABLES = {table: detector.settings_class for table, detector in REGISTRY.items()}
README = Path(__file__).parent.parent / "README.md"


def _readme(arguments: list[str]) -> int:
    text = README.read_text(encoding="utf-8")
    fresh = with_table(text)
    if arguments == ["export"]:
        README.write_text(fresh, encoding="utf-8")
    elif text != fresh:
        print("the README's table of detectors is not up to date: run python -m models export")
        return 1
    return 0


if __name__ == "__main__":
    code = main(policy_document(TABLES), "python -m models", sys.argv[1:])
    raise SystemExit(code or _readme(sys.argv[1:]))
