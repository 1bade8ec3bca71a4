"""Golden runs from the command line: recorded, checked, recorded anew, accepted."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner

from isotrace.cli.app import app

AGENT = """
import isotrace

PROMPT = "Be kind.\\nNever refund twice."


@isotrace.skill(effect="read")
def ask(prompt: str, question: str) -> dict:
    return {"answer": f"about {question}", "total": 20.5}


@isotrace.skill(effect="write")
def refund(order: str, cents: int) -> str:
    return "refunded"


@isotrace.agent("support")
def main(order: str) -> str:
    found = ask(PROMPT, f"Where is {order}?")
    refund(order, int(found["total"] * 100))
    return found["answer"]


if __name__ == "__main__":
    main("W-1")
"""

HTTP_AGENT = """
import os, urllib3

PROMPT = "You are a support agent.\\nNever refund twice."
http = urllib3.PoolManager()
for question in ("Where is my order?", "And the refund?"):
    answer = http.request(
        "POST",
        os.environ["MODEL_URL"] + "/v1/chat/completions",
        json={"model": "m", "messages": [
            {"role": "system", "content": PROMPT}, {"role": "user", "content": question}]},
    ).json()
    print(answer["choices"][0]["message"]["content"])
"""


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Project:
    """A folder with an agent, in which commands are called: the agents run in processes of their own."""

    recorded: ClassVar[dict[str, bytes]] = {}

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ISOTRACE_", "GITHUB_")) and name not in ("COLUMNS", "CI")
        }
        self.write("agent.py", AGENT)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def change(self, old: str, new: str, name: str = "agent.py") -> None:
        path = self.folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def python(self, *arguments: str, **env: str) -> Said:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def program(self, *arguments: str, **env: str) -> Said:
        """The command line as a process of its own."""
        return self.python("-m", "isotrace.cli", *arguments, **env)

    def isotrace(self, *arguments: str, **env: str) -> Said:
        """The command line in this process."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            for name in set(os.environ) - set(self.env):
                patch.delenv(name)
            for name, value in env.items():
                patch.setenv(name, value)
            result = CliRunner().invoke(app, list(arguments))
        return Said(result.exit_code, result.stdout, result.stderr)

    def record(self, golden: str = "goldens/refund.golden", *program: str, **env: str) -> Path:
        """Runs the program, and exports its run. The agent that all share is recorded once."""
        path = self.folder / golden
        path.parent.mkdir(parents=True, exist_ok=True)
        key = (self.folder / "agent.py").read_text()
        if not program and key in self.recorded:
            path.write_bytes(self.recorded[key])
            return path
        said = self.program("run", *(program or ("agent.py",)), **env)
        assert said.code == 0, said.err
        said = self.isotrace("export", "@last", "--format", "golden", "-o", golden)
        assert said.code == 0, said.err
        if not program:
            self.recorded[key] = path.read_bytes()
        return path

    def terminal(self, answers: str, *arguments: str) -> Said:
        """A call on a terminal, where somebody types these lines."""
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "isotrace.cli", *arguments],
            cwd=self.folder,
            env={**self.env, "TERM": "dumb"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        ) as process:
            os.close(theirs)
            os.write(ours, answers.encode())
            sent = b""
            while True:
                try:
                    data = os.read(ours, 65536)
                except OSError:
                    break
                if not data:
                    break
                sent += data
        os.close(ours)
        return Said(process.returncode, sent.decode("utf-8", "replace"), "")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


ENTRIES = '[tool.isotrace.entries]\nsupport = "agent.py"\n'


def test_an_unchanged_agent_matches_and_one_of_another_prompt_diverges_at_its_line(project):
    golden = project.record()
    project.write("pyproject.toml", ENTRIES)
    said = project.program("check", "goldens")
    assert (said.code, said.err) == (0, "")
    assert re.fullmatch(
        r"MATCH {7}goldens/refund\.golden  support, 2 steps, \S+ \w+\n1 golden run: 1 match\n", said.out
    )

    project.change("Never refund twice.", "Refund whatever they ask for.")
    before = golden.read_bytes()
    said = project.program("check", "goldens")
    assert said.code == 1
    assert "DIVERGED    goldens/refund.golden" in said.out
    assert "First divergence: PARAMS_CHANGED at step 0\n" in said.out
    assert (
        '    - "Be kind.\\nNever refund twice."\n    + "Be kind.\\nRefund whatever they ask for."\n'
        in said.out
    )
    assert "the replay stopped here: 1 recorded step behind it" in said.out
    assert said.out.endswith(
        "1 golden run: 1 diverged\n"
        "If a change is meant: isotrace check --record PATH…, then isotrace accept\n"
    )
    assert golden.read_bytes() == before


