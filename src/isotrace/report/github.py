"""Checked golden runs as GitHub shows them: annotations at the lines of a pull request, and a summary.

Workflow commands are lines on stdout: `::error file=…,line=…,title=…::message`
(docs.github.com, "Workflow commands for GitHub Actions").
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from isotrace.formats.golden_text import value_text
from isotrace.operations import Checked, CheckReport
from isotrace.report.safe import shortened, visible

_MAX_MESSAGE = 4000
_WORDS = {0: "match", 1: "**diverged**", 2: "**not checked**", 125: "can't be told"}


def workflow_commands(report: CheckReport) -> Iterator[str]:
    """One for each golden run that is no match: an error, or a warning where it can't be told."""
    for one in report.checked:
        if one.exit_code:
            yield _annotation(one)


def _annotation(one: Checked) -> str:
    level = "warning" if one.exit_code == 125 else "error"
    if one.error is not None:
        title = type(one.error).__name__
    elif one.first is not None:
        title = one.first.code.value
    else:
        title = "INCONCLUSIVE"
    reason = shortened(one.reason or "it can't be told whether the run is the recorded one", _MAX_MESSAGE)
    message = "\n".join(visible(line) for line in reason.splitlines())
    place = {"file": _from_root(one.path), "line": str(line_of(one)), "title": f"golden run: {title}"}
    properties = ",".join(f"{name}={_property(visible(value))}" for name, value in place.items())
    return f"::{level} {properties}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _from_root(path: Path) -> str:
    """The path as the repository has it."""
    root = os.environ.get("GITHUB_WORKSPACE")
    whole = path.absolute()
    if root and whole.is_relative_to(root):
        return whole.relative_to(root).as_posix()
    return path.as_posix()


def line_of(one: Checked) -> int:
    """The line of the golden file that a result is about: of the step where the run parted from it, or of the
    error; 1 where there is none."""
    if one.error is not None:
        file, _, line = (one.error.where or "").rpartition(":")
        return int(line) if file == str(one.path) and line.isdigit() else 1
    if one.first is None or one.first.index is None:
        return 1
    start = f"step_started lineage={value_text(list(one.first.lineage))} "
    with one.path.open(encoding="utf-8") as lines:
        return next((number for number, line in enumerate(lines, 1) if line.startswith(start)), 1)


def summary_markdown(report: CheckReport) -> str:
    """A table for the page of the workflow run."""
    rows = [
        "| golden run | agent | | |",
        "| --- | --- | --- | --- |",
        *(
            f"| `{_cell(str(one.path))}` | {_cell(one.agent_id or '')} | {_WORDS[one.exit_code]} |"
            f" {_cell(shortened(one.reason or '', 300))} |"
            for one in report.checked
        ),
    ]
    return "\n".join(("### isotrace check", "", *rows, "", ""))


def _cell(text: str) -> str:
    escaped = visible(text).replace("\\", "\\\\").replace("|", "\\|").replace("`", "'")
    return escaped.replace("<", "&lt;").replace("[", "\\[").replace("@", "@\u200b")
