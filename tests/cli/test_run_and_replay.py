"""`run` and `replay`: real programs, in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

AGENT = r"""
import sys
import isotrace

GREETING = "hello"

@isotrace.skill(effect="read")
def look(word: str) -> str:
    open("effects.txt", "a").write(word + "\n")
    return word.upper()

@isotrace.skill(kind="llm")
def ask(prompt: str) -> str:
    return prompt[::-1]

@isotrace.agent("greeter")
def greet(name: str) -> str:
    seen = look(f"{GREETING} {name}")
    return ask(seen)

if __name__ == "__main__":
    print(greet(sys.argv[1]))
"""

BARE = r"""
import isotrace

@isotrace.skill
def work(number: int) -> int:
    open("effects.txt", "a").write("work\n")
    return number + 1

def main() -> None:
    with isotrace.run("bare"):
        work(work(1))

if __name__ == "__main__":
    main()
    print("done")
"""


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    file = tmp_path / "greeter.py"
    file.write_text(AGENT)
    return file


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    file = tmp_path / "bare.py"
    file.write_text(BARE)
    return file


def effects(tmp_path: Path) -> int:
    file = tmp_path / "effects.txt"
    return len(file.read_text().splitlines()) if file.exists() else 0


# --- run ------------------------------------------------------------------------------


def test_program_is_recorded_and_its_output_left_alone(
    program: Callable[..., Any], isotrace: Callable[..., Any], agent: Path, tmp_path: Path
) -> None:
    said = program("run", "greeter.py", "Ada")
    assert (said.code, said.out) == (0, "ADA OLLEH\n")
    run_id = isotrace("ls", "--agent", "greeter", "--json").json[0]["run_id"]
    assert said.err == f"isotrace: recorded run {run_id}\n"
    record = isotrace("show", "@last", "--json").json
    assert [step["skill_name"] for step in record["steps"]] == ["look", "ask"]
    assert effects(tmp_path) == 1


def test_arguments_of_the_program_are_its_own(program: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "args.py").write_text("import sys; print(sys.argv, __name__, sys.path[0])")
    said = program("run", "args.py", "--json", "-m", "--store", "x")
    assert said.out == f"['args.py', '--json', '-m', '--store', 'x'] __main__ {tmp_path}\n"
    assert "no run was recorded" in said.err


def test_module_is_run_as_python_does(program: Callable[..., Any], agent: Path) -> None:
    said = program("run", "-m", "greeter", "Ada")
    assert (said.code, said.out) == (0, "ADA OLLEH\n")
    assert "recorded run" in said.err


@pytest.mark.parametrize(
    ("body", "code", "error"),
    [
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('no luck')", 1, "no luck"),
        ("raise ValueError('broken')", 1, "ValueError: broken"),
    ],
)
def test_exit_code_is_the_programs(
    program: Callable[..., Any], tmp_path: Path, body: str, code: int, error: str
) -> None:
    (tmp_path / "ends.py").write_text(body)
    said = program("run", "ends.py")
    assert said.code == code
    assert error in said.err
    assert "isotrace/cli" not in said.err


def test_failing_agent_is_recorded_as_failed(
    program: Callable[..., Any], isotrace: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "fails.py").write_text(AGENT.replace("ask(seen)", "ask(seen) + 1"))
    assert program("run", "fails.py", "Ada").code == 1
    assert isotrace("show", "@last", "--json").json["status"] == "failed"


def test_interrupted_program_reports_its_runs_and_its_traceback(
    program: Callable[..., Any], isotrace: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "stopped.py").write_text(
        "import isotrace\n@isotrace.agent('stopped')\ndef work(): raise KeyboardInterrupt\nwork()\n"
    )
    said = program("run", "stopped.py")
    (run,) = isotrace("ls", "--agent", "stopped", "--json").json
    assert said.code == 130
    assert said.err.startswith("Traceback (most recent call last):\n")
    assert f'File "{tmp_path / "stopped.py"}", line 4, in <module>' in said.err
    assert said.err.endswith(f"\nKeyboardInterrupt\nisotrace: recorded run {run['run_id']}\n")
    assert "  error KeyboardInterrupt\n" in isotrace("show", "@last").out
    assert program("run", "--json", "stopped.py").json["exit_code"] == 130


def test_json_keeps_stdout_for_itself(
    program: Callable[..., Any], isotrace: Callable[..., Any], agent: Path
) -> None:
    said = program("run", "--json", "greeter.py", "Ada")
    assert said.json["exit_code"] == 0
    assert said.json["runs"] == [isotrace("show", "@last", "--json").json["run_id"]]
    assert "ADA OLLEH" in said.err


LOOSE = """\
import sys
import isotrace

