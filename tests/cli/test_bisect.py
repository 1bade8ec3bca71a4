"""`bisect` on scratch repositories: real git, real replays in processes of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isotrace import operations
from isotrace.errors import (
    BisectError,
    NoEntryPointError,
    RepositoryError,
    RunNotFoundError,
    UsageError,
)
from isotrace.stores.memory import MemoryStore

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

ASSISTANT = r"""
import isotrace
from wording import prompt

@isotrace.skill(kind="llm", effect="read")
def ask(prompt: str) -> str:
    return "Oslo"

@isotrace.skill(effect="write")
def book(city: str) -> str:
    return f"{city} is booked"

@isotrace.agent("trip")
def trip(task: str) -> str:
    city = ask(prompt(task))
    return book(city)

if __name__ == "__main__":
    print(trip("somewhere cool"))
"""

WORDING = r"""
def prompt(task: str) -> str:
    return f"Name a city. {task}"
"""

PLACED = WORDING.replace("{task}", "{task}, says {__file__}")


class Scratch:
    """A repository to commit to, with one run recorded at its first commit."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.revs: dict[str, str] = {}
        root.mkdir()
        self.git("init", "--quiet", "--initial-branch", "main")
        self.git("config", "user.name", "Ada")
        self.git("config", "user.email", "ada@example.org")

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.root, capture_output=True, text=True, check=True, env=plain_env()
        )
        return done.stdout.strip()

    def commit(self, subject: str, files: dict[str, str] | None = None) -> str:
        for name, text in (files or {}).items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", subject)
        self.revs[subject] = self.git("rev-parse", "HEAD")
        return self.revs[subject]

    def record(self, *arguments: str, folder: str = ".") -> str:
        done = subprocess.run(
            [sys.executable, "-m", "isotrace.cli", "run", *arguments],
            cwd=self.root / folder,
            capture_output=True,
            text=True,
            check=True,
            env=plain_env(),
        )
        return done.stderr.split()[-1]

    def state(self) -> dict[str, Any]:
        """What bisecting must not change: files, index, HEAD, references, worktrees."""
        files = {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and ".git" not in path.relative_to(self.root).parts
        }
        inside = {str(path.relative_to(self.root)) for path in (self.root / ".git").rglob("*")}
        inside.discard(".git/packed-refs")  # git makes one without references where it deletes some
        return {
            "files": files,
            "status": self.git("status", "--porcelain"),
            "head": self.git("symbolic-ref", "HEAD"),
            "refs": self.git("for-each-ref"),
            "worktrees": self.git("worktree", "list"),
            "git": inside,
        }


def plain_env() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of this test's processes."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def scratch(store_url: str, tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> Scratch:
    made = Scratch(tmp_path / "trips")
    monkeypatch.chdir(made.root)
    return made


@pytest.fixture
def history(scratch: Scratch) -> Scratch:
    """A dozen commits, of which "ask politely" changes what the model is asked; on both sides of it are
    commits at which nothing can be told."""
    scratch.commit("first", {"trip.py": ASSISTANT, "wording.py": WORDING})
    scratch.record("trip.py")
    renamed = ASSISTANT.replace("city = ask", "place = ask").replace("book(city)", "book(place)")
    renamed = renamed.replace("def book(place)", "def book(city)")
    scratch.commit("a comment", {"wording.py": f"# Words.\n{WORDING}"})
    scratch.commit("another name", {"trip.py": renamed})
    scratch.commit("syntax error", {"trip.py": renamed + "\ndef (:\n"})
    scratch.commit("crash", {"trip.py": renamed.replace("    return book", "    {}[place]\n    return book")})
    scratch.commit("mended", {"trip.py": renamed})
    polite = WORDING.replace("Name a city.", "Please name a city.")
    scratch.commit("ask politely", {"wording.py": polite, "NOTES": "Be polite.\n"})
    scratch.commit("import error", {"trip.py": renamed.replace("import prompt", "import prompts")})
    scratch.commit("mended again", {"trip.py": renamed})
    scratch.commit("notes", {"NOTES": "None yet.\n"})
    scratch.commit(
        "also booked otherwise", {"trip.py": renamed.replace("book(place)", "book(place.upper())")}
    )
    scratch.commit("more notes", {"NOTES": "Some.\n"})
    return scratch


