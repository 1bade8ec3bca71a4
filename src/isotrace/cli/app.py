"""The command group: which commands there are, loaded when called for, and how a call ends."""

from __future__ import annotations

import difflib
import errno
import functools
import importlib
import io
import math
import os
import shutil
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from isotrace import __version__
from isotrace.errors import IsotraceError, IsotraceWarning, UsageError

EXIT_MATCH, EXIT_DIVERGED, EXIT_ERROR, EXIT_INCONCLUSIVE = 0, 1, 2, 125
EXIT_INTERRUPTED, EXIT_PIPE_CLOSED = 130, 141

# name: (module below isotrace.cli.commands, one line of help). The lines stand here so that
# `isotrace --help` imports no command; a test holds them against the commands' own.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("demo", "Record a small agent, part two runs, replay one offline."),
    "run": ("run", "Run a Python program and record its agents and skills."),
    "ls": ("ls", "List runs, newest first."),
    "show": ("show", "Show one run as a timeline, or one of its steps in full."),
    "diff": ("diff", "Compare two runs, and show where they parted."),
    "behaviours": (
        "behaviours",
        "Say how deterministic runs are: which paths they took, how often, and where they part.",
    ),
    "backtest": ("backtest", "Hold rules against recorded runs: what they would have stopped."),
    "fork": ("fork", "Run an agent again up to a step, and let it go its own way from there."),
    "replay": ("replay", "Run an agent again, offline, its steps served from the record."),
    "check": ("check", "Replay golden runs, and exit with what came of them."),
    "accept": ("accept", "Put new recordings in the place of golden runs, one by one."),
    "bisect": ("bisect", "Find the commit at which an agent began to take another path."),
    "verify": ("verify", "Check that a run, an exported file or a proof is what was recorded."),
    "prove": ("prove", "Prove that a step belongs to a run's root, without the rest of the run."),
    "import": ("import_", "Import runs from files of other tools."),
    "export": ("export", "Write runs to a file that can be imported and verified."),
    "erase": ("erase", "Erase recorded values for good; the run's root stays verifiable."),
    "rebuild": ("rebuild", "Recompute from the ledgers what the store searches by."),
    "doctor": ("doctor", "Check this machine, the store, and journals that wait."),
}

# click before 8.2 has no such error: it prints the help and leaves.
_NO_ARGUMENTS: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())


def _error_data(error: BaseException) -> dict[str, object]:
    data: dict[str, object] = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, IsotraceError):
        for name in ("what", "where", "pointer", "run_id", "step", "nearest", "hint"):
            data[name] = getattr(error, name)
        for name in ("expected", "got"):
            value = getattr(error, name)
            data[name] = value if _is_scalar(value) else repr(value)
    return data


def _is_scalar(value: object) -> bool:
    """Whether JSON has this value: NaN and infinity it has not."""
    return (
        value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    )


def _wants_json(argv: list[str]) -> bool:
    """Whether `--json` is isotrace's own: behind `run` options end where the program begins."""
    if argv[:1] == ["run"]:
        argv = argv[: next((i for i, arg in enumerate(argv) if i and not arg.startswith("-")), len(argv))]
    return "--json" in argv[: argv.index("--") if "--" in argv else len(argv)]


def _report(error: BaseException, argv: list[str], message: str) -> int:
    # Late: neither is needed by a call that goes well.
    from isotrace.report.safe import json_text, visible  # noqa: PLC0415 - start-up time

    text = visible(f"isotrace: {message}")
    if sys.stderr is not None and sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        text = textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
    click.echo(text, err=True)
    if _wants_json(argv):
        click.echo(json_text({"error": _error_data(error)}, indent=False))
    return EXIT_ERROR


def _silence(*streams: Any) -> None:
    """Writes nothing more to streams that take nothing more, not at interpreter shutdown either."""
    for stream in streams:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except (AttributeError, OSError, ValueError):
            pass  # closed, or no file: there is nothing left to flush


class _OutputError(Exception):
    """stdout takes nothing: it is closed, or its disk is full."""


class _ReaderLeft(Exception):
    """The pipe's reader has gone (`| head`)."""


@contextmanager
def _readers_watched() -> Iterator[None]:
    """click and rich leave with code 1 where the reader has gone, which would say "diverged": click is
    not told, and what rich raises is known by its cause."""
    try:
        yield
    except BrokenPipeError as error:
        raise _ReaderLeft from error
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):
            raise _ReaderLeft from error
        raise