@isotrace.skill
def work(x):
    open("effects.txt", "a").write("work\\n")
    return x

@isotrace.agent("inner")
def inner(word):
    return work(word) * 2

work(1)
print(inner("ab"), inner("cd"))
work(len(sys.argv))
sys.exit(3)
"""


def test_program_with_steps_of_its_own_is_a_run_named_by_it(
    program: Callable[..., Any], isotrace: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "loose.py").write_text(LOOSE)
    said = program("run", "--json", "loose.py", "one", "two")
    assert (said.code, said.json["exit_code"]) == (3, 3)
    runs = {run_id: isotrace("show", run_id, "--json").json for run_id in said.json["runs"]}
    assert sorted(run["agent_id"] for run in runs.values()) == ["inner", "inner", "loose"]
    whole = isotrace("show", said.json["runs"][-1], "--json").json
    assert [(step["skill_name"], step["context"]["kind"]) for step in whole["steps"]] == [
        ("work", "tool"),
        ("inner", "agent"),
        ("inner", "agent"),
        ("work", "tool"),
    ]
    assert whole["status"] == "failed"
    assert whole["metadata"]["exit_code"] == 3
    assert whole["context"]["input"] == {"arguments": ["one", "two"]}
    children = [step["context"]["child_run_id"] for step in whole["steps"][1:3]]
    assert set(children) == set(runs) - {whole["run_id"]}


def test_program_with_agents_inside_is_replayed_with_them_served_whole(
    program: Callable[..., Any], isotrace: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "loose.py").write_text(LOOSE)
    run_id = program("run", "--json", "loose.py").json["runs"][-1]
    assert effects(tmp_path) == 4
    said = isotrace("replay", run_id, "--json")
    assert (said.code, said.json["verdict"], said.json["receipt"]["served"]) == (0, "MATCH", 4)
    assert effects(tmp_path) == 4
    (tmp_path / "loose.py").write_text(LOOSE.replace("len(sys.argv)", "7"))
    said = isotrace("replay", run_id, "--json")
    first = said.json["divergences"][0]
    assert (said.code, first["code"], first["index"]) == (1, "PARAMS_CHANGED", 3)


def test_program_of_agents_alone_leaves_no_run_of_its_own(
    program: Callable[..., Any], isotrace: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "pure.py").write_text(LOOSE.replace("\nwork(1)", "").replace("\nwork(len(sys.argv))", ""))
    runs = program("run", "--json", "pure.py").json["runs"]
    assert len(runs) == 2
    for run_id in runs:
        shown = isotrace("show", run_id, "--json").json
        assert (shown["agent_id"], shown["correlation_id"]) == ("inner", run_id)
        assert shown["context"]["parent"] is None
    assert list(tmp_path.rglob("*.journal")) == []


def test_killed_program_leaves_its_steps(
    program: Callable[..., Any], isotrace: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "dies.py").write_text(
        "import os, isotrace\n@isotrace.skill\ndef die(x): os.kill(os.getpid(), 9)\ndie(5)\n"
    )
    program("run", "dies.py")
    (step,) = isotrace("show", "@last", "--json").json["steps"]
    assert (step["params"], step["outcome_category"]) == ({"x": 5}, "INDETERMINATE")


def test_whole_program_as_a_run_of_a_named_agent(
    program: Callable[..., Any], isotrace: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "loose.py").write_text(LOOSE)
    run_id = program("run", "--json", "--agent", "worker", "--", "loose.py").json["runs"][-1]
    whole = isotrace("show", run_id, "--json").json
    assert (whole["agent_id"], len(whole["steps"])) == ("worker", 4)
    inner = isotrace("show", whole["steps"][1]["context"]["child_run_id"], "--json").json
    assert inner["context"]["parent"]["run_id"] == run_id
    assert isotrace("replay", run_id).code == 0


def test_installed_command_is_run_by_its_name(
    program: Callable[..., Any], isotrace: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = tmp_path / "bin" / "worker"
    command.parent.mkdir()
    command.write_text("#!/usr/bin/env python3\n" + LOOSE)
    command.chmod(0o755)
    (tmp_path / "bin" / "other").write_text("#!/bin/sh\ntrue\n")
    (tmp_path / "bin" / "other").chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:/usr/bin:/bin")
    run_id = program("run", "--json", "worker", "x").json["runs"][-1]
    assert isotrace("show", run_id, "--json").json["agent_id"] == "worker"
    assert isotrace("replay", run_id).code == 0
    said = program("run", "other")
    assert said.code == 2
    assert "the command is no Python script" in said.err


def test_script_that_is_not_there_is_named(program: Callable[..., Any]) -> None:
    said = program("run", "nothing.py")
    assert said.code == 2
    assert "there is no such script" in said.err


def test_program_that_can_not_begin_is_told_as_python_tells_it(
    program: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "wrong.py").write_text("1 +\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("import absent\n")
    assert "No module named nomod\n" in program("run", "-m", "nomod").err
    for arguments in (["wrong.py"], ["-m", "package.inner"], ["-m", "package"]):
        said = program("run", *arguments)
        assert said.code == 1
        assert "Error: " in said.err
        assert "isotrace/" not in said.err
        assert "runpy" not in said.err


def test_store_and_tenant_options_reach_the_recorder(
    program: Callable[..., Any], isotrace: Callable[..., Any], agent: Path, tmp_path: Path
) -> None:
    options = ["--store", str(tmp_path / "else.db"), "--tenant", "acme"]
    assert program("run", *options, "greeter.py", "Ada").code == 0
    assert len(isotrace("ls", *options, "--json").json) == 1
    assert isotrace("ls", "--agent", "greeter", "--json").json == []


def test_run_that_did_not_reach_the_store_is_reported_as_such(
    program: Callable[..., Any], agent: Path, tmp_path: Path
) -> None:
    """A damaged store: the run waits in its journal."""
    broken = tmp_path / "broken" / "traces.db"
    broken.parent.mkdir()
    broken.write_bytes(b"this is no database" * 100)
    said = program("run", "--store", str(broken), "greeter.py", "Ada")
    assert (said.code, said.out) == (0, "ADA OLLEH\n")
    begin, run_id = said.err.splitlines()[-1].rsplit(" ", 1)
    assert begin == "isotrace: recorded, not in the store yet: run"
    assert f"run {run_id} is not in the store" in said.err
    assert "no run was recorded" not in said.err
    answer = program("run", "--store", str(broken), "--json", "greeter.py", "Ada").json
    assert (answer["exit_code"], answer["runs"], len(answer["not_stored"])) == (0, [], 1)


# --- replay ---------------------------------------------------------------------------


def test_recorded_run_is_replayed_without_effects(
    program: Callable[..., Any], agent: Path, tmp_path: Path
) -> None:
    program("run", "greeter.py", "Ada")
    said = program("replay", "@last")
    assert said.code == 0
    assert said.out.startswith("MATCH\n")
    assert "2 served · 0 executed · 0 missed · 0 blocked" in said.out
    assert effects(tmp_path) == 1
    found = program("replay", "@last", "--json").json
    assert set(found) >= {"verdict", "parity", "divergences", "receipt"}
    assert (found["verdict"], found["parity"]["is_parity"], found["divergences"]) == ("MATCH", True, [])


def test_changed_code_diverges_at_step_and_pointer(
    program: Callable[..., Any], agent: Path, tmp_path: Path
) -> None:
    program("run", "greeter.py", "Ada")
    agent.write_text(agent.read_text().replace('GREETING = "hello"', 'GREETING = "howdy"'))
    said = program("replay", "@last", "--json")
    assert said.code == 1
    (first,) = said.json["divergences"]
    assert (first["code"], first["index"], first["pointers"]) == ("PARAMS_CHANGED", 0, ["/word"])
    text = program("replay", "@last", env={"COLUMNS": "80"}).out
    assert text.startswith("DIVERGED  PARAMS_CHANGED at step 0")
    assert '- "hello Ada"' in text
    assert '+ "howdy Ada"' in text
    assert effects(tmp_path) == 1


def test_what_the_agent_prints_goes_to_stderr(program: Callable[..., Any], agent: Path) -> None:
    agent.write_text(
        agent.read_text().replace("    return ask(seen)", "    print('noise')\n    return ask(seen)")
    )
    program("run", "greeter.py", "Ada")
    said = program("replay", "@last", "--json")
    assert said.json["verdict"] == "MATCH"
    assert "noise" in said.err


def test_agent_that_takes_its_process_down_is_an_error(program: Callable[..., Any], agent: Path) -> None:
    program("run", "greeter.py", "Ada")
    agent.write_text(agent.read_text().replace("    return ask(seen)", "    import os; os._exit(7)"))
    said = program("replay", "@last", "--json")
    assert said.code == 2
    assert (said.json["error"]["type"], said.json["error"]["got"]) == ("ReplayError", "exit code 7")
    assert "os._exit" in said.json["error"]["hint"]


def test_program_with_a_bare_run_is_started_again(
    program: Callable[..., Any], bare: Path, tmp_path: Path
) -> None:
    assert program("run", "bare.py").code == 0
    assert effects(tmp_path) == 2
    said = program("replay", "@last", "--json")
    assert (said.code, said.json["verdict"]) == (0, "MATCH")
    assert effects(tmp_path) == 2


def test_entry_names_the_function(program: Callable[..., Any], agent: Path, tmp_path: Path) -> None:
    program("run", "greeter.py", "Ada")
    said = program("replay", "@last", "--entry", "greeter.py:greet", "--json")
    assert said.json["verdict"] == "MATCH"
    assert program("replay", "@last", "--entry", "greeter.py:nothing").code == 2


def test_imported_run_does_not_start_what_it_names(
    program: Callable[..., Any], isotrace: Callable[..., Any], agent: Path, tmp_path: Path
) -> None:
    program("run", "greeter.py", "Ada")
    isotrace("export", "@last", "-o", "run.jsonl")
    other = ["--store", str(tmp_path / "other.db")]
    assert isotrace("import", "jsonl", "run.jsonl", *other).code == 0
    agent.write_text("open('started.txt', 'w')\n" + agent.read_text())
    said = program("replay", "@last", *other, "--json")
    assert (said.code, said.json["error"]["type"]) == (2, "NoEntryPointError")
    assert not (tmp_path / "started.txt").exists()
    allowed = program("replay", "@last", *other, "--entry", "greeter.py:greet", "--json")
    assert allowed.json["verdict"] == "MATCH"


def test_run_without_entry_point_says_what_to_do(program: Callable[..., Any]) -> None:
    said = program("replay", "aaa", "--json")
    assert (said.code, said.json["error"]["type"]) == (2, "NoEntryPointError")
    assert said.json["error"]["hint"]


def test_replayed_agent_cannot_reach_out(program: Callable[..., Any], agent: Path) -> None:
    program("run", "greeter.py", "Ada")
    reach = "    import socket; socket.create_connection(('127.0.0.1', 9), 1)\n    return ask(seen)"
    agent.write_text(agent.read_text().replace("    return ask(seen)", reach))
    said = program("replay", "@last", "--json")
    assert said.code == 1
    assert said.json["divergences"][0]["code"] == "UNCONTROLLED_SOURCE"
    assert said.json["receipt"]["blocked"] == 1
    assert said.json["receipt"]["guard"] in ("netns", "patched")


def test_what_the_agent_itself_raised_is_a_note(program: Callable[..., Any], agent: Path) -> None:
    program("run", "greeter.py", "Ada")
    broken = agent.read_text().replace("    return ask(seen)", "    raise RuntimeError('no more')")
    agent.write_text(broken)
    line = broken.splitlines().index("    raise RuntimeError('no more')") + 1
    note = f"the agent raised RuntimeError: no more (greeter.py:{line})"
    for options in ([], ["--entry", "greeter.py:greet"]):
        said = program("replay", "@last", "--json", *options)
        assert [one["code"] for one in said.json["divergences"]] == ["EARLY_END"]
        assert (said.code, said.json["notes"]) == (1, [note])
    assert f"note: {note}" in program("replay", "@last").out


def test_error_that_is_on_record_is_no_note(program: Callable[..., Any], agent: Path) -> None:
    agent.write_text(agent.read_text().replace("    return ask(seen)", "    raise RuntimeError('no more')"))
    program("run", "greeter.py", "Ada")
    answer = program("replay", "@last", "--json").json
    assert (answer["verdict"], answer["notes"]) == ("MATCH", [])


def test_unknown_mode_lists_the_modes(program: Callable[..., Any], agent: Path) -> None:
    program("run", "greeter.py", "Ada")
    said = program("replay", "@last", "--mode", "lenient")
    assert said.code == 2
    assert "strict" in said.err


def test_whole_program_is_replayed_inside_its_one_run(program: Callable[..., Any], tmp_path: Path) -> None:
    """The run is opened around the program again, and the program gets the same arguments."""
    (tmp_path / "whole.py").write_text(
        "import isotrace, sys\n"
        "@isotrace.skill\n"
        "def pay(x):\n"
        "    open('effects.txt', 'a').write('paid\\n'); return x\n"
        "pay(int(sys.argv[1]))\n"
    )
    assert program("run", "--agent", "whole", "whole.py", "7").code == 0
    said = program("replay", "@last", "--json")
    assert (said.code, said.json["verdict"], said.json["receipt"]["served"]) == (0, "MATCH", 1)
    assert effects(tmp_path) == 1


def test_agent_that_a_script_calls_as_it_loads_is_replayed_with_the_script(
    program: Callable[..., Any], tmp_path: Path
) -> None:
    script = tmp_path / "loads.py"
    script.write_text(AGENT.replace('if __name__ == "__main__":\n    ', ""))
    assert program("run", "loads.py", "Ada").code == 0
    said = program("replay", "@last", "--json")
    assert (said.code, said.json["verdict"], said.json["receipt"]["served"]) == (0, "MATCH", 2)
    assert effects(tmp_path) == 1
    script.write_text(script.read_text().replace("sys.argv[1]", "'Bob'"))
    assert program("replay", "@last", "--json").json["divergences"][0]["code"] == "INPUT_CHANGED"


@pytest.mark.parametrize("options", [[], ["--agent", "whole"]])
def test_script_that_is_gone_is_named(
    program: Callable[..., Any], agent: Path, tmp_path: Path, options: list[str]
) -> None:
    if options:
        agent.write_text("import isotrace\nisotrace.skill(lambda: 1)()\n")
    assert program("run", *options, "greeter.py", "Ada").code == 0
    agent.unlink()
    said = program("replay", "@last")
    assert said.code == 2
    assert said.err.startswith("isotrace: the script of the recorded entry point is gone (run ")
    assert f"; got {tmp_path / 'greeter.py'}" in said.err
    assert "Traceback" not in said.err
    assert len(said.err.splitlines()) == 1


def test_function_of_a_module_is_replayed_where_the_script_that_called_it_is_gone(
    program: Callable[..., Any], agent: Path, tmp_path: Path
) -> None:
    (tmp_path / "start.py").write_text("import greeter\ngreeter.greet('Ada')\n")
    assert program("run", "start.py").code == 0
    (tmp_path / "start.py").unlink()
    assert program("replay", "@last").out.startswith("MATCH")


def test_later_run_of_a_program_is_replayed_by_its_function(
    program: Callable[..., Any], agent: Path, tmp_path: Path
) -> None:
    agent.write_text(agent.read_text() + "    greet('Bob')\n")
    assert program("run", "greeter.py", "Ada").code == 0
    for name in ("@last", "@last~1"):
        assert program("replay", name, "--json").json["verdict"] == "MATCH"
    assert effects(tmp_path) == 2


# --- live runs ------------------------------------------------------------------------


def test_live_run_is_listed_and_shown(
    program: Callable[..., Any], isotrace: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "live.py").write_text(
        "import isotrace, json, subprocess, sys\n"
        "@isotrace.skill\n"
        "def work(x): return x\n"
        "with isotrace.run('live'):\n"
        "    work(1)\n"
        "    for command in (['ls'], ['show', isotrace.current_run().run_id]):\n"
        "        print(subprocess.run([sys.executable, '-m', 'isotrace.cli', *command, '--json'],\n"
        "              capture_output=True, text=True, check=True).stdout.strip())\n"
    )
    said = program("run", "live.py")
    listed, shown = (json.loads(line) for line in said.out.splitlines())
    # The processes that look are steps themselves.
    assert (listed[0]["agent_id"], listed[0]["status"], listed[0]["total_steps"]) == ("live", "running", 2)
    assert (shown["status"], len(shown["steps"]), shown["root_hash"]) == ("running", 3, None)
    assert isotrace("show", "@last", "--json").json["status"] == "completed"


def test_killed_run_is_adopted_by_the_next_command(
    program: Callable[..., Any], isotrace: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "dies.py").write_text(
        "import isotrace, os, signal\n"
        "@isotrace.skill\n"
        "def work(x): return x\n"
        "with isotrace.run('dies'):\n"
        "    work(1)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert program("run", "dies.py").code == -9
    (run,) = isotrace("ls", "--agent", "dies", "--json").json
    assert (run["status"], run["total_steps"]) == ("aborted", 1)


# --- modes, and forks -----------------------------------------------------------------------

TRIP = """\
import isotrace

