"""`run`: whose it is, what it did call by call, how near it came to its limit, and why it was stopped."""

from collections.abc import Iterator, Sequence

from alerting.rendering.figures import part_of
from alerting.rendering.foreign import name
from alerting.rendering.meaning import author, meaning
from alerting.review.page.markup import Markup, Piece, element, join
from schemas.control import Command
from schemas.duration import format_duration
from schemas.run import RunRecord
from schemas.usage import CommandAck, LlmCall, Outcome, RunFinished, RunStarted
from streams.console.call_tree import Call, CallTree, RunCalls
from streams.console.run_known import RunKnown
from streams.console.state.forged import Forged
from streams.console.views.curve import Curve, curve
from streams.console.views.pieces import (
    badge,
    bar,
    definitions,
    empty,
    incident_href,
    link,
    moment,
    run_href,
    share_text,
    shown_name,
    shown_text,
    tokens,
    usd,
)
from streams.console.views.stops import FORGED, WORDS
from streams.tools.inspection.why import Entry, Why
from streams.tools.order import holds

ROWS_OF_A_CHUNK = 60
AGAIN = 3
"""From this time on a call that is like ones before is marked."""
MOST_TOLD = 40
MOST_INCIDENTS = 8
LABELS = {"why": "Why", "figure": "How much", "by": "By", "since": "Since", "now": "Now", "before": "Before",
          "rule": "Rule", "do": "What to do"}  # fmt: skip


Drawn = dict[tuple[str, int, int, int], Markup]
"""Rows of calls that were drawn already, by run, place, depth and beginning: a call never changes."""


def fragments(
    known: RunKnown, tree: CallTree | None, fault: str, drawn: Drawn, *, may_operate: bool
) -> dict[str, Markup]:
    """The parts of the page that change, by their places in it."""
    own = None if tree is None else tree.runs.get(known.run_id)
    return {
        "head": _head(known, own),
        "why": _why(known.why, known, own),
        "actions": _actions(known) if may_operate and _is_heard_of(known, own) else join([]),
        "identity": _identity(known, own),
        "curves": _curves(known, own),
        "orders": _orders(known, own),
        **_calls(known, tree, fault, drawn),
    }


def _head(known: RunKnown, own: RunCalls | None) -> Markup:
    record = known.record
    cost = record.cost_nanousd if record else own.cost_nanousd if own else 0
    state = _state(known)
    return join(
        [
            element("p", badge(*state), " ", shown_name(known.tenant_id), class_="over-title"),
            element("h1", shown_name(known.run_id, 90)),
            element("p", element("strong", usd(cost)), _shape(record, own), class_="lead"),
        ]
    )


def _state(known: RunKnown) -> tuple[str, str]:
    command = known.facts.command
    if command is not None and holds(command, known.now_ms):
        return {"kill": "killed", "pause": "paused"}.get(command.action, command.action), command.action
    if known.record is None:
        return "seen", "quiet"
    if known.record.state == "live":
        return "live", "live"
    return known.record.status or "finished", "quiet"


def _shape(record: RunRecord | None, own: RunCalls | None) -> str:
    if record is not None:
        calls, tools = record.calls, record.tool_calls
        began_ms, last_ms = record.started_ms, record.ended_ms or record.last_ms
    elif own is not None:
        models = sum(isinstance(call.message, LlmCall) for call in own.calls)
        calls, tools, began_ms, last_ms = models, len(own.calls) - models, own.began_ms, own.last_ms
    else:
        return " · nothing of it has been read so far"
    return f" in {calls:,} model calls and {tools:,} tool calls, {format_duration(max(0, last_ms - began_ms))}"


def _why(why: Why, known: RunKnown, own: RunCalls | None) -> Markup:
    if not _is_heard_of(known, own):
        return empty("Nobody has heard of this run: no command, no alert, and no usage of the last day names it.")
    kind = "quiet" if why.resumable is None else why.resumable.action
    entries = [(one.label, _told(one, known)) for one in why.entries]
    lead = next((text for label, text in entries if label == "why"), None)
    rest = [(LABELS[label], text) for label, text in entries if label in LABELS and text is not lead]
    return element(
        "div",
        element("h2", f"This run {_standing(why, known)}"),
        element("p", lead, class_="reason") if lead else "",
        definitions(rest) if rest else "",
        _incidents(known),
        class_=f"verdict {kind}",
    )


