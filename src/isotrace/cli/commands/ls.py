"""`isotrace ls`"""

from __future__ import annotations

from collections.abc import Callable

import click

from isotrace.cli.face import Face, with_face
from isotrace.cli.options import with_selection
from isotrace.operations import Selection, list_all


@click.command("ls")
@with_selection(20)
@with_face
def command(face: Face, select: Callable[[str], Selection]) -> None:
    """List runs, newest first.

    Runs that are still going on come first. With --json: an array of summaries.
    """
    with face.store() as store:
        runs = list_all(store, select(face.tenant))
        url = store.url
    if face.json:
        face.print_json([item.summary.to_dict() for item in runs])
        return
    from isotrace.cli.render.console import make_console
    from isotrace.cli.render.tables import print_runs

    if not runs:
        click.echo(f"no runs in {url}", err=True)
        return
    print_runs(make_console(), runs)
