"""`isotrace behaviours`"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import click

from isotrace.cli.face import Face, with_face
from isotrace.cli.options import with_looking, with_query
from isotrace.cli.pages import check_page, html_option, write_page
from isotrace.compare import Rules
from isotrace.models import META_TASK
from isotrace.operations import Selection, stored_behaviours


@click.command("behaviours")
@click.option("--task", metavar="ID", help="Runs of this task: the same as task=ID.")
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
@html_option
@with_query(None)
@with_face
def command(
    face: Face,
    task: str | None,
    by: str | None,
    level: str,
    rules: Rules,
    runs_per_group: int | None,
    html: str | None,
    select: Callable[[str], Selection],
) -> None:
    """Say how deterministic runs are: which paths they took, how often, and where they part.

    Which runs: all, or those that fit terms such as agent=support status=failed since=2d. A key that is no
    field is one of the metadata; the same key again means: or that one.

    Without --by the runs are one group: its numbers, the tree of its paths, and the steps at which its runs
    part. With --by: for each group how many runs, how many distinct paths, the index of the first step (of
    the chosen kinds) at which not all of them agree, and how often two of them do. Levels exact and outcome
    read every run. With --json: groups, and over them identical, agreement and pass_k. With --html: all of
    it drawn, on a page.
    """
    check_page(face, html)
    from isotrace.report.terminal.behaviours import print_behaviours
    from isotrace.report.terminal.console import make_console, progress

    selection = select(face.tenant)
    if task is not None:
        selection = replace(selection, metadata={**selection.metadata, META_TASK: [task]})
    with face.store() as store, progress("reading runs") as bar:
        found = stored_behaviours(
            store, selection, by=by, level=level, rules=rules, runs_per_group=runs_per_group, progress=bar
        )
    if face.json:
        face.print_json(found.to_dict())
    elif html is None:
        print_behaviours(make_console(), found)
    if html is not None:
        from isotrace.report.html import render_behaviours

        write_page(face, render_behaviours(found), html)