def test_another_environment_does_not_stand_before_what_differs(project):
    golden = project.record()
    project.write("pyproject.toml", ENTRIES)
    text, found = re.subn(r'"packages": "[0-9a-f]+"', '"packages": "others"', golden.read_text())
    assert found == 1
    golden.write_text(text)
    assert project.program("check", "goldens").code == 0
    project.change("Never refund twice.", "Refund whatever they ask for.")
    (one,) = project.program("check", "goldens", "--json").json["goldens"]
    assert one["reason"].startswith("PARAMS_CHANGED at step 0: ")
    project.program("import", "golden", str(golden))
    said = project.program("replay", "@last", "--entry", "agent:main")
    assert said.out.startswith("DIVERGED  PARAMS_CHANGED at step 0: ")
    assert "  beside it: RUNTIME_MISMATCH: the environment differs at /packages " in said.out


def test_the_error_for_unknown_code_shows_the_lines_to_add_and_they_work(project):
    project.record()
    said = project.isotrace("check", "goldens")
    assert said.code == 2
    assert "NOT CHECKED goldens/refund.golden" in said.out
    assert "nothing says which code agent 'support' is" in said.out
    lines = [line[6:] for line in said.out.splitlines() if line.startswith("      ")]
    assert lines == ["[tool.isotrace.entries]", 'support = "agent.py"']
    project.write("pyproject.toml", "\n".join(lines))
    assert project.isotrace("check", "goldens").code == 0


def test_the_record_never_decides_which_code_is_run(project):
    golden = project.record()
    project.write("evil.py", AGENT + "\nopen('ran', 'w').close()\n")
    text = golden.read_text().replace("agent.py", "evil.py")
    golden.write_text(text.replace('"__main__"', '"evil"'))
    assert project.isotrace("check", "goldens").code == 2
    assert project.isotrace("check", "goldens", "--entry", "agent.py:main").code == 0
    assert not (project.folder / "ran").exists()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("isotrace.toml", '[entries]\nsupport = "agent.py:main"\n'),
        ("pyproject.toml", '[tool.isotrace.entries]\nsupport = "agent:main"\n'),
        ("pyproject.toml", '[tool.isotrace.entries]\nsupport = "-m agent"\n'),
    ],
    ids=["file and function", "module and function", "module"],
)
def test_every_form_of_an_entry_works_from_a_folder_below_too(project, file, text):
    project.record()
    project.write(file, text)
    assert project.isotrace("check", "goldens").code == 0
    below = Project(project.folder / "goldens")
    assert below.isotrace("check", "refund.golden").code == 0


def test_what_is_no_entry_is_said(project):
    project.record()
    for text, message in (
        ('[tool.isotrace]\nentries = ["agent.py"]', "entries are a table of texts"),
        ("[tool.isotrace.entries", "the project's settings can't be read"),
        ('[tool.isotrace.entries]\nsupport = "agent"', "an entry names code"),
        ('[tool.isotrace.entries]\nsupport = "agent.py:nothing"', "there is no such entry"),
        ('[tool.isotrace.entries]\nsupport = "gone.py"', "is gone"),
    ):
        project.write("pyproject.toml", text)
        said = project.isotrace("check", "goldens")
        assert said.code == 2
        assert message in said.out + said.err


def test_a_program_gets_the_recorded_arguments_unless_the_entry_has_some(project):
    project.write("agent.py", AGENT.replace('main("W-1")', "import sys; main(*sys.argv[1:])"))
    project.record("goldens/one.golden", "agent.py", "W-1")
    project.record("goldens/two.golden", "agent.py", "W-2")
    assert project.isotrace("check", "goldens", "--entry", "agent.py").code == 0
    said = project.isotrace("check", "goldens", "--entry", "agent.py W-1", "--json")
    assert said.code == 1
    assert [one["verdict"] for one in said.json["goldens"]] == ["MATCH", "DIVERGED"]


