"""LiteLLM in the agent's process, or in a proxy of one's own: calls are reported, and stopped.

import litellm
from spendfuse.litellm import SpendfuseLogger

litellm.callbacks = [SpendfuseLogger(emitter, guard, tenant_id="acme", workflow="support")]
await litellm.acompletion(model="gpt-4.1", messages=messages, litellm_session_id="run-7")
"""

try:
    from spendfuse._litellm.callback import SpendfuseLogger
except ImportError as missing:
    raise ImportError("spendfuse.litellm needs litellm: pip install litellm") from missing

__all__ = ["SpendfuseLogger", "callback"]

callback = SpendfuseLogger()
"""For a proxy's settings: it connects by the environment when the first call is made."""
