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
from isotrace.cli.options import policy_option
from isotrace.operations import (
    RecordedHere,
    exit_code,
    program_entry,
    record_program,
    recorded_here,
    use_redactors,
)
from isotrace.record.policies import POLICY_VARIABLE
from isotrace.report.safe import visible


@click.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-m", "--module", is_flag=True, help="PROGRAM is a module, as for python -m.")
@click.option(
    "--agent",
    "agent_id",
    metavar="ID",
    help="Make the whole program one run of this agent, and what is marked in it nested runs.",
)
@click.option(
    "--redact",
    "redact",
    metavar="NAME",
    multiple=True,
    help="Take out what this redactor finds before anything is written: email, secrets, …; repeatable.",
)
@policy_option("Rules in YAML or TOML: what a run violates is flagged, or stopped before its effect.")
@click.argument("program", metavar="PROGRAM")
@click.argument("arguments", metavar="[ARGUMENT]…", nargs=-1, type=click.UNPROCESSED)
@with_face
def command(
    face: Face,
    program: str,
    arguments: tuple[str, ...],
    *,
    module: bool,
    agent_id: str | None,
    redact: tuple[str, ...],
    policy: str | None,
) -> int:
    """Run a Python program and record its agents and skills.

    PROGRAM is a script, a folder or an archive with a __main__.py, an installed command that is a Python
    script, or with -m a module. What it asks
    of models, tools and servers are the steps of one run, named by the program; each call of a
    function that is marked @isotrace.agent is a run of its own. The program sees itself as
    `python PROGRAM` would start it, and isotrace exits with its exit code. What was recorded is
    reported on stderr. --policy holds for every run of the program and of the processes that it starts, as
    ISOTRACE_POLICY does. With --json: exit_code, runs, not_stored, and the program's own output
    goes to stderr.
    """
    entry = program_entry(program, arguments, module=module)
    if face.store_url:
        os.environ["ISOTRACE_STORE"] = face.store_url
    os.environ["ISOTRACE_TENANT"] = face.tenant
    if redact:
        use_redactors(redact)
    if policy is not None:
        os.environ[POLICY_VARIABLE] = policy
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
    told: list[tuple[BaseException, int]] = []

    def tell(error: BaseException) -> None:
        told.append((error, _tell(error)))

    try:
        record_program(entry, agent_id=agent_id, tell=tell)
    except BaseException as error:
        for one, code in told:
            if one is error:
                return code
        raise
    return 0


def _tell(error: BaseException) -> int:
    """Says what ended the program, as `python` says it, and gives its exit code."""
    if isinstance(error, SystemExit):
        if error.code is not None and not isinstance(error.code, int):
            _print_error(str(error.code))
        return exit_code(error)
    trace = _own_frames(error.__traceback__)
    error.with_traceback(trace)
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    try:
        sys.excepthook(type(error), error, trace)
    except SystemExit as leaving:
        return _tell(leaving)
    except BaseException as failed:  # noqa: BLE001 - the hook is the program's own
        failed.with_traceback(_own_frames(failed.__traceback__))
        failed.__context__ = None
        _print_error(
            "Error in sys.excepthook:", *_lines(failed), "", "Original exception was:", *_lines(error)
        )
    return exit_code(error)


def _lines(error: BaseException) -> list[str]:
    return "".join(traceback.format_exception(error)).splitlines()


def _print_error(*lines: str) -> None:
    """Prints to stderr, where the program has left one open."""
    if sys.stderr is not None and not getattr(sys.stderr, "closed", False):
        sys.stderr.write("\n".join((*lines, "")))
        sys.stderr.flush()


_STARTERS = {
    __name__,
    record_program.__module__,
    "isotrace.operations.executing",
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
    _flush_stdout()
    given, kept = sys.stdout, os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        _flush_stdout()
        os.dup2(kept, 1)
        os.close(kept)
        if given.closed:
            sys.stdout = open(1, "w", encoding=given.encoding, closefd=False)  # noqa: SIM115 - the process's


def _flush_stdout() -> None:
    """The program may have closed it."""
    if sys.stdout is not None and not getattr(sys.stdout, "closed", False):
        sys.stdout.flush()


def _report(recorded: RecordedHere) -> None:
    if not recorded.begun:
        _print_error(
            "isotrace: no run was recorded: the program called no agent, no skill, and nothing that is"
            " captured; --agent ID records it all the same"
        )
    for run_id in recorded.stored:
        _print_error(visible(f"isotrace: recorded run {run_id}"))
    for run_id in recorded.waiting:
        _print_error(visible(f"isotrace: recorded, not in the store yet: run {run_id}"))
