"""`isotrace check`"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from isotrace.cli.face import Face, with_face
from isotrace.cli.options import timeout_option, with_field_rules
from isotrace.compare import Verdict
from isotrace.errors import UsageError
from isotrace.operations.checking import Checked, CheckReport, check, record
from isotrace.operations.entries import project_entries
from isotrace.replay import Plan


@click.command("check")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--entry",
    metavar="ENTRY",
    help="The code of all of them: MODULE:FUNCTION, FILE.py:FUNCTION, or 'FILE.py ARGUMENT…'.",
)
@with_field_rules
@click.option(
    "--record",
    "recording",
    is_flag=True,
    help="Run the code live instead, and write what differs as NAME.golden.new.",
)
@click.option(
    "--junit",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write the results as JUnit XML.",
)
@click.option(
    "--github/--no-github",
    default=None,
    help="Also write annotations for GitHub; by itself where GITHUB_ACTIONS is true.",
)
@click.option(
    "--html",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Also write a page for each run that differs: both sides, the first divergence in view.",
)
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="How many at a time; else one a core.")
@timeout_option("End a run that takes longer.")
@click.option("-v", "--verbose", is_flag=True, help="Show what the agents print, on stderr.")
@with_face
def command(
    face: Face,
    paths: tuple[Path, ...],
    *,
    entry: str | None,
    level: str,
    rules: dict[str, tuple[str, ...]],
    recording: bool,
    junit: Path | None,
    github: bool | None,
    html: Path | None,
    jobs: int | None,
    timeout_s: float,
    verbose: bool,
) -> int:
    """Replay golden runs, and exit with what came of them.

    PATH is a golden file, or a folder that is searched whole. Each run is replayed strictly, in a process
    of its own that can't reach the network. Its code is what --entry names, or what the project says of its
    agent: [tool.isotrace.entries] in pyproject.toml, [entries] in isotrace.toml. Exits with 2 if a
    run could not be checked, else with 1 if one diverged, else with 125 if it can't be told of one, else
    with 0.

    With --record the code is run live, and nothing is replayed: calls are made, and effects happen. It exits
    with 1 if a run differs. `isotrace accept` puts the new one in its place. With --json: exit_code,
    checked, match, diverged, not_checked, inconclusive, of_one_recording, goldens.
    """
    started = datetime.now(UTC)
    shown = _Shown(face)
    entries = project_entries(given=entry)
    if recording:
        if level != "decisions" or any(rules.values()):
            raise UsageError(
                "levels and rules belong to a replay", hint="--record keeps what differs in any way"
            )
        report = record(paths, entries, quiet=not verbose, timeout_s=timeout_s, tell=shown.tell)
    else:
        plan = Plan(level=level, rules={name: list(texts) for name, texts in rules.items()})
        report = check(
            paths, entries, plan, quiet=not verbose, jobs=jobs, timeout_s=timeout_s, tell=shown.tell
        )
    shown.end(report, recording)
    if junit is not None:
        _write_junit(junit, report, started)
    if html is not None:
        _write_pages(html, report)
    if github or (github is None and os.environ.get("GITHUB_ACTIONS") == "true"):
        _tell_github(report, to_stderr=face.json)
    return report.exit_code


class _Shown:
    """Results for people, as they come; or all as JSON."""

    def __init__(self, face: Face) -> None:
        self._face = face
        self._console: Any = None
        if not face.json:
            from isotrace.report.terminal.console import make_console

            self._console = make_console()

    def tell(self, one: Checked) -> None:
        if self._console is not None:
            from isotrace.report.terminal.checked import print_checked

            print_checked(self._console, one)

    def end(self, report: CheckReport, recording: bool) -> None:
        if self._console is None:
            self._face.print_json(report.to_dict())
            return
        from isotrace.report.terminal.checked import print_summary

        print_summary(self._console, report, recorded=recording)


def _write_junit(path: Path, report: CheckReport, started: datetime) -> None:
    from isotrace.report.junit import junit_xml

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(junit_xml(report, started=started), "utf-8")
    except OSError as error:
        raise UsageError("the report can't be written", where=str(path), got=error.strerror) from error


def _write_pages(folder: Path, report: CheckReport) -> None:
    from isotrace.report.html import render_diff

    here = Path.cwd()
    for one in report.checked:
        if one.sides is None or one.verdict is Verdict.MATCH:
            continue
        golden = one.path.absolute()
        name = golden.relative_to(here) if golden.is_relative_to(here) else Path(golden.name)
        page = folder / name.with_name(f"{name.name}.html")
        golden_run, other, diff = one.sides
        try:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(render_diff(diff, golden_run, other), "utf-8")
        except OSError as error:
            raise UsageError("the page can't be written", where=str(page), got=error.strerror) from error


def _tell_github(report: CheckReport, *, to_stderr: bool) -> None:
    from isotrace.report.github import summary_markdown, workflow_commands

    for line in workflow_commands(report):
        click.echo(line, err=to_stderr)
    page = os.environ.get("GITHUB_STEP_SUMMARY")
    if page:
        try:
            with Path(page).open("a", encoding="utf-8") as file:
                file.write(summary_markdown(report))
        except OSError as error:
            raise UsageError("the summary can't be written", where=page, got=error.strerror) from error
