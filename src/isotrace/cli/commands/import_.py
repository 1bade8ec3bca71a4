"""`isotrace import`"""

from __future__ import annotations

from pathlib import Path

import click

from isotrace.cli.face import Face, with_face
from isotrace.cli.safe import visible
from isotrace.operations import ImportReport, import_files

_LISTED = 20


@click.command("import")
@click.argument("format_name", metavar="FORMAT")
@click.argument(
    "paths", metavar="FILE…", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)
)
@click.option(
    "--as-tenant", is_flag=True, help="Take runs over that an exported file names another tenant for."
)
@with_face
def command(face: Face, format_name: str, paths: tuple[Path, ...], as_tenant: bool) -> int:
    """Import runs from files of other tools.

    FORMAT is claude-code, inspect, jsonl, langfuse, mini-swe-agent, openai-agents, swe-agent,
    tau-bench, tau2, temporal, vcr, or auto. A FILE may be compressed (gzip, zstd) or a folder, which
    is searched whole. Runs that are there already are skipped; a bad run is reported and does not
    lose the others, and the command then exits with 2.
    """
    from isotrace.cli.render.console import progress

    with face.store(create=True) as store, progress("importing") as bar:
        report = import_files(
            store, format_name, paths, tenant_id=face.tenant, as_tenant=as_tenant, progress=bar
        )
    if face.json:
        face.print_json(report.to_dict())
    else:
        _print_report(report)
    return 2 if report.errors else 0


def _print_report(report: ImportReport) -> None:
    line = (
        f"imported {_count(report.runs, 'run')}, {_count(report.steps, 'step')}"
        f" from {_count(report.files, 'file')}"
    )
    if report.skipped:
        line += f"; {report.skipped:,} {'was' if report.skipped == 1 else 'were'} there already"
    if report.ignored:
        line += f"; {_count(len(report.ignored), 'file')} of no known format"
    click.echo(line)
    for error in report.errors[:_LISTED]:
        click.echo(visible(f"isotrace: {error}"), err=True)
    if len(report.errors) > _LISTED:
        click.echo(f"isotrace: … and {_count(len(report.errors) - _LISTED, 'more error')}: --json", err=True)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