def _told(one: Entry, known: RunKnown) -> Markup:
    """A fact as it is printed, but for times, which are by the reader's clock."""
    command = known.facts.command
    if one.label != "since" or command is None:
        return shown_text(one.text, 600)
    end = join([", until ", moment(command.expires_ms)]) if holds(command, known.now_ms) else ""
    return join([moment(command.issued_ms), end])


def _standing(why: Why, known: RunKnown) -> str:
    """How it stands: of a run that is over and that nothing stands against, its end."""
    if known.facts.command is None and known.record is not None and known.record.state == "finished":
        return f"is over: {known.record.status or 'finished'}. Nothing stands against it."
    return why.state


def _incidents(known: RunKnown) -> Markup:
    """The incidents about it, or about what stopped it, each with the way there."""
    newest = {one.incident_id: one for one in known.facts.alerts if known.knows_incident(one.incident_id)}
    items = [
        element(
            "li",
            badge("ended", "quiet") if one.state == "resolved" else badge(one.severity, one.severity), " ",
            link(incident_href(known.tenant_id, one.incident_id), shown_text(one.summary, 200)),
        )
        for one in list(newest.values())[-MOST_INCIDENTS:]
    ]  # fmt: skip
    if not items:
        return empty("No incident is about it.")
    return join([element("h3", "Incident" if len(items) == 1 else "Incidents"), element("ul", *items, class_="plain")])


def _is_heard_of(known: RunKnown, own: RunCalls | None) -> bool:
    return bool(known.record or known.facts.command or known.facts.alerts or own or not known.is_caught_up)


def _actions(known: RunKnown) -> Markup:
    command = known.facts.command
    base = f"{run_href(known.tenant_id, known.run_id).removeprefix('/run?')}"
    if command is not None and holds(command, known.now_ms):
        return link(f"/order/resume?{base}", "Let it go on…", class_="button")
    if known.record is not None and known.record.state == "finished":
        return join([])
    return link(f"/order/kill?{base}", "Kill this run…", class_="button danger")


def _identity(known: RunKnown, own: RunCalls | None) -> Markup:
    record = known.record
    pairs: list[tuple[str, Piece]] = []
    if record is not None:
        given = {
            "Workflow": record.workflow, "Owner": record.owner, "Agent": record.agent, "Model": record.model,
            "Project": record.project, "Environment": record.environment, "Feature": record.feature,
            "Prompt version": record.prompt_version, "User": record.user, "Session": record.session_id,
            "Expected route": record.expected_route, "Outcome": record.outcome, "Escalated": record.escalation,
        }  # fmt: skip
        pairs += [(label, shown_name(value)) for label, value in given.items() if value]
        parent = record.parent_run_id
        if parent:
            pairs.append(("Started by", link(run_href(known.tenant_id, parent), shown_name(parent))))
        pairs.append(("Tokens", f"{tokens(record.input_tokens)} in, {tokens(record.output_tokens)} out"))
        if record.retries:
            pairs.append(("Sent again", f"{record.retries:,} calls, {usd(record.retried_nanousd)}"))
        if record.nearest:
            near = record.nearest
            text = f"{share_text(near.share)} of {name(near.rule, 40)}: {part_of(near.used, near.limit, near.unit)}"
            pairs.append(("Nearest limit", join([text, bar(near.share)])))
    elif own is not None:
        given = {"Workflow": own.workflow, "Owner": own.owner, "Agent": own.agent}
        pairs += [(label, shown_name(value)) for label, value in given.items() if value]
        pairs.append(("Tokens", f"{tokens(own.input_tokens)} in, {tokens(own.output_tokens)} out"))
    began_ms = record.started_ms if record else own.began_ms if own else 0
    if began_ms:
        pairs.append(("Began", moment(began_ms)))
    return definitions(pairs)


def _curves(known: RunKnown, own: RunCalls | None) -> Markup:
    if own is None or len(own.calls) < 2:
        return join([])
    cap = known.cost_cap_nanousd
    again = [at for at, call in enumerate(own.calls) if call.alike >= AGAIN]
    totals = [call.total_nanousd for call in own.calls]
    label = f"limit {usd(cap)}" if cap else ""
    cost = Curve("Cost", totals, [usd(totals[0]), usd(totals[-1])], cap, label, marks=again, stops=True)
    contexts = [call.message.input_tokens for call in own.calls if isinstance(call.message, LlmCall)]
    return join([curve(cost), curve(_context(known, contexts)) if contexts else ""])


