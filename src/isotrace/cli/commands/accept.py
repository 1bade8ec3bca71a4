"""`isotrace accept`"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from isotrace.cli.face import Face, with_face
from isotrace.errors import UsageError
from isotrace.operations.checking import Waiting, accept, reject, waiting


@click.command("accept")
@click.argument("paths", metavar="[PATH]…", nargs=-1, type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Ask nothing.")
@click.option("--reject", "rejecting", is_flag=True, help="Remove the new recordings instead.")
@with_face
def command(face: Face, paths: tuple[Path, ...], *, yes: bool, rejecting: bool) -> int:
    """Put new recordings in the place of golden runs, one by one.

    PATH is a golden file, its NAME.golden.new, or a folder; the current folder unless given. Each new
    recording is shown beside the golden run, and you are asked: y takes it, n leaves it waiting, q
    leaves this one and all after it. Exits with 1 if something still waits. With --json, which
    needs --yes: goldens, each with its action.
    """
    found = list(waiting(paths or (Path(),)))
    if found and not yes and (face.json or not _on_a_terminal()):
        raise UsageError(
            f"{len(found)} new recording{'s' if len(found) > 1 else ''} wait, and there is nobody to ask:"
            " nothing was changed",
            got=", ".join(str(one.candidate) for one in found),
            hint="--yes takes all of them, --reject --yes removes them",
        )
    console = None if face.json else _console()
    for number, one in enumerate(found, 1):
        if console is not None:
            from isotrace.report.terminal.checked import print_waiting

            print_waiting(console, one, number, len(found))
        answer = "y" if yes else _asked(rejecting)
        if answer == "q":
            break
        if answer == "y":
            (reject if rejecting else accept)(one)
    if console is None:
        _print_json(face, found)
    else:
        _print_done(console, found)
    return 1 if any(one.action == "left" for one in found) else 0


def _on_a_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def _console() -> Any:
    from isotrace.report.terminal.console import make_console

    return make_console()


def _asked(rejecting: bool) -> str:
    question = "Remove the new recording?" if rejecting else "Accept it?"
    try:
        return str(click.prompt(f"{question} y/n/q", type=click.Choice(["y", "n", "q"]), show_choices=False))
    except click.Abort:
        return "q"


def _print_json(face: Face, found: list[Waiting]) -> None:
    face.print_json(
        {
            "goldens": [
                {
                    "golden": str(one.path),
                    "candidate": str(one.candidate),
                    "action": one.action,
                    "diff": None if one.diff is None else one.diff.to_dict(),
                }
                for one in found
            ]
        }
    )


def _print_done(console: Any, found: list[Waiting]) -> None:
    from isotrace.report.terminal.checked import print_accepted

    if not found:
        click.echo("nothing waits to be accepted")
        return
    console.print()
    print_accepted(console, found)