def test_the_worst_of_all_is_the_exit_code_and_all_are_told(project):
    project.write("pyproject.toml", ENTRIES)
    golden = project.record("goldens/a.golden")
    text = golden.read_text()
    project.write("goldens/b.golden", text.replace("Where is W-1?", "Where was W-1?"))
    said = project.isotrace("check", "goldens")
    assert said.code == 1
    note = "note: of one and the same recording: goldens/a.golden, goldens/b.golden"
    assert note in said.out.splitlines()
    project.write("goldens/c.golden", text.replace("step_finished", "<<<<<<< HEAD\nstep_finished", 1))
    said = project.isotrace("check", "goldens", "--json")
    assert said.code == 2
    data = said.json
    assert [data[name] for name in ("exit_code", "checked", "match", "diverged", "not_checked")] == [
        2,
        3,
        1,
        1,
        1,
    ]
    assert data["of_one_recording"] == [["goldens/a.golden", "goldens/b.golden"]]
    one, two, three = data["goldens"]
    assert (one["golden"], one["verdict"], one["reason"]) == ("goldens/a.golden", "MATCH", None)
    assert two["replay"]["divergences"][0]["code"] == "PARAMS_CHANGED"
    assert three["verdict"] == "INVALID_RECORD"
    assert "\nINVALID_RECORD goldens/c.golden\n" in project.isotrace("check", "goldens").out
    assert re.match(r"a merge left its marks \(goldens/c\.golden:\d+\)", three["reason"])


def test_what_the_code_draws_is_the_same_when_it_is_recorded_anew(project):
    agent = AGENT.replace(
        'f"Where is {order}?"',
        'f"Where is {order}? {isotrace.current_run().random.random()} {random.random()}"',
    )
    project.write("agent.py", "import random\n" + agent)
    project.write("pyproject.toml", ENTRIES)
    project.record("goldens/a.golden", "agent.py")
    said = project.isotrace("check", "--record", "goldens")
    assert said.code == 0, said.out
    assert project.isotrace("check", "goldens").code == 0


def test_rules_do_not_go_with_a_recording(project):
    project.record()
    said = project.isotrace("check", "--record", "goldens", "--ignore", "/x")
    assert said.code == 2
    assert "levels and rules belong to a replay" in said.err


def test_a_folder_without_golden_runs_is_no_pass(project):
    (project.folder / "goldens").mkdir()
    for path in ("goldens", "none", "agent.py"):
        said = project.isotrace("check", path)
        assert (said.code, said.out) == (2, "")
        assert said.err.startswith("isotrace: ")
    assert project.isotrace("check").code == 2


@pytest.mark.slow
def test_levels_and_rules_say_what_may_differ(project):
    project.record()
    project.write("pyproject.toml", ENTRIES)
    project.change("Never refund twice.", "Never refund.")
    for options in (("--ignore", "ask:/prompt"), ("--level", "skeleton"), ("--level", "outcome")):
        assert project.isotrace("check", "goldens", *options).code == 0, options
    for options in (("--ignore", "ask:/question"), ("--level", "exact"), ("--tolerance", "5%")):
        assert project.isotrace("check", "goldens", *options).code == 1, options
    project.change('return found["answer"]', 'return "something else"')
    assert project.isotrace("check", "goldens", "--level", "outcome").code == 1
    assert project.isotrace("check", "goldens", "--level", "skeleton").code == 0
    project.change("    refund(order", "    0 and refund(order")
    assert project.isotrace("check", "goldens", "--level", "skeleton").code == 1
    assert project.isotrace("check", "goldens", "--ignore", "prompt").code == 2


