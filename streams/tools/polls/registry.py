"""Every system that `poll --from` knows, by its name. To add one is to add a module, and a line here."""

from typing import Final

from streams.tools.polls.braintrust import BRAINTRUST
from streams.tools.polls.langfuse import LANGFUSE
from streams.tools.polls.source import PollSource

POLLS: Final[dict[str, PollSource]] = {"braintrust": BRAINTRUST, "langfuse": LANGFUSE}
