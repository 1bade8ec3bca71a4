"""`isotrace rebuild`"""

from __future__ import annotations

import click

from isotrace.cli.face import Face, with_face


@click.command("rebuild")
@with_face
def command(face: Face) -> None:
    """Recompute from the ledgers what the store searches by.

    Summaries, step rows and paths are derived; the ledgers are left as they are.
    """
    with face.store() as store:
        count = store.rebuild()
    if face.json:
        face.print_json({"runs": count})
    else:
        click.echo(f"rebuilt {count:,} run{'' if count == 1 else 's'}")
