"""`python -m infra.grafana export | check`: write Grafana's files anew, or say which are not as they would be."""

import argparse
import sys

from infra.grafana.export import FOLDER, files


def main(arguments: list[str] | None = None) -> int:
    """Do it; returns 1 if a file differs."""
    parser = argparse.ArgumentParser(prog="python -m infra.grafana", description=main.__doc__)
    parser.add_argument("action", choices=("export", "check"))
    if parser.parse_args(arguments).action == "export":
        FOLDER.mkdir(exist_ok=True)
        for path, text in files().items():
            path.write_text(text, encoding="utf-8")
        return 0
    stale = {path for path, text in files().items() if not path.exists() or path.read_text(encoding="utf-8") != text}
    stale |= set(FOLDER.glob("*.json")) - files().keys()
    if stale:
        print(
            f"not as infra/grafana/panels.py says: {', '.join(sorted(path.name for path in stale))}; run `make schemas`"
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
