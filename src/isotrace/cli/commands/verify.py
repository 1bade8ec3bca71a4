"""`isotrace verify`"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from isotrace.cli.face import Face, with_face
from isotrace.errors import RunNotFoundError, StoreUnavailableError
from isotrace.operations import Verified, read_proof, verify_file, verify_proof, verify_run

_HELD = {
    "store": "every commitment and the root hold",
    "file": "every commitment and the root that the file states hold",
    "given": "every commitment and the root hold, and it is the root that was given",
    None: "every commitment holds; there was no root to hold them against",
}


@click.command("verify")
@click.argument("target", metavar="RUN|FILE")
@click.option("--root", metavar="HEX", help="The root that was kept elsewhere: it must be this one.")
@with_face
def command(face: Face, target: str, root: str | None) -> int:
    """Check that a run, an exported file or a proof is what was recorded.

    Recomputes every commitment and the root. Exits with 2 and names the place if anything was
    altered. A file may hold exported runs (.jsonl, also compressed) or a proof of `isotrace prove`.

    Only --root, with a root that was kept elsewhere, shows that a record was not replaced as a whole.
    Without it, a proof, and an exported file that states no root, are held against the root that the
    store has of that run. Where it has none, nothing is proven: exit code 125.
    """
    path = Path(target)
    is_file = os.path.isfile(target)  # noqa: PTH113 - Path's raises for a name that is too long
    proof = read_proof(path) if is_file else None
    if proof is not None:
        found = verify_proof(proof, root=root, stored_root=lambda run_id: _stored_root(face, run_id))
        _print_proof(face, found)
        return 0 if found["verified"] else 125
    if is_file:
        checked = verify_file(path, root=root, stored_root=lambda run_id: _stored_root(face, run_id))
    else:
        with face.store() as store:
            checked = [verify_run(store, target, tenant_id=face.tenant, root=root)]
    complete = all(one.against for one in checked)
    if face.json:
        runs = [one.to_dict() for one in checked]
        face.print_json(runs[0] if len(runs) == 1 else {"verified": complete, "runs": runs})
    else:
        for one in checked:
            _print_run(one)
    return 0 if complete else 125


def _stored_root(face: Face, run_id: str) -> str | None:
    try:
        with face.store() as store:
            return store.get(run_id, tenant_id=face.tenant).root_hash
    except (RunNotFoundError, StoreUnavailableError):
        return None


def _print_run(one: Verified) -> None:
    from isotrace.report.safe import visible

    erased = f", {one.erased} erased" if one.erased else ""
    if one.against:
        click.echo(visible(f"verified {one.run_id}"))
        click.echo(f"  root {one.root_hash}")
    else:
        click.echo(visible(f"not verified {one.run_id}"))
        click.echo(f"  no root to hold against: computed {one.root_hash}")
    click.echo(f"  {one.events} events, {one.values} values{erased}: {_HELD[one.against]}")
    if one.taken_over:
        click.echo(visible("  recorded for tenant {}, taken over by {}".format(*one.taken_over)))


_PROOF_HELD = {"given": "it is the root that was given", "store": "it is the run's root in the store"}


def _print_proof(face: Face, found: dict[str, Any]) -> None:
    from isotrace.report.safe import visible

    if face.json:
        face.print_json(found)
        return
    step = f"step {found['skill_name']} of lineage {'.'.join(map(str, found['lineage']))}"
    if found["verified"]:
        click.echo(visible(f"verified: {step} belongs to the root of run {found['run_id']}"))
        click.echo(f"  root {found['root_hash']}: {_PROOF_HELD[found['held_against']]}")
        return
    click.echo(visible(f"not verified: {step} of run {found['run_id']}"))
    click.echo(f"  the proof leads to root {found['root_hash']}, which nothing but the proof itself names")
    click.echo("  anybody can make such a proof: give the run's root, kept elsewhere, with --root")
