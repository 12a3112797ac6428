"""`python -m schemas export | check`: write the JSON Schema files, or say which are not up to date."""

import sys

from schemas.export import main, topic_documents

if __name__ == "__main__":
    raise SystemExit(main(topic_documents(), "python -m schemas", sys.argv[1:]))
