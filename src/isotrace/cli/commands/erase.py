"""`isotrace erase`"""

from __future__ import annotations

import sys

import click

from isotrace.cli.face import Face, with_face
from isotrace.errors import UsageError
from isotrace.operations import Erasure, erase, find_text, step_values


@click.command("erase")
@click.argument("run")
@click.option("--step", "step_index", type=int, metavar="N", help="The values of this step.")
@click.option(
    "--field",
    "fields",
    multiple=True,
    metavar="NAME",
    help="Of the step only this one: params, outcome_data, error.",
)
@click.option(
    "--text", metavar="TEXT", help="Every value that holds this text, in all runs of the same correlation."
)
@click.option("--reason", required=True, metavar="TEXT", help="Why; kept with the run, so name no content.")
@click.option("--dry-run", is_flag=True, help="Only say what would be erased.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_face
def command(
    face: Face,
    run: str,
    step_index: int | None,
    fields: tuple[str, ...],
    text: str | None,
    reason: str,
    dry_run: bool,
    yes: bool,
) -> None:
    """Erase recorded values for good; the run's root stays verifiable.

    The commitments stay, so `isotrace verify` still holds; the values, their salts, and the hashes
    that could confirm a guess are gone. Facts (names, times, statuses) can't be erased.
    """
    if (step_index is None) == (text is None):
        raise UsageError("say what to erase", expected="either --step N or --text TEXT")
    with face.store() as store:
        if text is not None:
            found = find_text(store, run, text, tenant_id=face.tenant)
        else:
            assert step_index is not None
            found = step_values(store, run, step_index, fields, tenant_id=face.tenant)
        if not found.targets:
            raise UsageError("there is no value to erase", hint=_facts_hint(found))
        if not dry_run:
            _confirm(found, yes)
            erase(store, found, tenant_id=face.tenant, reason=reason)
    if face.json:
        face.print_json({"erased": not dry_run, **found.to_dict()})
        return
    verb = "would erase" if dry_run else "erased"
    click.echo(f"{verb} {_values_and_runs(found)}")
    if hint := _facts_hint(found):
        click.echo(f"isotrace: warning: {hint}", err=True)


def _facts_hint(found: Erasure) -> str | None:
    if not found.in_facts:
        return None
    run_id, seq = found.in_facts[0]
    facts = f"the facts of {len(found.in_facts)} event{'' if len(found.in_facts) == 1 else 's'}"
    return f"the text stands in {facts}, which can't be erased: event {seq} of run {run_id}"


def _confirm(found: Erasure, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("erasing can't be undone", hint="say --yes where nobody can be asked")
    click.confirm(f"Erase {_values_and_runs(found)} for good?", abort=True, err=True)


def _values_and_runs(found: Erasure) -> str:
    values, runs = sum(map(len, found.targets.values())), len(found.targets)
    return f"{values} value{'' if values == 1 else 's'} in {runs} run{'' if runs == 1 else 's'}"
