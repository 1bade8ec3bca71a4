"""Every code block of README.md and docs/ runs, and gives what the page shows.

How a page is written so that it can be checked:

* The blocks of a page share one temporary working directory, with a store of its own in it.
* ```` ```python ```` blocks run one after the other in one interpreter. Where a block has lines
  `#> text`, they are what it prints, whole.
* ```` ```python title="agent.py" ```` (or any language with a title) writes that file instead.
* ```` ```console ```` blocks: a line `$ command` runs in a shell, the lines below are its output
  (stdout and stderr). A command that must fail says so: `$ isotrace diff A B  # exits 1`.
  A line that is `...` stands for any number of lines.
* ```` ```json ```` and ```` ```toml ```` blocks must parse; ```` ```text ```` and ```` ```mermaid ````
  are only shown. Another language is an error.
* What differs from run to run is masked on both sides by `MASKS`: ids, times, durations, ports.
* `<!-- needs data -->` before a block: it uses real runs under `data/`, and is skipped where they
  are absent. `<!-- not run: reason -->` before a block: it can't run here, and says why.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT / "../shared/data"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHOWN_ONLY = {"text", "mermaid"}

FENCE = re.compile(r"^(?P<indent> *)```(?P<info>.*)$")
DIRECTIVE = re.compile(r"^ *<!-- (needs data|not run: .+) -->$")
TITLE = re.compile(r'title="([^"]+)"')

MASKS: list[tuple[re.Pattern[str], str]] = [
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:00)?"), "<time>"),
    (re.compile(r"\b\d+(\.\d+)? ?(µs|ms|s|min)\b"), "<duration>"),
    (re.compile(r'("(?:duration_ms|total_duration_ms)": )[\d.e-]+'), r"\1<duration>"),
    (re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,64}\b…?"), "<hex>"),
    (re.compile(r"(127\.0\.0\.1|localhost):\d+"), r"\1:<port>"),
    (re.compile(r"\bpid \d+"), "pid <n>"),
    # Columns shift with what was masked in them, and bars follow the durations.
    (re.compile(r"[━╸╺─▏▎▍▌▋▊▉█▕░]+"), "<bar>"),
    (re.compile(r"[ \t]+"), " "),
]


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, the file it is to be written to, and where it stands."""

    page: Path
    line: int
    language: str
    title: str | None
    text: str
    directive: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path, text: str | None = None) -> Iterator[Block]:
    """The fenced blocks of a page, in order; text stands in for the page's own in tests."""
    directive, start, info, indent, body = "", 0, "", "", [""]
    source = page.read_text("utf-8") if text is None else text
    for number, line in enumerate(source.splitlines(), 1):
        fence = FENCE.match(line)
        if start and fence and not fence["info"]:
            language = info.partition(" ")[0]
            title = TITLE.search(info)
            yield Block(page, start, language, title[1] if title else None, "\n".join(body), directive)
            start, directive = 0, ""
        elif start:
            body.append(line.removeprefix(indent))
        elif fence:
            start, info, indent, body = number, fence["info"], fence["indent"], []
        elif match := DIRECTIVE.match(line):
            directive = match[1]
        elif line.strip():
            directive = ""


def masked(text: str) -> list[str]:
    """The lines to compare: without what differs from run to run, without empty lines around."""
    for pattern, replacement in MASKS:
        text = pattern.sub(replacement, text)
    return [line.rstrip() for line in text.strip().splitlines()]


def fits(expected: list[str], actual: list[str]) -> bool:
    """Whether the lines are equal; `...` in expected stands for any number of lines."""
    if "..." not in expected:
        return expected == actual
    cut = expected.index("...")
    head, tail = expected[:cut], expected[cut + 1 :]
    if actual[:cut] != head:
        return False
    return any(fits(tail, actual[start:]) for start in range(cut, len(actual) + 1))


def commands_of(text: str) -> Iterator[tuple[str, str, int]]:
    """(command, expected output, expected exit code) of each command of a console block."""
    command: list[str] = []
    output: list[str] = []
    lines = [*text.splitlines(), "$ "]
    for line in lines:
        if line.startswith("$ "):
            if command:
                whole = "\n".join(command)
                code = re.search(r"# exits (\d+)$", whole)
                yield whole, "\n".join(output), int(code[1]) if code else 0
            command, output = [line[2:]], []
        elif command and not output and line.startswith("> "):
            command.append(line.removeprefix("> "))
        elif command:
            output.append(line)
        else:
            raise AssertionError(f"a console block begins with a command, not with {line!r}")


