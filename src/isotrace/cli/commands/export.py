"""`isotrace export`"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from isotrace.cli.face import Face, with_face
from isotrace.cli.options import with_selection
from isotrace.errors import UsageError
from isotrace.operations import Selection, export_runs, export_to_file, list_runs


@click.command("export")
@click.argument("runs", metavar="RUN…", nargs=-1)
@click.option(
    "--format",
    "format_name",
    default="jsonl",
    show_default=True,
    metavar="FORMAT",
    help="jsonl, golden, vcr.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write; else stdout.",
)
@click.option("--all", "every_run", is_flag=True, help="All runs that the other options select.")
@with_selection(None)
@with_face
def command(
    face: Face,
    runs: tuple[str, ...],
    format_name: str,
    output: Path | None,
    every_run: bool,
    select: Callable[[str], Selection],
) -> None:
    """Write runs to a file that can be imported and verified.

    The file holds each run's whole ledger, so its root can be recomputed from it. It is written
    whole or not at all. As golden, it holds one run as a text that people
    review; as vcr, the HTTP calls of one run: a cassette that vcrpy loads.
    """
    if every_run == bool(runs):
        raise UsageError("say which runs to export", expected="RUN…, or --all with options that select")
    if output is None and face.json:
        raise UsageError("--json reports on a written file", hint="add -o FILE")
    with face.store() as store:
        names = list(runs)
        if every_run:
            names = [item.summary.run_id for item in list_runs(store, select(face.tenant))]
        if output is None:
            export_runs(store, names, format_name, sys.stdout.buffer, tenant_id=face.tenant)
            return
        count = export_to_file(store, names, format_name, output, tenant_id=face.tenant)
    if face.json:
        face.print_json({"runs": count, "file": str(output), "bytes": output.stat().st_size})
    else:
        click.echo(f"exported {count:,} run{'' if count == 1 else 's'} to {output}")
