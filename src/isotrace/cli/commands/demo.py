"""`isotrace demo`"""

from __future__ import annotations

from pathlib import Path

import click

from isotrace.cli.face import Face, with_face


@click.command("demo")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("isotrace-demo"),
    show_default=True,
    help="Where the agent, its database and its runs go.",
)
@with_face
def command(face: Face, folder: Path) -> None:
    """Record a small agent, part two runs, replay one offline.

    Every command that it shows is run as it stands; the agent stays in the folder to be tried out.
    With --json: what each of them gave.
    """
    from isotrace.cli.demo.tour import Tour

    store = face.store_url or str((folder / ".isotrace/traces.db").absolute())
    found = Tour(folder.absolute(), store, face.tenant, quiet=face.json).take()
    if face.json:
        face.print_json(found)
