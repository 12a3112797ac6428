"""Which messages are copies, where the ids alone do not say: told by what is known of their runs, looked at only where
an id is known already or would be forgotten by now.
"""

from typing import Final

from models.state.tenant import Tenant
from schemas.duration import MINUTE_MS
from schemas.usage import LlmCall, ToolCall

FRESH_MS: Final = 10_000
"""A copy of what another run has done is older than this by the time it comes: somebody has to fork a session first.
A message further ahead of its append has a clock that says nothing."""
OUT_OF_ORDER_MS: Final = MINUTE_MS
"""So far the calls of one run may come out of their order."""


def has_the_id_of_another(tenant: Tenant, call: LlmCall | ToolCall, append_ms: int, most_runs: int) -> bool:
    """Whether a call whose id is known is another one than that which was counted under it.

    It is if it happened after all that its run was heard to do. One that an unknown run has made only now is, too: it
    was never counted there, and who forks a session sends what is old. Part of the last answer, sent under one id as it
    grows, is no other call. Where there are `most_runs`, not every run is known.
    """
    if call.ts_ms > append_ms + FRESH_MS:
        return False
    run = tenant.peek_run(call.run_id)
    if run is None:
        return append_ms - call.ts_ms <= FRESH_MS and len(tenant.runs) < most_runs and not tenant.is_overflow
    if call.ts_ms <= run.last_ms:
        return False
    return not (isinstance(call, LlmCall) and any(one.is_last(call) for one in run.contexts()))


def may_be_sent_again(tenant: Tenant, call: LlmCall | ToolCall, at_ms: int, forgotten_ms: int) -> bool:
    """Whether a call that comes more than `forgotten_ms` after it happened may have been counted before: its run,
    silent for as long, has gone further than this, or the call is earlier than order alone explains.
    """
    run = tenant.peek_run(call.run_id)
    if run is None or at_ms > run.last_ms:
        return False
    return tenant.clock_ms - run.clock_ms > forgotten_ms or run.last_ms - at_ms > OUT_OF_ORDER_MS