@isotrace.skill(kind="llm", effect="read")
def chat(model, system):
    return "rome" if model == "large" else system

@isotrace.skill(effect="read")
def price(city):
    return int(open("price.txt").read())

@isotrace.skill
def book(city, cents):
    open("effects.txt", "a").write("book\\n")
    return f"{city} for {cents}"

@isotrace.agent("trip")
def trip():
    city = chat("small", "oslo")
    cents = price(city)
    return "too dear" if cents > 20 else book(city, cents)

print(trip())
"""


@pytest.fixture
def trip(program: Callable[..., Any], tmp_path: Path) -> str:
    (tmp_path / "trip.py").write_text(TRIP)
    (tmp_path / "price.txt").write_text("10")
    run_id: str = program("run", "--json", "trip.py").json["runs"][0]
    (tmp_path / "effects.txt").unlink()
    return run_id


def test_mode_tools_live_executes_what_reads_and_says_so(
    isotrace: Callable[..., Any], trip: str, tmp_path: Path
) -> None:
    said = isotrace("replay", trip, "--mode", "tools-live")
    assert said.code == 0
    assert "2 served · 1 executed · 0 missed · 0 blocked" in said.out
    (tmp_path / "price.txt").write_text("12")
    said = isotrace("replay", trip, "--mode", "tools-live", "--json")
    assert (said.code, said.json["divergences"][0]["code"]) == (1, "PARAMS_CHANGED")
    assert (said.json["cause"]["why"], said.json["cause"]["step_index"]) == ("TOOL", 1)
    assert said.json["receipt"]["executed"] == 1
    assert effects(tmp_path) == 0


def test_mode_model_live_asks_another_model_or_with_another_prompt(
    isotrace: Callable[..., Any], trip: str, tmp_path: Path
) -> None:
    (tmp_path / "prompt.txt").write_text("bonn")
    said = isotrace("replay", trip, "--mode", "model-live", "--prompt-file", "prompt.txt", "--json")
    first = said.json["divergences"][0]
    assert (said.code, first["code"], first["actual"]["params"]) == (1, "EXTRA_STEP", {"city": "bonn"})
    assert said.json["cause"]["why"] == "PROMPT"
    said = isotrace("replay", trip, "--mode", "model-live", "--model", "large", "--keep", "--json")
    assert (said.code, said.json["cause"]["why"]) == (1, "MODEL")
    kept = isotrace("show", said.json["kept_run_id"], "--json").json
    assert kept["steps"][0]["params"] == {"model": "large", "system": "oslo"}
    assert kept["metadata"]["replay_of"] == trip
    assert effects(tmp_path) == 0


def test_mode_live_needs_to_be_told_what_it_may_execute(
    isotrace: Callable[..., Any], trip: str, tmp_path: Path
) -> None:
    said = isotrace("replay", trip, "--mode", "live")
    assert said.code == 2
    assert "allow-list" in said.err
    said = isotrace("replay", trip, "--mode", "live", "--allow", "chat", "--allow", "price", "--json")
    assert (said.code, said.json["divergences"][0]["code"]) == (1, "EFFECT_BLOCKED")
    assert effects(tmp_path) == 0
    assert isotrace("replay", trip, "--mode", "live", "--allow", "*").code == 0
    assert effects(tmp_path) == 1


def test_fork_is_a_new_run_with_its_parent(isotrace: Callable[..., Any], trip: str, tmp_path: Path) -> None:
    arguments = ["fork", trip, "--at", "1", "--set", "/outcome_data/value=99", "--mode", "strict"]
    said = isotrace(*arguments)
    assert said.code == 0, said.err
    assert said.out.startswith("FORKED  run ")
    assert "TOOL: step 1 (price) was asked the same, and answered otherwise" in said.out
    forked = isotrace("show", "@last", "--json").json
    assert forked["context"]["parent"]["run_id"] == trip
    assert (forked["metadata"]["fork_of"], forked["metadata"]["fork_at"]) == (trip, 1)
    assert [step["skill_name"] for step in forked["steps"]] == ["chat", "price"]
    assert isotrace("replay", forked["run_id"]).code == 0
    assert isotrace("diff", trip, forked["run_id"]).code == 1
    assert isotrace("fork", trip, "--at", "2", "--set", "nothing").code == 2
    assert isotrace("fork", trip, "--at", "7", "--allow", "*").code == 2
    assert effects(tmp_path) == 0


def test_fork_keeps_what_the_program_had_read_of_its_surroundings(
    program: Callable[..., Any],
    isotrace: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "reads.py").write_text(
        "import datetime, os, uuid, isotrace\n"
        "@isotrace.skill(effect='read')\n"
        "def look(text): return text\n"
        "began = uuid.uuid4()\n"
        "with isotrace.run('reader'):\n"
        "    for _ in range(3):\n"
        "        now, fresh = datetime.datetime.now(), uuid.uuid4()\n"
        "        look(f\"{began} {now} {fresh} {os.environ['WHO']} {set('abcdef')}\")\n"
    )
    monkeypatch.setenv("WHO", "ada")
    run_id = program("run", "--json", "reads.py").json["runs"][0]
    monkeypatch.delenv("WHO")
    said = isotrace("fork", run_id, "--at", "1", "--allow", "*", "--json")
    assert said.code == 0, said.err
    before, after = (
        isotrace("show", one, "--json").json["steps"] for one in (run_id, said.json["kept_run_id"])
    )
    assert before[0]["params"] == after[0]["params"]
    assert before[2]["params"] != after[2]["params"]
    assert [step["params"]["text"].split()[4:] for step in after] == [
        before[0]["params"]["text"].split()[4:]
    ] * 3
    assert isotrace("replay", said.json["kept_run_id"]).code == 0


def test_exit_code_of_a_program_is_compared(
    program: Callable[..., Any], isotrace: Callable[..., Any], tmp_path: Path
) -> None:
    source = "import sys, isotrace\n@isotrace.skill\ndef work(): return 1\nwork()\nsys.exit(3)\n"
    (tmp_path / "ends.py").write_text(source)
    run_id = program("run", "--json", "ends.py").json["runs"][0]
    assert isotrace("replay", run_id).code == 0
    (tmp_path / "ends.py").write_text(source.replace("exit(3)", "exit(4)"))
    said = isotrace("replay", run_id, "--json")
    first = said.json["divergences"][0]
    assert (said.code, first["code"], first["pointers"]) == (1, "ERROR_CHANGED", ["/error/code"])


def test_module_of_an_entry_is_imported_under_guard_in_every_mode(
    isotrace: Callable[..., Any], trip: str, tmp_path: Path
) -> None:
    (tmp_path / "sly.py").write_text(
        "import os\nos.system('echo out >> reached.txt')\n"
        "import trip_body\ndef main(): return trip_body.trip()\n"
    )
    (tmp_path / "trip_body.py").write_text(TRIP.replace("print(trip())", ""))
    for arguments in (["replay", trip, "--mode", "tools-live"], ["fork", trip, "--at", "0", "--allow", "*"]):
        said = isotrace(*arguments, "--entry", "sly.py:main")
        assert said.code != 0
    assert not (tmp_path / "reached.txt").exists()


def test_run_by_hand_beside_steps_of_the_program_is_a_reason(
    program: Callable[..., Any], isotrace: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "both.py").write_text(
        "import isotrace\n@isotrace.skill\ndef work(x): return x\nwork(1)\n"
        "with isotrace.run('by-hand'): work(2)\n"
    )
    runs = program("run", "--json", "both.py").json["runs"]
    shown = {run["agent_id"]: run for run in (isotrace("show", one, "--json").json for one in runs)}
    assert shown["by-hand"]["metadata"]["replayability"] == "replayable"
    (reason,) = shown["both"]["metadata"]["replayability"]
    assert "opened by hand" in reason


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_replay_whose_command_is_killed_does_not_go_on(program: Callable[..., Any], tmp_path: Path) -> None:
    source = "import isotrace\n@isotrace.skill\ndef work(): return 1\nwork()\n"
    (tmp_path / "hangs.py").write_text(source)
    run_id = program("run", "--json", "hangs.py").json["runs"][0]
    endless = "import os\nopen('pid.tmp', 'w').write(str(os.getpid()))\nos.rename('pid.tmp', 'pid')\n"
    (tmp_path / "hangs.py").write_text(f"{source}{endless}while True: pass\n")
    with subprocess.Popen([sys.executable, "-m", "isotrace.cli", "replay", run_id], cwd=tmp_path) as command:
        while not (tmp_path / "pid").exists():
            assert command.poll() is None
            time.sleep(0.02)
        command.kill()
    child = Path("/proc", (tmp_path / "pid").read_text(), "cmdline")
    deadline = time.monotonic() + 20
    while child.exists() and child.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not (child.exists() and child.read_bytes())
