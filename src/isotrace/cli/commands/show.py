"""`isotrace show`"""

from __future__ import annotations

import click

from isotrace.cli.face import Face, with_face
from isotrace.cli.pages import check_page, html_option, write_page
from isotrace.errors import UsageError
from isotrace.models import Erased, TraceRecord, TraceStep
from isotrace.operations import show


def _range_of(text: str | None, count: int) -> slice | None:
    """`10:20`, `:5`, `-3:` as a slice. Raises `UsageError`, also for a range in which no step can be."""
    if text is None:
        return None
    first, colon, last = text.partition(":")
    try:
        if not colon:
            raise ValueError
        chosen = slice(int(first) if first else None, int(last) if last else None)
    except ValueError:
        raise UsageError(
            f"{text!r} is not a range of steps", expected=f"FROM:TO, such as 10:20 or -5:, of {count} steps"
        ) from None
    if count and not range(count)[chosen]:
        raise UsageError(
            f"no step is in the range {text!r}", expected=f"FROM:TO of {count} steps, FROM before TO"
        )
    return chosen


def _step_of(record: TraceRecord, index: int) -> TraceStep:
    if not 0 <= index < len(record.steps):
        raise UsageError(
            f"the run has no step {index}",
            run_id=record.run_id,
            expected=f"0 to {len(record.steps) - 1}" if record.steps else "no step at all: the run is empty",
        )
    return record.steps[index]


def _signature_of(record: TraceRecord) -> str | None:
    erased = any(isinstance(step.params, Erased) for step in record.steps)
    return None if erased else record.determinism_signature()


@click.command("show")
@click.argument("run")
@click.option("--step", "step_index", type=int, metavar="N", help="One step in full: params, outcome, error.")
@click.option("--steps", "steps_range", metavar="FROM:TO", help="These steps of the timeline only.")
@html_option
@with_face
def command(face: Face, run: str, step_index: int | None, steps_range: str | None, html: str | None) -> None:
    """Show one run as a timeline, or one of its steps in full.

    With --json: the whole record (with --step: that step). With --html: a page of the whole run.
    """
    check_page(face, html)
    if html is not None and (step_index is not None or steps_range is not None):
        raise UsageError("a page shows the whole run", hint="leave --step and --steps out")
    with face.store() as store:
        record = show(store, run, tenant_id=face.tenant)
    chosen = _range_of(steps_range, len(record.steps))
    if html is not None:
        from isotrace.report.html import render_run

        write_page(face, render_run(record), html)
        if not face.json:
            return
    step = None if step_index is None else _step_of(record, step_index)
    if face.json:
        face.print_json(step.to_dict() if step else record.to_dict())
        return
    from isotrace.report.terminal.console import make_console
    from isotrace.report.terminal.timeline import show_record, show_step

    if step is not None:
        show_step(make_console(), record, step)
    else:
        show_record(make_console(), record, steps=chosen, signature=_signature_of(record))