def _context(known: RunKnown, contexts: Sequence[int]) -> Curve:
    """What was sent with each model call, beside what `context_growth` goes by."""
    shown = [f"first {tokens(contexts[0])}", f"most {tokens(max(contexts))}", f"{tokens(contexts[-1])} tokens"]
    line = known.context_line(contexts[0])
    if line is None:
        return Curve("Context by call", contexts, shown)
    told = "told from" if line.is_passed else "looks from"
    label = f"{name(line.rule, 30)} {told} {tokens(line.tokens)}"
    return Curve("Context by call", contexts, shown, line.tokens, label, "watch")


def _orders(known: RunKnown, own: RunCalls | None) -> Markup:
    """Commands, answers and people's orders, in the order of their times."""
    told: list[tuple[int, Markup]] = [(one.issued_ms, _command(one)) for one in known.commands]
    told += [(one.written_ms, _forged(one)) for one in known.forged]
    told += [(one.ts_ms, _ack(one)) for one in (own.events if own else ()) if isinstance(one, CommandAck)]
    for one in known.orders:
        if one.order is not None:
            refused = f" Refused: {one.refused}" if one.refused else ""
            text = join([element("strong", shown_text(author(one.order), 200)), ": ", meaning(one.order), refused])
            told.append((one.record.appended_ms, text))
    if not told:
        return empty("No command and no order about it.")
    items = [
        element("li", moment(at), element("div", text))
        for at, text in sorted(told, key=lambda one: one[0])[-MOST_TOLD:]
    ]
    return element("ol", *items, class_="timeline")


def _command(command: Command) -> Markup:
    return join([badge(command.action, command.action), " by ", shown_name(command.rule), ": ",
                 shown_text(command.reason, 300)])  # fmt: skip


def _forged(forged: Forged) -> Markup:
    return join([badge(f"forged {WORDS.get(forged.action, forged.action)}", "warning"), " ", FORGED])


def _ack(ack: CommandAck) -> Markup:
    denied = f", kept from its next step by {name(ack.denied_by, 40)}" if ack.denied_by else ""
    return join([badge("answer", "live"), f" the agent {ack.acted.replace('_', ' ')}{denied}"])


def _calls(known: RunKnown, tree: CallTree | None, fault: str, drawn: Drawn) -> dict[str, Markup]:
    if tree is None or not tree.runs:
        note = fault or ("Its calls are being looked up…" if not known.is_caught_up else "No call of it is on the log.")
        return {"calls-note": empty(note)}
    rows = list(_rows(known, tree, drawn))
    found = {
        f"calls-{at // ROWS_OF_A_CHUNK}": join(rows[at : at + ROWS_OF_A_CHUNK])
        for at in range(0, len(rows), ROWS_OF_A_CHUNK)
    }
    cut = tree.is_cut or any(run.left_out for run in tree.runs.values())
    return {"calls-note": empty("There is more than is shown here; the sums count all of it." if cut else ""), **found}


def _rows(known: RunKnown, tree: CallTree, drawn: Drawn) -> Iterator[Markup]:
    is_alone = len(tree.runs) == 1
    for step in tree.steps():
        run, depth = step.run, step.depth - 1 if is_alone else step.depth
        match step.what:
            case "begins":
                if not is_alone:
                    yield _run_row(known, run, depth)
            case "call":
                key = (run.run_id, step.at, depth, run.began_ms)
                row = drawn.get(key)
                if row is None:
                    row = drawn[key] = _call_row(run, run.calls[step.at], depth)
                yield row
            case "ends":
                if run.left_out:
                    yield element("tr", element("td", f"{run.left_out:,} more calls", colspan="6"))
                yield from _end_rows(run, depth)


def _run_row(known: RunKnown, run: RunCalls, depth: int) -> Markup:
    label = shown_name(run.run_id, 60)
    what = label if run.run_id == known.run_id else link(run_href(known.tenant_id, run.run_id), label)
    agent = element("span", f" {name(run.agent, 40)}", class_="sub") if run.agent else ""
    return element(
        "tr",
        element("th", what, agent, scope="row", class_=f"what d{min(depth, 5)}"),
        element("td", moment(run.began_ms), class_="when"),
        element("td", f"{tokens(run.input_tokens)} → {tokens(run.output_tokens)}", class_="number tokens"),
        element("td", format_duration(max(0, run.last_ms - run.began_ms)), class_="number took"),
        element("td", usd(run.cost_nanousd), class_="number"),
        element("td", "", class_="number total"),
        class_="run",
    )


