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
    Where a file states no root, the store's is taken; without any, it exits with 125.
    """
    path = Path(target)
    is_file = os.path.isfile(target)  # noqa: PTH113 - Path's raises for a name that is too long
    proof = read_proof(path) if is_file else None
    if proof is not None:
        _print_proof(face, verify_proof(proof, root=root), given=root is not None)
        return 0
    if is_file:
        checked = verify_file(path, root=root, stored_root=lambda run_id: _stored_root(face, run_id))
    else:
        with face.store() as store:
            checked = [verify_run(store, target, tenant_id=face.tenant, root=root)]
    complete = all(one.against for one in checked)
    if face.json:
        found = [one.to_dict() for one in checked]
        face.print_json(found[0] if len(found) == 1 else {"verified": complete, "runs": found})
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
    from isotrace.cli.safe import visible

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


def _print_proof(face: Face, found: dict[str, Any], *, given: bool) -> None:
    from isotrace.cli.safe import visible

    if face.json:
        face.print_json({**found, "held_against": "given" if given else "file"})
        return
    place = ".".join(map(str, found["lineage"]))
    step = f"step {found['skill_name']} of lineage {place}"
    click.echo(visible(f"verified: {step} belongs to the root of run {found['run_id']}"))
    advice = "it is the root that was given" if given else "compare it with one that was kept elsewhere"
    click.echo(f"  root {found['root_hash']}: {advice}")
