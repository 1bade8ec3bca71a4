"""`isotrace run`"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import TracebackType

import click

import isotrace
from isotrace.cli.face import Face, with_face
from isotrace.cli.safe import visible
from isotrace.errors import UsageError
from isotrace.operations import RecordedHere, exit_code, program_entry, record_program, recorded_here


@click.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-m", "--module", is_flag=True, help="PROGRAM is a module, as for python -m.")
@click.option(
    "--agent",
    "agent_id",
    metavar="ID",
    help="Make the whole program one run of this agent, and what is marked in it nested runs.",
)
@click.argument("program", metavar="PROGRAM")
@click.argument("arguments", metavar="[ARGUMENT]…", nargs=-1, type=click.UNPROCESSED)
@with_face
def command(
    face: Face, program: str, arguments: tuple[str, ...], *, module: bool, agent_id: str | None
) -> int:
    """Run a Python program and record its agents and skills.

    PROGRAM is a script, an installed command that is a Python script, or with -m a module. What it asks
    of models, tools and servers are the steps of one run, named by the program; each call of a
    function that is marked @isotrace.agent is a run of its own. The program sees itself as
    `python PROGRAM` would start it, and isotrace exits with its exit code. What was recorded is
    reported on stderr. With --json: exit_code, runs, not_stored, and the program's own output
    goes to stderr.
    """
    entry = program_entry(program, arguments, module=module)
    if face.store_url:
        os.environ["ISOTRACE_STORE"] = face.store_url
    os.environ["ISOTRACE_TENANT"] = face.tenant
    process = os.getpid()
    with _stdout_kept_clean() if face.json else nullcontext(), recorded_here() as recorded:
        code = _execute(entry, agent_id)
        if os.getpid() != process:
            return code  # a child that the program forked: the run and its report are the parent's
        isotrace.flush()
    if face.json:
        face.print_json({"exit_code": code, "runs": recorded.stored, "not_stored": recorded.waiting})
    else:
        _report(recorded)
    return code


def _execute(entry: dict[str, object], agent_id: str | None) -> int:
    """The exit code that `python` would give."""
    try:
        record_program(entry, agent_id=agent_id)
    except SystemExit as leaving:
        if leaving.code is not None and not isinstance(leaving.code, int):
            click.echo(leaving.code, err=True)
        return exit_code(leaving)
    except UsageError:
        raise
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the program's own failure, told as python tells it
        traceback.print_exception(error.with_traceback(_own_frames(error.__traceback__)))
        return exit_code(error)
    return 0


_STARTERS = {
    __name__,
    record_program.__module__,
    "runpy",
    "importlib._bootstrap",
    "pkgutil",
    "importlib.util",
}


def _own_frames(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the program's first frame on, without isotrace's and runpy's; None where it
    failed before it began: there is no such module, or its syntax is wrong."""
    frame = trace
    while frame is not None and frame.tb_frame.f_globals.get("__name__") in _STARTERS:
        frame = frame.tb_next
    return frame


@contextmanager
def _stdout_kept_clean() -> Iterator[None]:
    """Sends what the program prints, also from C and child processes, to stderr."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _report(recorded: RecordedHere) -> None:
    if not recorded.begun:
        click.echo(
            "isotrace: no run was recorded: the program called no agent, no skill, and nothing that is"
            " captured; --agent ID records it all the same",
            err=True,
        )
    for run_id in recorded.stored:
        click.echo(visible(f"isotrace: recorded run {run_id}"), err=True)
    for run_id in recorded.waiting:
        click.echo(visible(f"isotrace: recorded, not in the store yet: run {run_id}"), err=True)