def counted(bisection: operations.Bisection, scratch: Scratch) -> dict[str, str]:
    subjects = {rev: subject for subject, rev in scratch.revs.items()}
    return {subjects[one.rev]: one.counts_as for one in bisection.tested}


def before_booking(statement: str) -> str:
    return ASSISTANT.replace("    return book", f"    {statement}\n    return book")


def polite() -> str:
    return WORDING.replace("Name a city.", "Please name a city.")


# --- what is found --------------------------------------------------------------------


def test_commit_that_changes_the_prompt_is_found_and_commits_around_it_are_skipped(
    history: Scratch, temporary: Path
) -> None:
    before = history.state()
    bisection = operations.bisect("@last", good="HEAD~11", bad="main")
    assert history.state() == before
    assert list(temporary.iterdir()) == []
    assert counted(bisection, history) == {
        "first": "good",
        "more notes": "bad",
        "mended": "good",
        "mended again": "bad",
        "import error": "skip",
        "ask politely": "bad",
    }
    commit = bisection.first_bad
    assert commit is not None
    assert (commit.rev, commit.subject) == (history.revs["ask politely"], "ask politely")
    assert (commit.author, commit.files) == ("Ada", (("A", "NOTES"), ("M", "wording.py")))
    assert commit.date.startswith(history.git("log", "-1", "--format=%aI", commit.rev))
    assert bisection.found is not None
    first = bisection.found.divergence
    assert first is not None
    assert (first.code, first.index, first.pointers) == ("PARAMS_CHANGED", 0, ["/prompt"])
    assert first.actual == {"/prompt": "Please name a city. somewhere cool"}
    assert bisection.found.cause is not None
    assert bisection.found.cause["why"] == "PROMPT"
    (skipped,) = bisection.skipped
    assert skipped.reason == (
        "the agent raised ImportError: cannot import name 'prompts' from 'wording' (wording.py) (trip.py:3),"
        " before its run began"
    )


def test_only_skipped_commits_are_left_where_all_that_come_before_can_not_be_judged(
    scratch: Scratch, isotrace: Callable[..., Any]
) -> None:
    scratch.commit("first", {"trip.py": ASSISTANT, "wording.py": WORDING})
    scratch.record("trip.py")
    scratch.commit("syntax error", {"trip.py": ASSISTANT + "\ndef (:\n"})
    scratch.commit("crash", {"trip.py": before_booking("{}[city]")})
    scratch.commit("leaves", {"trip.py": before_booking("exit('no')")})
    scratch.commit("gone", {"trip.py": ""})
    scratch.commit("ask politely", {"trip.py": ASSISTANT, "wording.py": polite()})
    said = isotrace("bisect", "@last", "--good", "HEAD~5", "--bad", "HEAD", "--json")
    assert (said.code, said.json["first_bad"], said.json["divergence"]) == (125, None, None)
    assert [one["subject"] for one in said.json["left"]] == [
        "ask politely",
        "gone",
        "leaves",
        "crash",
        "syntax error",
    ]
    assert set(said.json["skipped"]) == {scratch.revs[one["subject"]] for one in said.json["left"][1:]}
    reasons = {one["rev"]: (one["verdict"], one["code"], one["reason"]) for one in said.json["tested"]}
    assert reasons[scratch.revs["syntax error"]] == (
        None,
        None,
        "the agent raised SyntaxError: invalid syntax (trip.py, line 21), before its run began",
    )
    assert reasons[scratch.revs["crash"]] == (
        "DIVERGED",
        "EARLY_END",
        "the agent raised KeyError: 'Oslo' (trip.py:16)",
    )
    assert reasons[scratch.revs["leaves"]][2] == "the agent raised SystemExit: no (trip.py:16)"
    assert "opened no run" in reasons[scratch.revs["gone"]][2]