def test_results_for_continuous_integration(project):
    project.write("pyproject.toml", ENTRIES)
    golden = project.record("goldens/deep/a.golden")
    text = golden.read_text()
    project.write("goldens/b.golden", text.replace('"question": "Where', '"question": "\\u001b[31m%, Where'))
    project.write("goldens/c,1.golden", "isotrace golden 1 iso1\nrun_started\n")
    summary = project.folder / "summary.md"
    said = project.isotrace(
        "check",
        "goldens",
        "--junit",
        "out/junit.xml",
        GITHUB_ACTIONS="true",
        GITHUB_STEP_SUMMARY=str(summary),
        GITHUB_WORKSPACE=str(project.folder),
    )
    assert said.code == 2
    found = [line for line in said.out.splitlines() if line.startswith("::")]
    assert len(found) == 2
    line = [line.startswith("step_started") for line in text.splitlines()].index(True) + 1
    assert found[0].startswith(
        f"::error file=goldens/b.golden,line={line},title=golden run%3A PARAMS_CHANGED::PARAMS_CHANGED at"
    )
    assert "\\u001b[31m%25, Where" in found[0]
    assert found[1].startswith(
        "::error file=goldens/c%2C1.golden,line=2,title=golden run%3A ImportFormatError::"
        "the run's end is missing"
    )
    table = summary.read_text()
    assert table.count("\n| `goldens/") == 3
    assert "| `goldens/deep/a.golden` | support | match |" in table
    check_junit(ET.parse(project.folder / "out" / "junit.xml").getroot())
    cases = list(ET.parse(project.folder / "out" / "junit.xml").getroot().iter("testcase"))
    assert [(case.get("classname"), case.get("name"), [one.tag for one in case]) for case in cases] == [
        ("goldens", "b", ["failure"]),
        ("goldens", "c,1", ["error"]),
        ("goldens.deep", "a", []),
    ]
    assert "::" not in project.isotrace("check", "goldens", "--no-github", GITHUB_ACTIONS="true").out


def test_pages_of_what_differs(project):
    pytest.importorskip("jinja2")
    project.write("pyproject.toml", ENTRIES)
    golden = project.record("goldens/deep/a.golden")
    project.write("goldens/b.golden", golden.read_text().replace('"question": "Where', '"question": "Why'))
    project.write("goldens/c.golden", "isotrace golden 1 iso1\nrun_started\n")
    assert project.isotrace("check", "goldens", "--html", "out").code == 2
    pages = [page.relative_to(project.folder).as_posix() for page in (project.folder / "out").rglob("*.html")]
    assert pages == ["out/goldens/b.golden.html"], "one that matches has none, nor one that is no golden run"
    page = (project.folder / pages[0]).read_text("utf-8")
    assert "PARAMS_CHANGED" in page
    assert "Why is W-1?" in page
    project.write("file", "")
    said = project.isotrace("check", "goldens/b.golden", "--html", "file/out")
    assert (said.code, "can't be written" in said.err) == (2, True)


def check_junit(root: ET.Element) -> None:
    """That a report is what the schema of Jenkins' xUnit plugin (junit-10.xsd) allows."""
    counts = {"tests", "failures", "errors", "skipped", "time", "name"}
    allowed = {
        "testsuites": (counts, {"testsuite"}),
        "testsuite": (counts | {"timestamp", "hostname"}, {"testcase"}),
        "testcase": ({"classname", "name", "time"}, {"failure", "error", "skipped"}),
        "failure": ({"message", "type"}, set[str]()),
        "error": ({"message", "type"}, set[str]()),
        "skipped": ({"message"}, set[str]()),
    }
    for element in root.iter():
        attributes, children = allowed[element.tag]
        assert set(element.attrib) == attributes
        assert {child.tag for child in element} <= children
    assert root.tag == "testsuites"
    for suite in root:
        assert int(suite.get("tests", "")) == len(list(suite.iter("testcase")))
        for plural, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.get(plural, "")) == len(list(suite.iter(tag)))
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.get("timestamp", ""))


