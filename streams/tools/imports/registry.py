"""Every source that `import --from` knows, by its name. To add one is to add a module, and a line here."""

from typing import Final

from streams.tools.imports.claude_code import CLAUDE_CODE
from streams.tools.imports.langfuse import LANGFUSE_EXPORT
from streams.tools.imports.litellm import LITELLM_SPEND_LOGS
from streams.tools.imports.openrouter import OPENROUTER_CSV
from streams.tools.imports.source import Source

SOURCES: Final[dict[str, Source]] = {
    "claude-code": CLAUDE_CODE,
    "langfuse-export": LANGFUSE_EXPORT,
    "litellm-spend-logs": LITELLM_SPEND_LOGS,
    "openrouter-csv": OPENROUTER_CSV,
}
