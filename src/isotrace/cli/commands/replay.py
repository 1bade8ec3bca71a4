"""`isotrace replay`"""

from __future__ import annotations

import click

from isotrace.cli.face import Face, with_face
from isotrace.cli.replaying import replay_in_child
from isotrace.operations import replay_environment, show


@click.command("replay")
@click.argument("run")
@click.option(
    "--entry",
    metavar="MODULE:FUNCTION",
    help="The function to run, where the record names none or was imported; or FILE.py:FUNCTION.",
)
@click.option("--mode", default="strict", show_default=True, metavar="MODE", help="strict.")
@with_face
def command(face: Face, run: str, entry: str | None, mode: str) -> int:
    """Run an agent again, offline, its steps served from the record.

    The agent's own code runs in a process of its own that can't reach the network; nothing that
    it calls is executed. Exits with 0 if it took the recorded path, 1 if it diverged, 2 if the
    record is invalid, 125 if it can't be told. What the agent prints goes to stderr. With --json:
    verdict, parity, divergences, receipt.
    """
    with face.store() as store:
        record = show(store, run, tenant_id=face.tenant)
        environment = replay_environment(store, record.run_id, tenant_id=face.tenant)
    result = replay_in_child(
        record.run_id,
        store_url=face.store_url,
        tenant=face.tenant,
        entry=entry,
        mode=mode,
        environment=environment,
    )
    if face.json:
        face.print_json(result.data)
    else:
        from isotrace.cli.render.console import make_console
        from isotrace.cli.render.replayed import print_replay

        print_replay(make_console(), record, result)
    return result.exit_code
