"""The command line as a whole: start-up, help, and every way a call can end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import click
import pytest
from click.testing import CliRunner

from isotrace import __version__
from isotrace.cli import main
from isotrace.cli.app import COMMANDS, app
from isotrace.cli.commands import ls as ls_module
from isotrace.errors import QueryError

HEAVY = {"apsw", "asyncio", "msgspec", "orjson", "rich", "sqlite3", "isotrace.operations", "isotrace.models"}


def test_version_is_printed_without_loading_anything_heavy() -> None:
    code = (
        "import sys; from isotrace.cli import main; main(['--version']);"
        "print(*sorted(set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"isotrace {__version__}\n"
    assert HEAVY & set(done.stderr.split()) == set()


def test_help_loads_no_command() -> None:
    code = (
        "import sys; from isotrace.cli import main; main(['--help']);"
        "print(*[name for name in sys.modules if 'isotrace.cli.commands.' in name], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_line_of_a_command_is_the_first_line_of_its_own_help(name: str) -> None:
    command = app.get_command(click.Context(app), name)
    assert command is not None
    assert command.name == name
    assert (command.help or "").splitlines()[0] == COMMANDS[name][1]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_json_store_and_tenant(name: str) -> None:
    command = app.get_command(click.Context(app), name)
    assert command is not None
    options = {option for parameter in command.params for option in parameter.opts}
    assert {"--json", "--store", "--tenant"} <= options


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_argument_says_what_it_is(name: str) -> None:
    command = app.get_command(click.Context(app), name)
    assert command is not None
    silent = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
    assert silent == []


def test_no_arguments_print_the_help_as_it_is(isotrace: Callable[..., Any]) -> None:
    said = isotrace()
    assert said.err == isotrace("--help").out
    assert (said.code, said.out) == (2, "")


def test_unknown_command_names_the_nearest_one(isotrace: Callable[..., Any]) -> None:
    said = isotrace("sho")
    assert said.code == 2
    assert said.err.startswith("isotrace: there is no command 'sho'; nearest: show.")
    assert said.out == ""


def test_error_with_json_is_an_object_on_stdout_and_a_paragraph_on_stderr(
    isotrace: Callable[..., Any],
) -> None:
    said = isotrace("show", "nothing-of-that-name", "--json")
    assert said.code == 2
    assert said.json["error"]["type"] == "RunNotFoundError"
    assert said.json["error"]["message"] in said.err
    assert len(said.err.strip().splitlines()) == 1


def test_wrong_option_is_exit_2_and_shows_the_usage(isotrace: Callable[..., Any]) -> None:
    said = isotrace("ls", "--limit", "none")
    assert said.code == 2
    assert "--limit" in said.err
    assert "Usage: isotrace ls" in said.err


def test_wrong_option_with_json_is_a_json_error(isotrace: Callable[..., Any]) -> None:
    said = isotrace("ls", "--json", "--limit", "0")
    assert said.code == 2
    assert "error" in said.json


def test_defect_is_never_mistaken_for_a_divergence(
    isotrace: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("broken inside")

    monkeypatch.setattr(ls_module, "list_all", broken)
    said = isotrace("ls")
    assert said.code == 2
    assert "defect in isotrace: ZeroDivisionError: broken inside" in said.err


def test_interrupt_is_130(isotrace: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ls_module, "list_all", interrupted)
    assert isotrace("ls").code == 130


def test_reader_that_leaves_is_no_error(store_url: str) -> None:
    code = f"{sys.executable} -m isotrace.cli show @last --json | head -c 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.split("\n")[0].lstrip("{") in ("0", "141")


def test_main_returns_the_exit_code(store_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
    assert main(["diff", "a", "b"]) == 1


def test_runner_of_click_sees_the_same_codes(store_url: str) -> None:
    assert CliRunner().invoke(app, ["diff", "a", "b"]).exit_code == 1
    assert CliRunner().invoke(app, ["diff", "a", "a"]).exit_code == 0


@pytest.mark.parametrize(
    "command", [["show", "aaa"], ["show", "aaa", "--step", "3"], ["diff", "aaa", "bbb"], ["ls"]]
)
def test_terminal_without_unicode_gets_stand_ins(program: Callable[..., Any], command: list[str]) -> None:
    said = program(*command, env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert said.code in (0, 1), said.err
    assert said.out.isascii()
    assert "Traceback" not in said.err


# --- output that fails ----------------------------------------------------------------

ISOTRACE = f"{sys.executable} -m isotrace.cli"


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """Runs a line in which `isotrace` is this one; a pipe's code is that of its first failing part."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line.replace("isotrace", ISOTRACE)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "line",
    [
        "isotrace ls > /dev/full",
        "isotrace ls --json > /dev/full",
        "isotrace show @last > /dev/full",
        "isotrace diff @last @last~1 > /dev/full",
        "isotrace --version > /dev/full",
        "isotrace ls >&-",
        "isotrace ls --json >&-",
    ],
)
def test_output_that_fails_is_named_and_exit_2(store_url: str, line: str) -> None:
    done = shell(line)
    assert done.returncode == 2
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("isotrace: the output can't be written: ")


@pytest.mark.parametrize(
    "line",
    ["isotrace show nothing --json > /dev/full", "isotrace ls 2>&- >&-", "isotrace show x 2> /dev/full"],
)
def test_report_that_fails_is_exit_2_without_a_traceback(store_url: str, line: str) -> None:
    done = shell(line)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "ls",
        "ls --json",
        "show @last",
        "show @last --json",
        "diff @last @last~1",
        "--help",
        "ls --help",
        "doctor",
    ],
)
def test_closed_pipe_is_141_whatever_is_printed(store_url: str, command: str) -> None:
    """The reader is gone before the first line."""
    done = shell(f"{{ sleep 0.05; isotrace {command}; }} | exec true")
    assert (done.returncode, done.stderr) == (141, "")


def test_number_that_json_has_not_is_quoted_in_an_error(
    isotrace: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise QueryError("no such cost", got=float("nan"), expected=float("inf"))

    monkeypatch.setattr(ls_module, "list_all", refuse)
    said = isotrace("ls", "--json")
    assert (said.code, said.json["error"]["got"], said.json["error"]["expected"]) == (2, "nan", "inf")


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "much"])
def test_cost_that_is_no_number_is_a_usage_error(isotrace: Callable[..., Any], number: str) -> None:
    said = isotrace("ls", "--min-cost", number, "--json")
    assert (said.code, said.json["error"]["type"]) == (2, "BadParameter")
