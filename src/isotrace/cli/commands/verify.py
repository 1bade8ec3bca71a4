"""`isotrace verify`"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from isotrace.cli.face import Face, with_face
from isotrace.operations import Verified, read_proof, verify_file, verify_proof, verify_run


@click.command("verify")
@click.argument("target", metavar="RUN|FILE")
@with_face
def command(face: Face, target: str) -> None:
    """Check that a run, an exported file or a proof is what was recorded.

    Recomputes every commitment and the root. Exits with 2 and names the place if anything was
    altered. A file may hold exported runs (.jsonl, also compressed) or a proof of `isotrace prove`.
    """
    path = Path(target)
    proof = read_proof(path) if path.is_file() else None
    if proof is not None:
        _print_proof(face, verify_proof(proof))
        return
    if path.is_file():
        checked = verify_file(path)
    else:
        with face.store() as store:
            checked = [verify_run(store, target, tenant_id=face.tenant)]
    if face.json:
        found = [one.to_dict() for one in checked]
        face.print_json(found[0] if len(found) == 1 else {"verified": True, "runs": found})
        return
    for one in checked:
        _print_run(one)


def _print_run(one: Verified) -> None:
    from isotrace.cli.safe import visible

    erased = f", {one.erased} erased" if one.erased else ""
    click.echo(visible(f"verified {one.run_id}"))
    click.echo(f"  root {one.root_hash}")
    click.echo(f"  {one.events} events, {one.values} values{erased}: every commitment and the root hold")
    if one.taken_over:
        click.echo(visible("  recorded for tenant {}, taken over by {}".format(*one.taken_over)))


def _print_proof(face: Face, found: dict[str, Any]) -> None:
    from isotrace.cli.safe import visible

    if face.json:
        face.print_json(found)
        return
    place = ".".join(map(str, found["lineage"]))
    step = f"step {found['skill_name']} of lineage {place}"
    click.echo(visible(f"verified: {step} belongs to the root of run {found['run_id']}"))
    click.echo(visible(f"  root {found['root_hash']}: compare it with one that was kept elsewhere"))
