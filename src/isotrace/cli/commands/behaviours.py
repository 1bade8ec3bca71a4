"""`isotrace behaviours`"""

from __future__ import annotations

from collections.abc import Callable

import click

from isotrace.cli.face import Face, with_face
from isotrace.cli.options import kind_option, with_query
from isotrace.operations import Selection, stored_behaviours


@click.command("behaviours")
@click.option(
    "--by",
    required=True,
    metavar="KEY",
    help="Group by this metadata key (task, model, …), or by agent, correlation or status.",
)
@kind_option
@click.option(
    "--runs",
    "runs_per_group",
    type=click.IntRange(min=2),
    metavar="N",
    help="Only groups of exactly so many runs.",
)
@with_query(None)
@with_face
def command(
    face: Face,
    by: str,
    kinds: tuple[str, ...],
    runs_per_group: int | None,
    select: Callable[[str], Selection],
) -> None:
    """Group runs and say which groups always took the same path.

    Which runs: all, or those that fit terms such as agent=support status=failed since=2d. A key that is no
    field is one of the metadata; the same key again means: or that one.

    For each group: how many runs, how many distinct paths among them, and the index of the first
    step (of the chosen kinds) at which not all of them agree. With --json: groups, identical, and
    how paths and first divergences spread.
    """
    from isotrace.report.terminal.console import make_console, progress
    from isotrace.report.terminal.tables import print_behaviours

    with face.store() as store, progress("reading runs") as bar:
        found = stored_behaviours(
            store, select(face.tenant), by=by, kinds=kinds, runs_per_group=runs_per_group, progress=bar
        )
    if face.json:
        face.print_json(found.to_dict())
    else:
        print_behaviours(make_console(), found)