def test_person_reads_each_revision_and_the_commit(scratch: Scratch, isotrace: Callable[..., Any]) -> None:
    first = scratch.commit("first", {"trip.py": ASSISTANT, "wording.py": WORDING})
    run_id = scratch.record("trip.py")
    found = scratch.commit("ask politely\x1b[31m", {"wording.py": polite()})
    said = isotrace("bisect", run_id[:8], "--good", "HEAD~1", "--bad", "HEAD")
    assert said.code == 0
    change = (
        'PARAMS_CHANGED at step 0: params differ at /prompt ("Name a city. somewhere cool" → "Please name a'
    )
    lines = said.out.splitlines()
    assert lines[0] == f"good  {first[:12]}  MATCH"
    assert lines[1].startswith(f"bad   {found[:12]}  DIVERGED  {change}")
    assert lines[2:4] == ["", f"FIRST BAD  {found}"]
    assert lines[5:8] == ["  ask politely␛[31m", "  M  wording.py", ""]
    assert lines[8] == "First divergence: PARAMS_CHANGED at step 0"
    assert lines[10:14] == [
        "  /prompt",
        '    - "Name a city. somewhere cool"',
        '    + "Please name a city. somewhere cool"',
        "  PROMPT: step 0 asks the model something else after the same observations",
    ]
    assert lines[-1] == "2 revisions tried  1 good · 1 bad"


@pytest.mark.slow
def test_divergences_of_other_codes_are_skipped(scratch: Scratch) -> None:
    scratch.commit("first", {"trip.py": ASSISTANT, "wording.py": WORDING})
    scratch.record("trip.py")
    scratch.commit("ask politely", {"wording.py": polite()})
    scratch.commit("ask as before", {"wording.py": WORDING})
    hasty = ASSISTANT.replace("return book(city)", "return city")
    scratch.commit("book nothing", {"trip.py": hasty})
    bisection = operations.bisect("@last", good="HEAD~3", bad="HEAD", codes=["EARLY_END"])
    assert bisection.first_bad is not None
    assert bisection.first_bad.subject == "book nothing"
    with pytest.raises(BisectError, match=r"expected PARAMS_CHANGED; got DIVERGED: EARLY_END"):
        operations.bisect("@last", good="HEAD~3", bad="HEAD", codes=["PARAMS_CHANGED"])
    with pytest.raises(UsageError, match=r"expected SCHEMA_UNSUPPORTED, .*NO_SUCH"):
        operations.bisect("@last", good="HEAD~3", bad="HEAD", codes=["NO_SUCH"])


@pytest.mark.slow
def test_only_commits_that_change_a_path_are_tried(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch.commit("first", {"trip.py": ASSISTANT, "wording.py": WORDING, "docs/a": ""})
    scratch.record("trip.py")
    for number in range(4):
        scratch.commit(f"notes {number}", {"docs/a": f"{number}"})
    scratch.commit("ask politely", {"wording.py": polite()})
    scratch.commit("last", {"docs/a": "last"})
    monkeypatch.chdir(scratch.root / "docs")
    bisection = operations.bisect("@last", good="HEAD~6", bad="HEAD", paths=["../wording.py"])
    assert list(counted(bisection, scratch)) == ["first", "last", "ask politely"]
    assert bisection.first_bad is not None
    assert bisection.first_bad.subject == "ask politely"


@pytest.mark.slow
def test_replay_that_takes_too_long_is_skipped(scratch: Scratch) -> None:
    scratch.commit("first", {"trip.py": ASSISTANT, "wording.py": WORDING})
    scratch.record("trip.py")
    scratch.commit("hangs", {"wording.py": WORDING.replace("return", "while True: pass\n    return")})
    with pytest.raises(BisectError, match="no verdict: the replay took too long"):
        operations.bisect("@last", good="HEAD~1", bad="HEAD", timeout_s=3)


@pytest.mark.slow
def test_program_without_an_agent_is_followed_through_merges_from_a_worktree_of_the_user(
    scratch: Scratch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = (
        "import pathlib, subprocess\n"
        "here = pathlib.Path(__file__).parent\n"
        "subprocess.run(['ls', here], cwd=here)\n"
        "subprocess.run(['echo', 'hello'])\n"
    )
    scratch.commit("first", {"bin/tool": tool})
    run_id = scratch.record("bin/tool")
    scratch.git("checkout", "--quiet", "-b", "side")
    scratch.commit("broken", {"bin/tool": "import nothing_there\n" + tool})
    scratch.commit("mended", {"bin/tool": tool})
    found = scratch.commit("say hi", {"bin/tool": tool.replace("hello", "hi")})
    scratch.git("checkout", "--quiet", "main")
    scratch.commit("on main", {"NOTES": ""})
    scratch.git("merge", "--quiet", "--no-ff", "side")
    scratch.revs["merge"] = scratch.git("rev-parse", "HEAD")
    scratch.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "other"), "side")
    monkeypatch.chdir(tmp_path / "other")
    before = scratch.state()
    bisection = operations.bisect(run_id, good="main~2", bad="main")
    assert (bisection.first_bad and bisection.first_bad.rev) == found
    bisection = operations.bisect(run_id, good="HEAD~3", bad="HEAD")
    assert scratch.state() == before
    assert (bisection.first_bad and bisection.first_bad.rev) == found
    assert [one.rev for one in bisection.tested[:2]] == [scratch.revs["first"], found]
    with pytest.raises(
        BisectError, match=r"got DIVERGED: the agent raised ModuleNotFoundError.*comes to a div"
    ):
        operations.bisect(run_id, good="HEAD~3", bad="HEAD~2")


