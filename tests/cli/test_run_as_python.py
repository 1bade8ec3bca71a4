"""`run`: a program is run as `python` runs it, up to the functions it leaves for its exit."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def by_python(tmp_path: Path, *arguments: str) -> tuple[int, str, str]:
    """How python itself runs a program: exit code, stdout, stderr."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


def by_isotrace(program: Callable[..., Any], *arguments: str) -> tuple[int, str, str]:
    """The same of `isotrace run`, without what isotrace reports at the end."""
    said = program("run", *arguments)
    return said.code, said.out, said.err.partition("isotrace: ")[0]


LOOK = """\
import sys
shown = {name: value for name, value in globals().items() if name not in ("sys", "__loader__")}
shown["__spec__"] = getattr(__spec__, "name", None)
print(sys.argv, sys.path[0].rstrip("/"), sorted(shown.items(), key=str))
print(type(__loader__), sys.modules["__main__"].__dict__ is globals())
"""


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """One program as a script, behind a link, in a folder, a package and an archive."""
    (tmp_path / "look.py").write_text(LOOK)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "linked.py").symlink_to("../look.py")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "__main__.py").write_text(LOOK)
    with zipfile.ZipFile(tmp_path / "archive.pyz", "w") as archive:
        archive.writestr("__main__.py", LOOK)
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["look.py", "x"],
        ["links/linked.py"],
        ["folder", "x"],
        ["folder/"],
        ["archive.pyz", "x"],
        ["-m", "look", "x"],
        ["-m", "folder"],
    ],
    ids=" ".join,
)
def test_program_finds_itself_as_under_python(
    program: Callable[..., Any], places: Path, arguments: list[str]
) -> None:
    code, out, _ = by_python(places, *arguments)
    assert by_isotrace(program, *arguments) == (code, out, "")
    assert code == 0


BYE = """\
import atexit
class Bye:
    def __repr__(self): return "bye"
    def __call__(self): 1 / 0
atexit.register(Bye())
atexit.register(print, "exit")
"""


@pytest.mark.parametrize(
    "source",
    [
        "import sys\nsys.excepthook = lambda kind, error, trace: print('hook', kind, error)\n1 / 0\n",
        "import sys\ndef hook(kind, error, trace): raise KeyError('hook')\nsys.excepthook = hook\n1 / 0\n",
        "import sys\ndef hook(kind, error, trace): sys.exit(5)\nsys.excepthook = hook\n1 / 0\n",
        "class Own(BaseException): pass\nraise Own('mine')\n",
        "def f():\n    raise ValueError('x') from KeyError('y')\nf()\n",
        "import sys\nprint('a')\nsys.stdout.close()\n",
        "import sys\nsys.stderr.close()\n",
        "from threading import Timer\nTimer(0.2, lambda: print('late')).start()\n1 / 0\n",
        BYE,
    ],
    ids=["hook", "failing-hook", "leaving-hook", "own-base", "cause", "stdout", "stderr", "thread", "atexit"],
)
def test_ending_is_pythons(program: Callable[..., Any], tmp_path: Path, source: str) -> None:
    (tmp_path / "ends.py").write_text(source)
    assert by_isotrace(program, "ends.py") == by_python(tmp_path, "ends.py")


LATE = """\
import atexit, concurrent.futures, pickle, threading, time
import isotrace

class Own: pass

@isotrace.skill
def work(x):
    open("effects.txt", "a").write("work\\n")
    return x

def late():
    time.sleep(0.2)
    print(type(pickle.loads(pickle.dumps(Own()))), work(2))

idle = concurrent.futures.ThreadPoolExecutor(1)
print(work(1), idle.submit(abs, -1).result())
threading.Thread(target=late).start()
atexit.register(lambda: print(type(pickle.loads(pickle.dumps(Own()))), work(3)))
"""


def test_what_threads_and_exit_functions_do_after_the_last_line_belongs_to_the_run(
    program: Callable[..., Any], isotrace: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "late.py").write_text(LATE)
    code, out, err = by_isotrace(program, "late.py")
    own = "<class '__main__.Own'>"
    assert (code, out, err) == (0, f"1 1\n{own} 2\n{own} 3\n", "")
    steps = isotrace("show", "@last", "--json").json["steps"]
    assert [step["params"] for step in steps] == [{"x": 1}, {"x": 2}, {"x": 3}]
    said = program("replay", "@last", "--json")
    assert (said.json["verdict"], said.json["receipt"]["served"]) == ("MATCH", 3)
    assert (tmp_path / "effects.txt").read_text() == "work\n" * 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize(
    ("before", "runs"), [("work(1)", 1), ("pass", 0)], ids=["after-a-step", "before-any"]
)
def test_forked_child_ends_with_its_own_exit_code_and_says_nothing(
    program: Callable[..., Any], tmp_path: Path, before: str, runs: int
) -> None:
    (tmp_path / "forks.py").write_text(
        "import os, sys, isotrace\n@isotrace.skill\ndef work(x): return x\n"
        f"{before}\nchild = os.fork()\nif child == 0:\n    work(2)\n    sys.exit(3)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    said = program("run", "forks.py")
    assert (said.code, said.out) == (0, "3\n")
    assert said.err.count("isotrace: ") == 1
    assert said.err.count("recorded run") == runs
