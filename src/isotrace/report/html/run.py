"""One run as a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from isotrace.jsondiff import MISSING
from isotrace.models import META_REPLAYABILITY, Erased, TraceRecord, Violation
from isotrace.report.figures import cost, duration, moment
from isotrace.report.html.environment import render
from isotrace.report.html.steps import reason_of, step_view, values_of
from isotrace.report.html.timeline import timeline_of
from isotrace.report.html.values import Shown, fair_limit, lengths_of, shown
from isotrace.report.reading import (
    doubts,
    elapsed_ms,
    error_message,
    redactors,
    signature_of,
    timed,
    total_tokens,
    unpriced,
)
from isotrace.report.safe import plain, visible


def render_run(record: TraceRecord) -> str:
    """A page of one run: what it was, its timeline with concurrent steps in lanes, and every step.

    The whole page as HTML: write it to one file, as UTF-8. Of long values it holds the beginning, and
    says how long they are. Raises `MissingExtraError` where jinja2 is not installed.
    """
    known = timed(record)
    ends = list(_ends(record))
    limit = fair_limit(lengths_of(value for step in record.steps for _, value in values_of(step)))
    by_step: dict[int | None, tuple[Violation, ...]] = {}
    for one in record.violations:
        by_step[one.step_index] = (*by_step.get(one.step_index, ()), one)
    views = [step_view(step, by_step.get(step.step_index, ()), limit) for step in record.steps]
    return render(
        "run.html",
        title=f"{record.agent_id or 'run'} {record.run_id[:12]}",
        head=head_of(record),
        timed=known,
        timeline=timeline_of(record, views),
        steps=views,
        kinds=list(dict.fromkeys(view.colour for view in views)),
        failed=[view.index for view in views if view.status == "failure" or view.violations],
        retried=any(view.retries for view in views),
        violated=any(view.violations for view in views),
        cut=sum(value.cut for view in views for _, value in view.values),
        limit=limit,
        violations=[(visible(one.policy_id), reason_of(one)) for one in by_step.get(None, ())],
        values=[(title, shown(value)) for title, value in ends],
    )


@dataclass(frozen=True, slots=True)
class Head:
    """What stands above a run, in words: (name, value) each."""

    run_id: str
    agent: str
    status: str
    facts: list[tuple[str, str]]
    digests: list[tuple[str, str]]
    metadata: list[tuple[str, str]]
    doubts: list[str] | None
    unpriced: list[str]
    input: Shown | None


def head_of(record: TraceRecord) -> Head:
    """The head of a run."""
    context = record.context
    given = None if context is None or context.input in (MISSING, None) else shown(context.input)
    reasons = doubts(record)
    return Head(
        run_id=visible(record.run_id),
        agent=visible(record.agent_id or "no agent"),
        status=visible(record.status),
        facts=[fact for fact in _facts(record) if fact[1]],
        digests=[fact for fact in _digests(record) if fact[1]],
        metadata=[
            (visible(str(key)), plain(value, 200))
            for key, value in record.metadata.items()
            if key != META_REPLAYABILITY
        ],
        doubts=None if reasons is None else list(map(visible, reasons)),
        unpriced=list(map(visible, unpriced(record))),
        input=given,
    )


def _facts(record: TraceRecord) -> Iterator[tuple[str, str]]:
    steps = f"{len(record.steps):,}"
    yield "steps", steps + (f", {record.failure_count:,} failed" if record.failure_count else "")
    if timed(record):
        yield "took", duration(elapsed_ms(record))
        yield "started", f"{moment(record.started_at)} UTC"
    yield "cost", cost(record.total_cost_cents)
    yield "tokens", total_tokens(record).replace("tokens ", "")
    if record.tenant_id != "default":
        yield "tenant", visible(record.tenant_id)
    yield "redacted", visible(redactors(record))


def _digests(record: TraceRecord) -> Iterator[tuple[str, str]]:
    yield "run", visible(record.run_id)
    if record.correlation_id != record.run_id:
        yield "correlation", visible(record.correlation_id)
    yield "signature", visible(signature_of(record))
    yield "root", record.root_hash or "not sealed"
    yield "seed", str(record.seed)


def _ends(record: TraceRecord) -> Iterator[tuple[str, Any]]:
    """What the run came to."""
    context = record.context
    if context is None:
        return
    if context.result is not MISSING:
        yield "result", context.result
    if context.error not in (MISSING, None):
        error = context.error
        yield "error", error if isinstance(error, Erased) else error_message(error)
