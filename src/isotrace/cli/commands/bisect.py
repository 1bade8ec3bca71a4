"""`isotrace bisect`"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

from isotrace.cli.face import Face, with_face
from isotrace.cli.options import timeout_option
from isotrace.compare import Code
from isotrace.operations import bisect, open_store, show

_NOT_DECIDED = 125


@click.command("bisect")
@click.argument("run")
@click.option("--good", metavar="REV", required=True, help="A revision that takes the recorded path.")
@click.option("--bad", metavar="REV", required=True, help="A later one that does not.")
@click.option(
    "--entry",
    metavar="MODULE:FUNCTION",
    help="The function to run, where the record names none or was imported; or FILE.py:FUNCTION.",
)
@click.option(
    "--path", "paths", multiple=True, metavar="PATH", help="Only commits that changed this. Repeatable."
)
@click.option(
    "--code",
    "codes",
    multiple=True,
    type=click.Choice([code.value for code in Code]),
    metavar="CODE",
    help="Only this divergence is bad; others are skipped. Repeatable.",
)
@timeout_option("Skip a revision whose replay takes longer.")
@click.option("-v", "--verbose", is_flag=True, help="Show what the agent prints, on stderr.")
@with_face
def command(
    face: Face,
    run: str,
    *,
    good: str,
    bad: str,
    entry: str | None,
    paths: tuple[str, ...],
    codes: tuple[str, ...],
    timeout_s: float,
    verbose: bool,
) -> int:
    """Find the commit at which an agent began to take another path.

    git bisects between the two revisions, in a temporary worktree: the checkout is left alone,
    whatever is uncommitted in it. At each revision the run is replayed strictly: MATCH is good, DIVERGED
    is bad, and what can't be told is skipped, as are code that can't be imported and an agent that
    crashes. Exits with 0 if the commit was found, 125 if only skipped commits are left. With --json:
    first_bad, commit, divergence, cause, tested, skipped, left.
    """
    from isotrace.report.terminal.bisected import print_bisection, print_tried
    from isotrace.report.terminal.console import make_console

    console = make_console()
    store = open_store(face.store_url)
    try:
        record = show(store, run, tenant_id=face.tenant)
        with _ended_by_signals():
            bisection = bisect(
                record.run_id,
                good=good,
                bad=bad,
                entry=entry,
                paths=paths,
                codes=codes,
                store=store,
                tenant_id=face.tenant,
                timeout_s=timeout_s,
                quiet=not verbose,
                tried=None if face.json else lambda one: print_tried(console, one),
            )
    finally:
        store.close()
    if face.json:
        face.print_json(bisection.to_dict())
    else:
        print_bisection(console, bisection)
    return 0 if bisection.first_bad is not None else _NOT_DECIDED


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Whoever ends this process by a signal ends it as an exception does: nothing is left behind."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    # What is ignored, as by nohup, stays so.
    numbers = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) is not signal.SIG_IGN]
    before = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
