"""`isotrace behaviours`"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from isotrace.cli.face import Face, with_face
from isotrace.cli.options import with_looking, with_query
from isotrace.cli.pages import STDOUT, check_page, html_option, write_page
from isotrace.compare import Rules
from isotrace.models import META_TASK
from isotrace.operations import Selection, hold, split, stored_behaviours, stored_comparison
from isotrace.population import Change

EXIT_CODES = {Change.NOT_SHOWN: 0, Change.CHANGED: 1, Change.TOO_FEW: 125}


@click.command("behaviours")
@click.option("--task", metavar="ID", help="Runs of this task: the same as task=ID.")
@click.option(
    "--golden",
    metavar="NAME",
    help="Hold the runs of this golden's agent and input against its path: a file, or its name in goldens/.",
)
@click.option(
    "--by",
    metavar="KEY",
    help="Group by this metadata key (task, model, …), or by agent, correlation or status.",
)
@with_looking
@click.option(
    "--runs",
    "runs_per_group",
    type=click.IntRange(min=2),
    metavar="N",
    help="Only groups of exactly so many runs.",
)
@click.option(
    "--before",
    metavar="QUERY",
    help="With --after: compare two sets of runs, each the terms of a query in one text: 'commit=a task=13'.",
)
@click.option("--after", metavar="QUERY", help="The runs to hold against those of --before.")
@html_option
@with_query(None)
@with_face
def command(
    face: Face,
    task: str | None,
    golden: str | None,
    by: str | None,
    level: str,
    rules: Rules,
    runs_per_group: int | None,
    before: str | None,
    after: str | None,
    html: str | None,
    select: Callable[..., Selection],
) -> int:
    """Say how deterministic runs are: which paths they took, how often, and where they part.

    Which runs: all, or those that fit terms such as agent=support status=failed since=2d. A key that is no
    field is one of the metadata; the same key again means: or that one.

    Without --by the runs are one group: its numbers, the tree of its paths, and the steps at which its runs
    part. With --by: for each group how many runs, how many distinct paths, the index of the first step (of
    the chosen kinds) at which not all of them agree, and how often two of them do. Levels exact and outcome
    read every run. With --json: groups, and over them identical, agreement and pass_k. With --html: all of
    it drawn, on a page.

    With --golden: how many of the runs of its agent that began with its input took its path, and where the
    others left it. Their inputs are read one by one. Exits with 1 if one did not.

    With --before and --after: which paths appeared, vanished or changed their share, which step moved, and
    how sure that is; other terms and options hold for both, and with --by runs are only held against runs of
    the same group. Exits with 1 if something changed, with 125 if there are too few runs to say.
    """
    check_page(face, html)
    if (before is None) != (after is None):
        raise click.UsageError("--before and --after belong together")
    if before is not None and runs_per_group is not None:
        raise click.UsageError("--runs is about groups, and not for --before and --after")
    if golden is not None and (by or before or runs_per_group):
        raise click.UsageError("--golden is about one group of runs: not with --by, --runs, --before")
    chosen = {} if task is None else {META_TASK: [task]}
    look: dict[str, Any] = {"by": by, "level": level, "rules": rules}
    if before is not None and after is not None:
        sides = [select(face.tenant, chosen, split(text)) for text in (before, after)]
        return _changes(face, sides[0], sides[1], look, html)
    from isotrace.report.terminal.behaviours import print_behaviours
    from isotrace.report.terminal.console import make_console, progress

    selection = select(face.tenant, chosen)
    if golden is not None:
        return _held(face, selection, golden, level, rules, html)
    with face.store() as store, progress("reading runs") as bar:
        found = stored_behaviours(store, selection, **look, runs_per_group=runs_per_group, progress=bar)
    if face.json:
        face.print_json(found.to_dict())
    elif html is None:
        print_behaviours(make_console(), found)
    if html is not None:
        from isotrace.report.html import render_behaviours

        write_page(face, render_behaviours(found), html)
    return 0


def _held(face: Face, selection: Selection, golden: str, level: str, rules: Rules, html: str | None) -> int:
    """`--golden`; the exit code."""
    from isotrace.report.terminal.behaviours import print_held
    from isotrace.report.terminal.console import make_console, progress

    with face.store() as store, progress("reading inputs") as bar:
        held = hold(store, selection, golden, level=level, rules=rules, progress=bar)
    if face.json:
        face.print_json(held.to_dict())
    elif html != STDOUT:
        print_held(make_console(), held)
    if html is not None:
        from isotrace.report.html import render_behaviours

        write_page(face, render_behaviours(held.found), html)
    if not held.taken.whole:
        return 125
    return int(bool(held.parted))


def _changes(face: Face, before: Selection, after: Selection, look: dict[str, Any], html: str | None) -> int:
    """`--before` and `--after`; the exit code."""
    from isotrace.report.terminal.changes import print_changes
    from isotrace.report.terminal.console import make_console, progress

    with face.store() as store, progress("reading runs") as bar:
        found = stored_comparison(store, before, after, **look, progress=bar)
        if face.json:
            face.print_json(found.to_dict())
        elif html != STDOUT:
            print_changes(make_console(), found)
        if html is not None:
            from isotrace.report.html import render_behaviours

            write_page(face, render_behaviours(stored_behaviours(store, after, **look), found), html)
    return EXIT_CODES[found.verdict]