_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.ECONNRESET)


def _failed_output(error: OSError, argv: list[str]) -> int | None:
    """The exit code where it was the output that failed: such an error names no file."""
    if error.filename is not None or error.errno not in _WRITING:
        return None
    _silence(sys.stdout)
    why = error.strerror or str(error)
    return _report(_OutputError(why), argv, f"the output can't be written: {why}")


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    from isotrace.report.safe import visible  # noqa: PLC0415 - start-up time

    label = "warning" if issubclass(category, IsotraceWarning) else category.__name__
    click.echo(visible(f"isotrace: {label}: {message}"), err=True)


def _survive_encoding(argv: list[str]) -> None:
    """Recorded text may hold what the terminal's encoding does not have: it is shown escaped.

    Not for `run`: the streams are the program's then.
    """
    for stream in (sys.stdout, sys.stderr):
        if argv[:1] != ["run"] and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _run(call: Callable[[], Any], argv: list[str]) -> int:
    """Calls, and turns every way it can end into an exit code, also where the report of a failure fails."""
    try:
        return _reported(call, argv)
    except BrokenPipeError:
        _silence(sys.stdout, sys.stderr)
        return EXIT_PIPE_CLOSED
    except OSError:
        _silence(sys.stdout, sys.stderr)
        return EXIT_ERROR


def _called(call: Callable[[], Any], argv: list[str]) -> Any:
    # A program may run without a stdout, an answer has to go somewhere.
    if sys.stdout is None and (argv[:1] != ["run"] or _wants_json(argv)):
        raise OSError(errno.EBADF, "stdout is closed")
    _survive_encoding(argv)
    with warnings.catch_warnings():
        warnings.simplefilter("always", IsotraceWarning)
        warnings.showwarning = _show_warning
        code = call()
        # A program that was run may have closed it.
        if sys.stdout is not None and not getattr(sys.stdout, "closed", False):
            sys.stdout.flush()
    return code


def _reported(call: Callable[[], Any], argv: list[str]) -> int:
    """On failure there is one paragraph on stderr (and with `--json` an error object on stdout)."""
    try:
        code = _called(call, argv)
    except IsotraceError as error:
        return _report(error, argv, str(error))
    except _NO_ARGUMENTS as error:
        # The message is the whole help, in lines of its own.
        error.show()
        return EXIT_ERROR
    except click.UsageError as error:
        code = _report(error, argv, error.format_message())
        if error.ctx:
            click.echo(f"{error.ctx.get_usage()}\nMore: {error.ctx.command_path} --help", err=True)
        return code
    except click.ClickException as error:
        return _report(error, argv, error.format_message())
    except (click.Abort, KeyboardInterrupt):
        click.echo("isotrace: interrupted", err=True)
        return EXIT_INTERRUPTED
    except (BrokenPipeError, _ReaderLeft):
        _silence(sys.stdout)
        return EXIT_PIPE_CLOSED
    except Exception as error:  # noqa: BLE001 - exit code 1 would say "diverged": a defect must not
        if isinstance(error, OSError) and (failed := _failed_output(error, argv)) is not None:
            return failed
        traceback.print_exc()
        return _report(error, argv, f"defect in isotrace: {type(error).__name__}: {error}")
    return code if isinstance(code, int) else EXIT_MATCH


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def main(
        self, args: Sequence[str] | None = None, *_: Any, standalone_mode: bool = True, **__: Any
    ) -> Any:
        """Runs one command line and leaves with its exit code (or returns it, if not `standalone_mode`)."""
        argv = list(sys.argv[1:] if args is None else args)
        code = _run(functools.partial(super().main, argv, "isotrace", standalone_mode=False), argv)
        if standalone_mode:
            sys.exit(code)
        return code

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _readers_watched():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _readers_watched():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"isotrace.cli.commands.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            raise UsageError(
                f"there is no command {name!r}",
                nearest=near[0] if near else None,
                hint=f"commands: {', '.join(COMMANDS)}",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"isotrace {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="RUN is a run id, a unique prefix of one, @last, or @last~N for the Nth before it. "
    "Exit codes: 0 done or match, 1 diverged, 2 invalid record or bad usage, 125 inconclusive.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def app() -> None:
    """Record what an AI agent did, run it again offline, and see where two runs parted."""