def test_a_new_recording_waits_where_it_differs_and_is_accepted_or_rejected(project):
    project.write("pyproject.toml", ENTRIES)
    golden = project.record()
    before = golden.read_bytes()
    candidate = golden.with_name("refund.golden.new")

    candidate.write_bytes(before)  # from some time ago
    said = project.isotrace("check", "--record", "goldens")
    assert said.code == 0, said.out + said.err
    assert "SAME " in said.out
    assert not candidate.exists()
    said = project.isotrace("accept", "goldens/refund.golden")
    assert said.code == 2
    assert "the golden run has no candidate" in said.err
    assert "`isotrace check --record goldens/refund.golden` makes one" in said.err
    assert project.isotrace("accept").out == "nothing waits to be accepted\n"

    project.change("* 100", "* 99")
    said = project.isotrace("check", "--record", "goldens")
    assert said.code == 1
    assert "DIFFERS     goldens/refund.golden" in said.out
    assert "PARAMS_CHANGED at step 1" in said.out
    assert candidate.exists()
    assert golden.read_bytes() == before

    said = project.isotrace("accept", "goldens")
    assert (said.code, said.out) == (2, "")
    assert "there is nobody to ask: nothing was changed" in said.err
    assert candidate.exists()

    said = project.terminal("n\n", "accept", "goldens")
    assert said.code == 1
    assert "PARAMS_CHANGED at step 1" in said.out
    assert "left      goldens/refund.golden" in said.out
    assert candidate.exists()

    said = project.isotrace("accept", "--reject", "--yes", "--json")
    assert (said.code, said.json["goldens"][0]["action"]) == (0, "rejected")
    assert not candidate.exists()
    assert golden.read_bytes() == before

    assert project.isotrace("check", "--record", "goldens").code == 1
    new = candidate.read_bytes()
    said = project.terminal("maybe\ny\n", "accept", "goldens/refund.golden")
    assert said.code == 0
    assert "accepted  goldens/refund.golden" in said.out
    assert golden.read_bytes() == new
    assert not candidate.exists()
    assert project.isotrace("check", "goldens").code == 0


def test_a_candidate_without_a_golden_run_and_one_for_a_damaged_one_are_told_apart(project):
    golden = project.record()
    candidate = golden.rename(golden.with_name("refund.golden.new"))
    said = project.terminal("y\n", "accept", "goldens")
    assert said.code == 0
    assert "no golden run stands there yet; new: support, 2 steps, completed" in said.out
    assert golden.exists()
    candidate.write_bytes(golden.read_bytes())
    golden.write_text("isotrace golden 1 iso1\n<<<<<<< HEAD\n")
    said = project.isotrace("accept", "--yes", "goldens/refund.golden.new")
    assert said.code == 0
    assert "what stands there is damaged" in said.out
    assert not candidate.exists()
    candidate.write_text("nothing")
    said = project.isotrace("accept", "--yes")
    assert said.code == 2
    assert "not a golden file" in said.err
    assert candidate.exists()


@pytest.mark.slow
def test_q_leaves_this_candidate_and_all_after_it(project):
    project.write("pyproject.toml", ENTRIES)
    for name in ("a", "b", "c"):
        project.record(f"goldens/{name}.golden")
    project.change("* 100", "* 99")
    assert project.isotrace("check", "--record", "goldens").code == 1
    said = project.terminal("y\nq\n", "accept")
    assert said.code == 1
    assert re.findall(r"(accepted|left) +goldens/(\w)", said.out) == [
        ("accepted", "a"),
        ("left", "b"),
        ("left", "c"),
    ]
    assert sorted(path.name for path in (project.folder / "goldens").iterdir()) == [
        "a.golden",
        "b.golden",
        "b.golden.new",
        "c.golden",
        "c.golden.new",
    ]


def test_another_checkout_on_a_machine_without_the_keys_gives_the_same(project, tmp_path):
    agent = AGENT.replace(
        'PROMPT = "Be kind', 'import os\nKEY = os.environ["MODEL_API_KEY"]\nPROMPT = f"In {os.getcwd()} with'
    ).replace('f"Where is {order}?"', 'f"Where is {order}?" if os.environ["MODEL_API_KEY"] else "No key"')
    project.write("agent.py", agent)
    project.write("pyproject.toml", ENTRIES)
    project.record("goldens/a.golden", "agent.py", MODEL_API_KEY="sk-1234567890abcdef1234567890abcdef")
    other = Project(tmp_path / "elsewhere")
    for name in ("agent.py", "pyproject.toml", "goldens/a.golden"):
        other.write(name, (project.folder / name).read_text())
    said = other.isotrace("check", "goldens")
    assert said.code == 0, said.out
    other.change("getcwd()", "getcwd().upper()")
    assert other.isotrace("check", "goldens").code == 1


