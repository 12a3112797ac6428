"""The Python of a page of docs/connect, as a reader would paste it, with a model on loopback; prints what was asked."""

import os
import re
import tempfile
from pathlib import Path

import spendfuse
from provider import Provider
from session import say

page = os.environ["PAGE"]
home = tempfile.mkdtemp()  # of Claude Code, which asks for more than it shows unless it is told not to
text = Path(page).read_text(encoding="utf-8")
provider = Provider()
os.environ |= {
    "OPENAI_BASE_URL": f"{provider.url}/v1", "OPENAI_API_KEY": "none", "ANTHROPIC_BASE_URL": provider.url,
    "ANTHROPIC_API_KEY": "none", "OPENAI_API_BASE": f"{provider.url}/v1", "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "HOME": home, "CLAUDE_CONFIG_DIR": home, "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_TELEMETRY": "1",
    "DISABLE_AUTOUPDATER": "1",
}  # fmt: skip
names: dict[str, object] = {"__name__": "__main__"}
for block in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
    lines_before = text.count("\n", 0, block.start(1))
    exec(compile("\n" * lines_before + block[1], page, "exec"), names)
missing = spendfuse.default_connection().close()
say(asked=len(provider.asked), missing=missing)
