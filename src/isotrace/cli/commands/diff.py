"""`isotrace diff`"""

from __future__ import annotations

import click

from isotrace.cli.face import Face, with_face
from isotrace.cli.options import with_comparing
from isotrace.cli.pages import STDOUT, check_page, html_option, write_page
from isotrace.compare import Rules, diff_traces
from isotrace.operations import show


@click.command("diff")
@click.argument("original", metavar="RUN")
@click.argument("replay", metavar="RUN")
@click.option("--all", "every_row", is_flag=True, help="Show every row, the equal ones too.")
@html_option
@with_comparing
@with_face
def command(
    face: Face,
    original: str,
    replay: str,
    *,
    level: str,
    rules: Rules,
    every_row: bool,
    html: str | None,
) -> int:
    """Compare two runs, and show where they parted.

    Exits with 0 if they match, 1 if they diverged, 2 if a record is invalid, 125 if it can't be
    told. With --json: verdict, parity, divergences, alignment. With --html: a page of both, side by side.
    """
    check_page(face, html)
    with face.store() as store:
        first = show(store, original, tenant_id=face.tenant)
        second = show(store, replay, tenant_id=face.tenant)
    found = diff_traces(first, second, level=level, rules=rules)
    if face.json:
        face.print_json(found.to_dict())
    elif html != STDOUT:
        from isotrace.report.terminal.console import make_console
        from isotrace.report.terminal.sides import print_diff, print_verdict

        if html is None:
            print_diff(make_console(), first, second, found, every_row=every_row)
        else:
            print_verdict(make_console(), found.verdict.value, found.first)
    if html is not None:
        from isotrace.report.html import render_diff

        write_page(face, render_diff(found, first, second), html)
    return found.verdict.exit_code
