"""The review as JSON values: every field of `facts.py` by its name, and what is derived from them."""

from typing import Any

import msgspec

from alerting.review.facts import Incidents, Review, Verdicts


def as_data(review: Review) -> dict[str, Any]:
    """The review for programs. Shares lie between 0 and 1; what is not known is null. `detail` is there where a wide
    event table was asked.
    """
    data: dict[str, Any] = msgspec.to_builtins(review)
    data |= {
        "is_over": review.is_over,
        "pages": review.pages,
        "overshoot_nanousd": review.overshoot_nanousd,
        "verdicts": _verdicts(review.verdicts),
        "incidents": [_incidents(one) for one in review.incidents],
        "on_trial": [_incidents(one) for one in review.on_trial],
    }
    if review.detail is None:
        del data["detail"]
    return data


def _incidents(one: Incidents) -> dict[str, Any]:
    return {
        **msgspec.to_builtins(one), "total": one.total, "pages": one.pages, "notices": one.notices,
        "judged": one.verdicts.judged, "is_noisy": one.is_noisy, "verdicts": _verdicts(one.verdicts),
    }  # fmt: skip


def _verdicts(said: Verdicts) -> dict[str, Any]:
    return {**msgspec.to_builtins(said), "precision": said.precision, "noise_rate": said.noise_rate}
