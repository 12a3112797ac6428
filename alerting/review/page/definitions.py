"""How the page's figures are made, in words."""

from alerting.review.facts import MIN_USUAL_DAYS, SPIKE_RATIO, WORTH_A_LINE_NANOUSD
from alerting.review.words import usd

_LEAST = usd(WORTH_A_LINE_NANOUSD)

DEFINITIONS: dict[str, str] = {
    "Spend": "What all model and tool calls cost, each in the hour it happened, even if it was reported later.",
    "Change": "Against the week before, or its same stretch while a week is not over. “new” spent nothing then.",
    "Out of the ordinary": (
        f"A tenant's workflow that spent {_LEAST} or more on a day, and more than {SPIKE_RATIO:g} x the median of its "
        f"days in the week before. Days without spend are left out; it takes {MIN_USUAL_DAYS} days with spend."
    ),
    "New, silent": f"Nothing spent in the week before, or in this one, and {_LEAST} or more in the other.",
    "Per accepted": (
        "All spend of the week by the outcomes accepted in it: what was rejected is paid for as well. Where none was "
        "accepted there is no such cost."
    ),
    "p99 hour": "The 99th percentile of the hours with spend, by nearest rank: of 100 hours or fewer, the highest.",
    "Workflows": "By name, over all tenants; what is out of the ordinary is told apart by tenant.",
    "Incident": "One fact that is wrong, counted once, in the week it opened, however many messages it took.",
    "Page": "An incident that reached critical or error.",
    "Useful, noise": (
        "What people said with a button or a command. Precision is the useful share of the incidents judged one way or "
        "the other; planned ones are apart, and how many were judged stands beside it."
    ),
    "Cause to stop": "From the call that was one too many to the acknowledgement of the agent's guard.",
}
OF_THE_TABLE: dict[str, str] = {
    "Owner, project, feature, agent, prompt": (
        "As a call says of itself, else as its run does, from the wide event table; days are the policy's, contracts "
        "and bills go by days in UTC."
    ),
    "Per accepted, of an owner and so on": (
        "What the runs cost that began in the week, by those of them whose output was accepted or edited."
    ),
    "p99 run, variation": (
        "Of the runs that began in the week: the 99th percentile by nearest rank; the standard deviation as a share of "
        "the mean."
    ),
    "Share of a model": "Of a workflow's spend on models; it is named if it has changed by 5 % or more.",
}
"""What is said beside that where the wide event table was asked."""
