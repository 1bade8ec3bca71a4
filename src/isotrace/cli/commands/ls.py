"""`isotrace ls`"""

from __future__ import annotations

from collections.abc import Callable

import click

from isotrace.cli.face import Face, with_face
from isotrace.cli.options import with_query
from isotrace.contracts import RunQuery
from isotrace.operations import Selection, list_all
from isotrace.record.home import DEFAULT_STORE
from isotrace.report.safe import visible


def _nothing(face: Face) -> str:
    whose = "" if face.tenant == "default" else f" for tenant {face.tenant}"
    return visible(f"nothing recorded yet{whose} in {face.store_url or DEFAULT_STORE}")


@click.command("ls")
@with_query(20)
@with_face
def command(face: Face, select: Callable[[str], Selection]) -> None:
    """List runs, newest first.

    All, or those that fit terms such as task=13 status=failed since=2d. A key that is no field
    (agent, status, skill, …) is one of the metadata; the same key again means: or that one.
    Runs that are still going on come first. With --json: an array of summaries.
    """
    with face.store() as store:
        runs = list_all(store, select(face.tenant))
        anything = bool(runs) or bool(list_all(store, Selection(RunQuery(tenant_id=face.tenant), limit=1)))
    if face.json:
        face.print_json([item.summary.to_dict() for item in runs])
        return
    from isotrace.report.terminal.console import make_console
    from isotrace.report.terminal.tables import print_runs

    if not runs:
        click.echo("no run matches" if anything else _nothing(face), err=True)
        return
    print_runs(make_console(), runs)
