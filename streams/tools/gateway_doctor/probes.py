"""Whether a gateway answers, and what it lets a key do: asked as a client asks, and nothing is written."""

import asyncio
import json
from typing import Any, Final, NamedTuple

from aiohttp import ClientError, ClientSession, ClientTimeout

from streams.tools.inspection.finding import Finding

ANSWER_S: Final = 5.0
RUN: Final = "spendfuse-doctor"
"""A run that nobody has: asked after, it is told to go on."""


class Answered(NamedTuple):
    """Status and body; 0 and why if nobody answers."""

    status: int
    said: Any


def probe(url: str, token: str) -> list[Finding]:
    """Send nothing, and ask after nobody."""
    return asyncio.run(_probe(url, token))


async def _probe(url: str, token: str) -> list[Finding]:
    headers = {"Authorization": f"Bearer {token}"}
    async with ClientSession(headers=headers, timeout=ClientTimeout(ANSWER_S)) as client:
        sent = await _post(client, f"{url}/v1/metrics", {})
        if sent.status == 0:
            advice = "start one: python -m streams gateway; or say with --url where it is"
            return [Finding("wrong", f"{url}: nobody answers: {sent.said}", advice)]
        asked = await _post(client, f"{url}/v1/guard/check", {"run_id": RUN})
    found = [_finding(url, "send usage", sent), _finding(url, "ask what a run may do", asked)]
    if asked.status == 200 and isinstance(asked.said, dict) and asked.said.get("blind"):
        found.append(Finding("warning", f"{url}: it does not know what stands: {asked.said['blind']}"))
    return found


def _finding(url: str, what: str, answered: Answered) -> Finding:
    if answered.status == 200:
        return Finding("ok", f"{url}: this key may {what}")
    said = answered.said.get("error") or answered.said.get("message") if isinstance(answered.said, dict) else None
    return Finding("warning", f"{url}: this key may not {what} ({answered.status}: {said or 'no reason given'})")


async def _post(client: ClientSession, path: str, body: dict[str, Any]) -> Answered:
    try:
        async with client.post(path, json=body) as answer:
            return Answered(answer.status, _said(await answer.read()))
    except (ClientError, OSError, TimeoutError, ValueError) as error:
        return Answered(0, str(error) or "not in time")


def _said(body: bytes) -> Any:
    try:
        return json.loads(body or b"null")
    except ValueError:
        return None