def _call_row(run: RunCalls, call: Call, depth: int) -> Markup:
    message = call.message
    if isinstance(message, LlmCall):
        what, below, kind = message.model, 1, "model"
        flow = f"{tokens(message.input_tokens)} → {tokens(message.output_tokens)}"
        note = f"attempt {message.attempt}" if message.attempt > 1 else "from a cache" if message.cache_hit else ""
    else:
        what, below, kind, flow, note = message.tool, 2, "tool", "", ""
    notes = [note] if note else []
    if message.status != "ok":
        notes.append(message.status)
    again = call.alike >= AGAIN
    return element(
        "tr",
        element(
            "th", shown_name(what, 50), *(element("span", f" {one}", class_="sub") for one in notes),
            badge(_times(call.alike), "again") if again else "", scope="row",
            class_=f"what d{min(depth + below, 6)}",
        ),
        element("td", _offset(call.began_ms - run.began_ms), class_="when"),
        element("td", flow, class_="number tokens"),
        element("td", "" if call.took_ms is None else format_duration(call.took_ms), class_="number took"),
        element("td", usd(call.cost_nanousd) if call.cost_nanousd else "–", class_="number"),
        element("td", usd(call.total_nanousd), class_="number total"),
        class_=f"{kind}{' repeated' if again else ''}",
    )  # fmt: skip


def _offset(ms: int) -> str:
    return f"+{format_duration(max(0, ms))}"


def _times(count: int) -> str:
    return f"{count}× the same"


def _end_rows(run: RunCalls, depth: int) -> Iterator[Markup]:
    for event in run.events:
        match event:
            case RunFinished(status=status, ts_ms=at):
                yield _note_row(f"the run has {'been killed' if status == 'killed' else status}", at, run, depth)
            case Outcome(outcome=outcome, ts_ms=at):
                yield _note_row(f"its output was {outcome}", at, run, depth)
            case CommandAck(acted=acted, ts_ms=at):
                yield _note_row(f"the guard answered: {acted.replace('_', ' ')}", at, run, depth)
            case RunStarted():
                pass


def _note_row(text: str, at_ms: int, run: RunCalls, depth: int) -> Markup:
    return element(
        "tr",
        element("th", text, scope="row", class_=f"what d{min(depth + 1, 6)}"),
        element("td", _offset(at_ms - run.began_ms), class_="when"),
        *(element("td", "", class_=kind) for kind in ("tokens", "took", "", "total")),
        class_="note",
    )


def shape(found: dict[str, Markup]) -> Markup:
    """The page with its parts in their places."""
    heads: Sequence[tuple[str, str]] = (
        ("Call", "what"), ("Began", "when"), ("Tokens in → out", "number tokens"), ("Took", "number took"),
        ("Cost", "number"), ("Total", "number total"),
    )  # fmt: skip
    head = element("tr", *(element("th", label, scope="col", class_=kind) for label, kind in heads))
    chunks = [
        element("tbody", one, id=key) for key, one in found.items() if key.startswith("calls-") and key[6].isdigit()
    ]
    return join(
        [
            element("header", found["head"], id="head", class_="run-head"),
            element("section", found["why"], id="why", aria_live="polite"),
            element("p", found["actions"], id="actions", class_="actions"),
            element("section", found["curves"], id="curves", class_="curves", aria_label="Curves"),
            element("section", element("h2", "Identity"), element("div", found["identity"], id="identity")),
            element("section", element("h2", "Commands and answers"), element("div", found["orders"], id="orders")),
            element(
                "section",
                element("h2", "Calls"),
                element("div", found["calls-note"], id="calls-note"),
                element(
                    "div",
                    element("table", element("caption", "Every call, in order", class_="unseen"),
                            element("thead", head), *chunks, class_="calls", id="calls"),
                    class_="scroll", tabindex="0", role="region", aria_label="Calls",
                ),
            ),
        ]
    )  # fmt: skip
