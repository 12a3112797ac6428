"""`refused_finish`: a run that says that it is finished, and whose harness does not take it."""

from models.detectors.base import SequenceDetector, register
from models.detectors.loops.in_a_row import (
    Minutes,
    RowSettings,
    about,
    any_matches,
    notice,
    page,
    plain,
    sentence,
    spent_since,
)
from models.rules.finding import Finding
from models.state.units.call_history import CallHistory
from schemas.usage import ToolCall


class RefusedFinishSettings(RowSettings):
    """`notice_at` and `page_at` count finishing calls, the first one included: one less was refused."""

    within_minutes: Minutes = 60
    """An incident is over after so long without a finishing call; other calls may stand between them."""
    tools: tuple[str, ...] = (
        "finish", "finished", "finish_task", "task_finish*", "done", "task_done", "mark_done", "complete", "completed",
        "task_complete*", "complete_task", "attempt_completion", "submit", "submit_patch", "submit_solution",
        "submit_final*", "final_answer", "exit", "end_task", "terminate", "*.finish", "*.done", "*.submit",
    )  # fmt: skip
    """Patterns of tools by which an agent says that its work is done."""


@register
class RefusedFinish(SequenceDetector[RefusedFinishSettings]):
    """Fires when a run calls a finishing tool for the third time because it was made to go on each time, and pages at
    the fifth.

    No call need be repeated for that: the words are new each time. The run was made to go on if its next call came at
    once, within ten seconds where that is known, and with the context it had. A person's answer, an accepted output,
    the run's end, or a new piece of work with a smaller context start the count anew.
    """

    name = "refused_finish"
    settings_class = RefusedFinishSettings
    defaults = ({"name": "refused_finish"},)
    calls = ("tool",)

    def finishes(self, tool: str) -> bool:
        return any_matches(self.settings.tools, tool)

    def step(self, history: CallHistory, call: ToolCall) -> Finding | None:
        """What is true of the finishing calls so far, at every one of them from the notice on."""
        finishes = history.finishes
        if finishes is None or finishes.count < self.settings.notice_at or not self.finishes(call.tool):
            return None
        count = finishes.count
        summary = (
            f"The run has called {call.tool} {count} times and was made to go on each time"
            f"{spent_since(finishes.spent_nanousd)}"
        )
        evidence: dict[str, object] = {"tool": call.tool, "calls_in_a_row": count, "status": call.status}
        if 0 < self.settings.page_at <= count:
            advice = "Stop it if it still runs: it cannot meet what its harness asks. Read why the harness refuses."
            finding = page(self.settings, count, self.settings.page_at, summary, advice, evidence)
        else:
            advice = "Read why the harness refuses; it pages if this goes on."
            finding = notice(count, self.settings.page_at, summary, advice, evidence)
        nudge = sentence(f"You have called {plain(call.tool)} {count} times, and were made to go on each time.")
        return about(finding, "", self.settings, nudge)