def test_a_redacted_golden_run_matches_and_is_recorded_anew_with_the_same_redactors(project):
    project.write("agent.py", AGENT.replace("Where is {order}?", "Where is {order}? I am ann@example.com"))
    project.write("pyproject.toml", ENTRIES)
    golden = project.record("goldens/a.golden", "--redact", "email", "agent.py")
    assert "ann@example.com" not in golden.read_text()
    assert "redactors=" in golden.read_text().splitlines()[1]
    assert project.isotrace("check", "goldens").code == 0
    project.change("* 100", "* 99")
    said = project.isotrace("check", "--record", "goldens")
    assert said.code == 1, said.out
    assert "ann@example.com" not in golden.with_name("a.golden.new").read_text()
    assert said.out.count("PARAMS_CHANGED at step 1") == 2


def test_what_a_policy_stopped_is_stopped_again_without_its_rules(project):
    project.write("rules.toml", RULES)
    project.write("pyproject.toml", ENTRIES)
    project.write(
        "agent.py",
        AGENT.replace("import isotrace\n", "import isotrace.errors\n", 1)
        .replace("    refund(order", "    try:\n        refund(order")
        .replace(
            "return found",
            "except isotrace.errors.PolicyViolation as stop:\n        return str(stop)\n    return found",
        ),
    )
    golden = project.record("goldens/a.golden", "--policy", "rules.toml", "agent.py")
    assert "violation lineage=[1] policy_id=no-refunds" in golden.read_text()
    (project.folder / "rules.toml").unlink()
    said = project.isotrace("check", "goldens")
    assert said.code == 0, said.out


RULES = """
[[rules]]
id = "no-refunds"
skills = ["refund"]
deny = true
action = "stop"
"""


def test_code_that_makes_no_run_is_an_error(project):
    project.write("pyproject.toml", ENTRIES)
    project.record()
    project.write("agent.py", "raise SystemExit(3)")
    said = project.isotrace("check", "--record", "goldens")
    assert said.code == 2
    assert "the code made no run of agent 'support'" in said.out
    assert "exit code 3" in said.out
    assert project.isotrace("check", "goldens").code == 2


class _Model(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = f"About: {asked['messages'][-1]['content']}\nIt is on its way."
        body = {"id": "chatcmpl-abcdefgh", "object": "chat.completion", "model": "m", "created": 1}
        message = {"role": "assistant", "content": text}
        data = json.dumps(
            {**body, "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def model() -> Iterator[tuple[str, Callable[[], None]]]:
    """The address of a model on this machine, and how to take it down."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Model)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()

    def down() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    yield f"http://127.0.0.1:{server.server_port}", down
    if thread.is_alive():
        down()


def test_a_captured_agent_without_its_server(project, model):
    pytest.importorskip("urllib3")
    url, down = model
    project.write("chat.py", HTTP_AGENT)
    project.write("pyproject.toml", '[tool.isotrace.entries]\nchat = "chat.py"\n')
    golden = project.record("goldens/chat.golden", "chat.py", MODEL_URL=url)
    text = golden.read_text()
    assert text.count("| Never refund twice.") == 1
    assert '<first 1 of step [0] "/params/messages">,' in text

    assert project.isotrace("check", "--record", "goldens", MODEL_URL=url).code == 0
    down()
    said = project.program("check", "goldens", MODEL_URL=url)
    assert said.code == 0, said.out
    project.change("Never refund twice.", "Refund at once.", "chat.py")
    said = project.isotrace("check", "goldens", "--json", MODEL_URL=url)
    assert said.code == 1
    (found,) = said.json["goldens"][0]["replay"]["divergences"]
    assert (found["code"], found["index"], found["pointers"]) == (
        "PARAMS_CHANGED",
        0,
        ["/messages/0/content"],
    )
    # A sentence changed by hand in the file is one changed line, and how the agent should behave now.
    golden.write_text(text.replace("| Never refund twice.", "| Refund at once."))
    said = project.isotrace("check", "goldens", MODEL_URL=url)
    assert said.code == 0, said.out
