"""`isotrace prove`"""

from __future__ import annotations

from pathlib import Path

import click

from isotrace.cli.face import Face, with_face
from isotrace.operations import prove
from isotrace.report.safe import json_text


@click.command("prove")
@click.argument("run")
@click.argument("step", type=int)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the proof to a file."
)
@with_face
def command(face: Face, run: str, step: int, output: Path | None) -> None:
    """Prove that a step belongs to a run's root, without the rest of the run.

    The proof is JSON: the step's events with commitments in place of values, and their audit paths
    (RFC 9162). `isotrace verify FILE --root HEX` checks it on any machine, for whoever has kept the
    run's root: without that, a proof proves nothing.
    """
    with face.store() as store:
        proof = prove(store, run, step, tenant_id=face.tenant)
    if output is None:
        face.print_json(proof)
        return
    output.write_text(json_text(proof) + "\n", "utf-8")
    if face.json:
        face.print_json({"file": str(output), "root_hash": proof["root_hash"]})
    else:
        click.echo(f"wrote {output}; root {proof['root_hash']}")