REPL = """
import contextlib, io, json, sys, traceback
names = {"__name__": "__main__"}
for line in sys.stdin:
    request, out, error = json.loads(line), io.StringIO(), None
    with contextlib.redirect_stdout(out):
        try:
            exec(compile("\\n" * request["line"] + request["text"], request["file"], "exec"), names)
        except BaseException:
            error = traceback.format_exc()
    print(json.dumps({"out": out.getvalue(), "error": error}), flush=True)
"""


_NOT_A_READERS = ("ISOTRACE", "PYTEST", "COVERAGE", "CI", "GITHUB_")


class Reader:
    """Does what a reader of one page would do, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # A reader is at a terminal, not in continuous integration, where pytest and others write more.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_A_READERS)}
        self.env = {
            **kept,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "100",
            "NO_COLOR": "1",
            # Plugins of tools for development, which a reader need not have.
            "PYTEST_ADDOPTS": "-p no:asyncio -p no:langsmith_plugin",
            "TZ": "UTC",
        }
        if DATA.is_dir():
            (folder / "data").symlink_to(DATA.resolve())
        self._python: subprocess.Popen[str] | None = None

    def close(self) -> None:
        if self._python is not None:
            self._python.communicate()

    def read(self, block: Block) -> None:
        if block.directive.startswith("not run"):
            return
        if block.directive == "needs data" and not DATA.is_dir():
            return
        if block.title:
            (self.folder / block.title).write_text(block.text + "\n", "utf-8")
        elif block.language == "python":
            self._run_python(block)
        elif block.language == "console":
            self._run_console(block)
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "toml":
            tomllib.loads(block.text)
        else:
            assert block.language in SHOWN_ONLY, f"{block.where}: unknown language {block.language!r}"

    def _run_python(self, block: Block) -> None:
        if self._python is None:
            self._python = subprocess.Popen(
                [sys.executable, "-c", REPL],
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        request = {"text": block.text, "file": str(block.page), "line": block.line}
        self._python.stdin.write(json.dumps(request) + "\n")
        self._python.stdin.flush()
        answer: dict[str, Any] = json.loads(self._python.stdout.readline())
        assert answer["error"] is None, f"{block.where}\n{answer['error']}"
        expected = [line[2:].strip() for line in block.text.splitlines() if line.startswith("#>")]
        if expected:
            assert masked("\n".join(expected)) == masked(answer["out"]), block.where

    def _run_console(self, block: Block) -> None:
        for command, output, code in commands_of(block.text):
            done = subprocess.run(
                ["bash", "-c", command],  # people type these lines into a shell
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=120,
                check=False,
            )
            said = f"{block.where}: $ {command}\n{done.stdout}"
            assert done.returncode == code, f"exit code {done.returncode}, not {code}\n{said}"
            expected, actual = masked(output), masked(done.stdout)
            assert fits(expected, actual), "\n".join(
                [f"the output differs from the page\n{said}", "--- expected, masked", *expected]
            )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    try:
        for block in blocks_of(page):
            reader.read(block)
    finally:
        reader.close()


def test_directive_holds_for_the_next_block_alone() -> None:
    text = "<!-- not run: x -->\n\n```console\n$ a\n```\n```console\n$ b\n```\n"
    assert [block.directive for block in blocks_of(ROOT / "x.md", text)] == ["not run: x", ""]


def test_ellipsis_stands_for_any_lines_and_nothing_else_does() -> None:
    assert fits(["a", "...", "d"], ["a", "b", "c", "d"])
    assert fits(["a", "..."], ["a"])
    assert not fits(["a", "...", "d"], ["a", "b", "c"])
    assert not fits(["a"], ["a", "b"])


def test_masks_hide_what_varies_and_keep_what_does_not() -> None:
    first = "0f3a9bc2d1e4 2026-01-02 03:04:05 12.5 ms PARAMS_CHANGED at 4"
    second = "77aa0bc2d1e4 2025-11-12 13:14:15 3 s PARAMS_CHANGED at 4"
    assert masked(first) == masked(second)
    assert masked(first) != masked(second.replace("at 4", "at 5"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```python\nraise ValueError('x')\n```", "ValueError"),
        ("```python\nprint(1)\n#> 2\n```", "x.md"),
        ("```console\n$ echo a\nb\n```", "the output differs"),
        ("```console\n$ false\n```", "exit code 1"),
        ("```klingon\n```", "unknown language"),
    ],
)
def test_block_that_does_not_do_what_it_says_is_found(text: str, complaint: str, tmp_path: Path) -> None:
    (block,) = blocks_of(ROOT / "x.md", text)
    reader = Reader(tmp_path)
    with pytest.raises(AssertionError, match=complaint):
        reader.read(block)
    reader.close()
