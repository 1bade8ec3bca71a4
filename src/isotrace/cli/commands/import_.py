"""`isotrace import`"""

from __future__ import annotations

from pathlib import Path

import click

from isotrace.cli.face import Face, with_face
from isotrace.errors import PluginError, UsageError
from isotrace.operations import ImportReport, import_files
from isotrace.operations.exchange import AUTO
from isotrace.registry import importer
from isotrace.report.safe import visible

_LISTED = 20


@click.command("import")
@click.argument("format_name", metavar="[FORMAT]", required=False)
@click.argument("paths", metavar="FILE…", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--as-tenant", is_flag=True, help="Take runs over that an exported file names another tenant for."
)
@with_face
def command(face: Face, format_name: str | None, paths: tuple[Path, ...], as_tenant: bool) -> int:
    """Import runs from files of other tools.

    FORMAT is claude-code, golden, inspect, jsonl, langfuse, mini-swe-agent, openai-agents, swe-agent,
    tau-bench, tau2, temporal, vcr, or auto, as where it is left out. A FILE may be compressed (gzip,
    zstd) or a folder, which is searched whole. Runs that are there already are skipped; a bad run is
    reported and does not lose the others, and the command then exits with 2.
    """
    from isotrace.report.terminal.console import progress

    chosen, paths = _told(format_name, paths)
    with face.store(create=True) as store, progress("importing") as bar:
        report = import_files(store, chosen, paths, tenant_id=face.tenant, as_tenant=as_tenant, progress=bar)
    if face.json:
        face.print_json(report.to_dict())
    else:
        _print_report(report)
    return 2 if report.errors else 0


def _told(first: str | None, paths: tuple[Path, ...]) -> tuple[str, tuple[Path, ...]]:
    """The format and the files. What stands first is a file if there is one and it names no format.

    Raises `UsageError` where no file is named.
    """
    named = first is not None and (first == AUTO or _is_format(first))
    if first is not None and not named and Path(first).exists():
        return AUTO, (Path(first), *paths)
    if first is not None and paths:
        return first, paths
    what = "say which files to import" if first is None or named else "there is no such file, nor a format"
    raise UsageError(what, expected="[FORMAT] FILE…", got=first)


def _is_format(name: str) -> bool:
    try:
        importer(name)
    except PluginError as error:
        # Names to choose from are listed where this is none of them; it may also be one that fails to load.
        return error.expected is None
    return True


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
