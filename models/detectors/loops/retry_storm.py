"""`retry_storm`: a run that sends the same model call again and again."""

from models.detectors.base import SequenceDetector, register
from models.detectors.loops.in_a_row import RowSettings, about, notice, page, sentence, spent_since
from models.rules.finding import Finding
from models.state.units.call_history import CallHistory
from schemas.usage import LlmCall


class RetryStormSettings(RowSettings):
    """`notice_at` and `page_at` count attempts at one model call, the first one included."""


@register
class RetryStorm(SequenceDetector[RetryStormSettings]):
    """Fires when a run sends the same model call `notice_at` (3) times in a row, and pages at `page_at` (5): every
    attempt is charged, whatever became of it.

    The same call is the same prompt hash with the same input tokens, or a rising `attempt`: attempt 5 means five
    attempts even if it is the first event seen. Without a prompt hash, model and input tokens stand in for it; answers
    of different length or a tool call in between then show different prompts, as in a batch of classifications, and
    only attempts around a failure page. One that began more than ten seconds after the last had worked, with no tool
    called in between, is a person's who lets the answer be made anew: that warns. What fails with no token counted and
    no cost is an outage, and warns. Samples drawn in parallel and answers from a semantic cache do not count.
    """

    name = "retry_storm"
    settings_class = RetryStormSettings
    defaults = ({"name": "retry_storm"},)
    calls = ("model",)

    def step(self, history: CallHistory, call: LlmCall) -> Finding | None:
        """What is true of the attempts so far, at every one from the notice on: `attempt` may skip numbers."""
        if history.models.resends < self.settings.notice_at or call.cache_hit:
            return None
        sent, sure = history.models.sendings(self.settings.within_minutes)
        sent, sure = max(sent, call.attempt), max(sure, call.attempt)
        if sent < self.settings.notice_at:
            return None
        # Calls known by their size only are not known apart either: all of a run's are one incident.
        repeated = "" if call.prompt_hash is None else history.models.name()
        nudge = ""
        if sure >= sent and _is_charged(call):  # an outage is nothing that a model could do otherwise
            nudge = sentence(f"The same request has now been sent {sent} times in a row, and every time was charged.")
        return about(self._judge(call, sent, sure, history.models.spent_in_row), repeated, self.settings, nudge)

    def _judge(self, call: LlmCall, sent: int, sure: int, spent_nanousd: int) -> Finding:
        evidence: dict[str, object] = {
            "model": call.model,
            "sent_in_a_row": sent,
            "surely_the_same": sure,
            "attempt": call.attempt,
            "input_tokens": call.input_tokens,
            "status": call.status,
            "error_type": call.error_type,
            "prompt_hash": (call.prompt_hash or "")[:12],
        }
        if 0 < self.settings.page_at <= sure and _is_charged(call):
            summary = (
                f"The same call to {call.model} was sent {sure} times in a row, and every attempt is charged"
                f"{spent_since(spent_nanousd)}"
            )
            advice = "Stop it if it still runs; find out why its answers are not accepted."
            return page(self.settings, sure, self.settings.page_at, summary, advice, evidence)
        summary = (
            f"What looks like the same call to {call.model} was sent {sent} times in a row{spent_since(spent_nanousd)}"
        )
        advice = "Look at the run's retry settings; it pages if attempts go on."
        if sure == sent and not _is_charged(call):
            summary = f"The same call to {call.model} was sent {sure} times in a row and failed; nothing was charged."
            advice = f"Check whether {call.model} can be reached; it pages if attempts are charged."
        elif sure < sent and call.prompt_hash is not None:
            advice = "Nothing, if a person lets the answer be made anew; a cap stops it else."
        elif sure < sent:
            advice = "Report `prompt_hash`; without it a retry cannot be told from another prompt of the same length."
        return notice(sent, self.settings.page_at, summary, advice, evidence)


def _is_charged(call: LlmCall) -> bool:
    """Whether anything was charged for the attempt, as far as it says."""
    return call.status == "ok" or bool(call.input_tokens or call.output_tokens or call.cost_nanousd)