# --- where the code is ----------------------------------------------------------------


def test_changes_that_are_not_committed_stay_and_do_not_count(scratch: Scratch, temporary: Path) -> None:
    scratch.commit("first", {"trip.py": ASSISTANT, "wording.py": WORDING, ".gitignore": "*.pyc\n"})
    scratch.record("trip.py")
    scratch.commit("ask politely", {"wording.py": polite()})
    scratch.commit("last", {"NOTES": ""})
    (scratch.root / "wording.py").write_text("def (:")
    (scratch.root / "trip.py").unlink()
    (scratch.root / "NOTES").write_text("staged")
    scratch.git("add", "NOTES")
    (scratch.root / "new.py").write_text("not known to git")
    before = scratch.state()
    bisection = operations.bisect("@last", good="HEAD~2", bad="HEAD")
    assert scratch.state() == before
    assert list(temporary.iterdir()) == []
    assert bisection.first_bad is not None
    assert bisection.first_bad.subject == "ask politely"


@pytest.mark.slow
def test_hooks_and_a_bisection_of_the_user_are_left_alone_and_what_the_agent_writes_is_not_in_the_way(
    scratch: Scratch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = "open('NOTES', 'w').write('by the agent')"
    scratch.commit("first", {"trip.py": f"{writing}\n{ASSISTANT}", "wording.py": WORDING, "NOTES": ""})
    scratch.record("trip.py")
    scratch.commit("ask politely", {"wording.py": polite()})
    for number in range(3):
        scratch.commit(f"notes {number}", {"NOTES": f"{number}"})
    scratch.git("bisect", "start", "HEAD", "HEAD~4")
    hook = scratch.root / ".git/hooks/post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hooked\n")
    hook.chmod(0o755)
    monkeypatch.setenv("GIT_DIR", str(scratch.root / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(scratch.root / ".git/index"))
    refs, log = scratch.git("for-each-ref"), scratch.git("bisect", "log")
    bisection = operations.bisect("@last", good="main~4", bad="main")
    assert (scratch.git("for-each-ref"), scratch.git("bisect", "log")) == (refs, log)
    assert "refs/bisect/bad" in refs
    assert not (tmp_path / "hooked").exists()
    assert bisection.first_bad is not None
    assert bisection.first_bad.subject == "ask politely"


def test_module_is_run_in_the_folder_where_it_was_and_its_own_path_is_as_recorded(scratch: Scratch) -> None:
    package = {
        "app/tools/__init__.py": "",
        "app/tools/__main__.py": ASSISTANT.replace("from wording", "from tools.wording"),
        "app/tools/wording.py": PLACED,
    }
    scratch.commit("first", package)
    run_id = scratch.record("-m", "tools", folder="app")
    scratch.commit("notes", {"NOTES": ""})
    scratch.commit("ask politely", {"app/tools/wording.py": PLACED.replace("Name", "Please name")})
    scratch.commit("more notes", {"NOTES": "Some."})
    bisection = operations.bisect(run_id, good="HEAD~3", bad="HEAD")
    assert bisection.first_bad is not None
    assert bisection.first_bad.subject == "ask politely"


@pytest.mark.parametrize("entry", ["trip:trip", "trip.py:trip"])
def test_run_that_was_imported_needs_its_function_named(
    scratch: Scratch, isotrace: Callable[..., Any], tmp_path: Path, entry: str
) -> None:
    reading = WORDING.replace('f"Name a city. {task}"', "open('words.txt').read() + task")
    scratch.commit("first", {"trip.py": ASSISTANT, "wording.py": reading, "words.txt": "Name a city. "})
    run_id = scratch.record("trip.py")
    scratch.commit("ask politely", {"words.txt": "Please name a city. "})
    file, other = str(tmp_path / "run.jsonl"), str(tmp_path / "other" / "traces.db")
    isotrace("export", run_id, "--format", "jsonl", "-o", file)
    isotrace("import", "jsonl", file, "--store", other)
    with pytest.raises(NoEntryPointError, match="not recorded on this machine"):
        operations.bisect(run_id, good="HEAD~1", bad="HEAD", store=other)
    bisection = operations.bisect(run_id, good="HEAD~1", bad="HEAD", store=other, entry=entry)
    assert bisection.first_bad is not None
    assert bisection.first_bad.subject == "ask politely"


FINDER = """
import importlib.util, os, sys

class Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "trips":
            file = os.path.join({folder!r}, "trips", "__init__.py")
            return importlib.util.spec_from_file_location(name, file)

sys.meta_path.append(Finder)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["path", "finder"])
def test_package_that_is_installed_editable_is_that_of_the_revision(scratch: Scratch, how: str) -> None:
    package = {
        ".gitignore": ".venv\n",
        "src/trips/__init__.py": "",
        "src/trips/wording.py": WORDING,
        "src/trips/agent.py": ASSISTANT.replace("from wording", "from trips.wording"),
        "main.py": "from trips.agent import trip\ntrip('somewhere cool')\n",
    }
    scratch.commit("first", package)
    python = environment_in(scratch.root, how)
    command = [str(python), "-m", "isotrace.cli"]
    run = subprocess.run([*command, "run", "main.py"], check=True, capture_output=True, text=True)
    scratch.commit("notes", {"NOTES": ""})
    scratch.commit("ask politely", {"src/trips/wording.py": polite()})
    arguments = ["bisect", run.stderr.split()[-1], "--good", "HEAD~2", "--bad", "HEAD", "--json"]
    done = subprocess.run([*command, *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done
    assert f'"first_bad":"{scratch.revs["ask politely"]}"' in done.stdout


def environment_in(root: Path, how: str) -> Path:
    """A virtual environment inside of a checkout, in which isotrace and its `src` are installed."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / ".venv"], check=True)
    (site,) = (root / ".venv/lib").glob("python*/site-packages")
    lines = [path for path in sys.path if path.endswith(("site-packages", "src"))]
    lines.append(str(root / "src") if how == "path" else "import finder")
    (site / "finder.py").write_text(FINDER.format(folder=str(root / "src")))
    (site / "all.pth").write_text("\n".join(lines) + "\n")
    return root / ".venv/bin/python"


def test_code_that_is_imported_from_the_checkout_all_the_same_is_no_proof(scratch: Scratch) -> None:
    path = f"import sys\nsys.path.insert(0, {str(scratch.root / 'lib')!r})\n"
    scratch.commit("first", {"trip.py": path + ASSISTANT, "lib/wording.py": WORDING})
    scratch.record("trip.py")
    scratch.commit("ask politely", {"lib/wording.py": polite()})
    with pytest.raises(BisectError, match="modules were imported from the checkout: wording"):
        operations.bisect("@last", good="HEAD~1", bad="HEAD")


# --- what can't be done ---------------------------------------------------------------


def test_ends_are_checked_first(scratch: Scratch, temporary: Path) -> None:
    scratch.commit("broken", {"trip.py": "import missing"})
    scratch.commit("other", {"trip.py": ASSISTANT, "wording.py": polite()})
    scratch.commit("first", {"wording.py": WORDING})
    scratch.record("trip.py")
    scratch.commit("notes", {"NOTES": ""})
    before = scratch.state()
    with pytest.raises(BisectError, match=r"good revision .*got no verdict: the agent raised ModuleNot"):
        operations.bisect("@last", good="HEAD~3", bad="HEAD")
    with pytest.raises(BisectError, match=r"good revision .*expected MATCH; got DIVERGED: PARAMS_CHANGED at"):
        operations.bisect("@last", good="HEAD~2", bad="HEAD")
    with pytest.raises(BisectError, match=r"bad revision .*expected DIVERGED; got MATCH\. Name"):
        operations.bisect("@last", good="HEAD~1", bad="HEAD")
    assert scratch.state() == before
    assert list(temporary.iterdir()) == []


def test_what_git_can_not_do_is_said(
    scratch: Scratch, isotrace: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch.commit("first", {"trip.py": ASSISTANT, "wording.py": WORDING})
    scratch.record("trip.py")
    scratch.commit("second", {"NOTES": ""})
    for good, bad, what in (
        ("HEAD~1", "no-such", "there is no such revision .*got no-such"),
        ("--all", "HEAD", "there is no such revision .*got --all"),
        ("HEAD", "HEAD~1", "no ancestor of the bad one.*the other way round"),
        ("HEAD", "main", "the same commit"),
    ):
        with pytest.raises(RepositoryError, match=what):
            operations.bisect("@last", good=good, bad=bad)
    for path, what in (
        ("../outside", "outside of the repository"),
        ("nothing", "these paths; got nothing"),
    ):
        with pytest.raises(RepositoryError, match=what):
            operations.bisect("@last", good="HEAD~1", bad="HEAD", paths=[path])
    with pytest.raises(RunNotFoundError):
        operations.bisect("ffff", good="HEAD~1", bad="HEAD")
    with pytest.raises(UsageError, match="in memory"):
        operations.bisect("@last", good="HEAD~1", bad="HEAD", store=MemoryStore())
    said = isotrace("bisect", "@last", "--good", "HEAD", "--bad", "HEAD~1", "--json")
    assert (said.code, said.json["error"]["type"]) == (2, "RepositoryError")
    shutil.rmtree(scratch.root / ".git")
    with pytest.raises(RepositoryError, match="no checkout of a git repository"):
        operations.bisect("@last", good="HEAD~1", bad="HEAD")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RepositoryError, match="install git"):
        operations.bisect("@last", good="HEAD~1", bad="HEAD")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_interrupted_bisection_leaves_nothing(
    scratch: Scratch, temporary: Path, number: signal.Signals, code: int
) -> None:
    scratch.commit("first", {"trip.py": ASSISTANT, "wording.py": WORDING})
    scratch.record("trip.py")
    hanging = WORDING.replace("return", "open('waiting', 'w')\n    while True: pass\n    return")
    for subject in ("hangs", "hangs too"):
        scratch.commit(subject, {"wording.py": f"{hanging}# {subject}\n"})
    scratch.commit("ask politely", {"wording.py": polite()})
    before = scratch.state()
    with subprocess.Popen(
        [sys.executable, "-m", "isotrace.cli", "bisect", "@last", "--good", "HEAD~3", "--bad", "HEAD"],
        cwd=scratch.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
        # A shell starts what it runs in the background with Ctrl-C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        while not list(temporary.glob("*/*/waiting")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        (worktree,) = temporary.glob("*/*")
        assert (
            "refs/bisect"
            in subprocess.run(
                ["git", "for-each-ref"], cwd=worktree, capture_output=True, text=True, check=True
            ).stdout
        )
        assert "refs/bisect" not in scratch.git("for-each-ref")
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        process.communicate(timeout=30)
    assert process.returncode == code
    assert scratch.state() == before
    assert list(temporary.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
