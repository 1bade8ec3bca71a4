"""What continuous integration is told of golden runs, whatever stands in them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from isotrace.errors import ImportFormatError, ReplayError
from isotrace.operations import Replayed
from isotrace.operations.checking import Checked, CheckReport, worst
from isotrace.report.github import summary_markdown, workflow_commands
from isotrace.report.junit import junit_xml

HOSTILE = "a\x1b[31m<b>&\"'\x00\r\n::error::x\u202e\ufffe, 100%\ud800 |`@you`"
STARTED = datetime(2026, 11, 22, 23, 0, tzinfo=UTC)


def replayed(verdict: str, **more: Any) -> Replayed:
    data = {"verdict": verdict, "divergences": [], "notes": [], "cause": None, **more}
    return Replayed(data)


def diverged(message: str) -> Replayed:
    divergence = {
        "code": "PARAMS_CHANGED",
        "index": 0,
        "lineage": [0],
        "pointers": ["/q"],
        "expected": None,
        "actual": None,
        "nearest": None,
        "original_index": 0,
        "replay_index": 0,
        "message": message,
        "severity": "error",
    }
    return replayed("DIVERGED", divergences=[divergence], cause={"why": "PROMPT", "message": message})


@pytest.fixture
def report(tmp_path: Path) -> CheckReport:
    golden = tmp_path / "g.golden"
    golden.write_text("isotrace golden 1 iso1\nrun_started\nstep_started lineage=[0] kind=llm\n")
    return CheckReport(
        [
            Checked(Path("g/ok.golden"), replayed=replayed("MATCH"), seconds=0.25),
            Checked(golden, agent_id=HOSTILE, replayed=diverged(HOSTILE)),
            Checked(Path("g/x.golden"), error=ImportFormatError(HOSTILE, where="g/x.golden:7")),
            Checked(Path("g/y.golden"), error=ReplayError("the program ended")),
            Checked(Path("g/z.golden"), replayed=replayed("INCONCLUSIVE", notes=[HOSTILE])),
        ]
    )


def test_the_worst_code_is_that_of_the_report(report):
    assert report.exit_code == 2
    assert [one.exit_code for one in report.checked] == [0, 1, 2, 2, 125]
    assert [worst(codes) for codes in ([], [0, 0], [0, 125], [125, 1, 0], [1, 2])] == [0, 0, 125, 1, 2]


def test_junit_tells_failures_errors_and_what_is_skipped_apart_and_shows_controls(report):
    text = junit_xml(report, started=STARTED, hostname="host")
    root = ET.fromstring(text.encode())
    (suite,) = root
    assert suite.attrib == {
        "name": "isotrace check",
        "tests": "5",
        "failures": "1",
        "errors": "2",
        "skipped": "1",
        "time": "0.250",
        "timestamp": "2026-11-22T23:00:00",
        "hostname": "host",
    }
    assert [[one.tag for one in case] for case in suite] == [
        [],
        ["failure"],
        ["error"],
        ["error"],
        ["skipped"],
    ]
    (failure,) = suite[1]
    assert failure.get("type") == "PARAMS_CHANGED"
    shown = "a␛[31m<b>&\"'␀␍↵::error::x<U+202E><U+FFFE>, 100%<U+D800> |`@you`"
    assert failure.get("message") == f"PARAMS_CHANGED at step 0: {shown}"
    assert f"PROMPT: {shown.replace('␍↵', chr(10))}" in (failure.text or "")
    assert suite[4][0].attrib == {"message": shown}


def test_a_workflow_command_is_one_line_whatever_it_says(report):
    lines = list(workflow_commands(report))
    assert [line.split(" ", 1)[0] for line in lines] == ["::error", "::error", "::error", "::warning"]
    assert all(line.replace("\ufffe", "").isprintable() for line in lines)
    assert re.match(r"::error file=\S+g\.golden,line=3,title=golden run%3A PARAMS_CHANGED::PARAMS", lines[0])
    assert "%0A::error::x<U+202E>" in lines[0]
    assert "100%25" in lines[0]
    assert lines[1].startswith("::error file=g/x.golden,line=7,title=golden run%3A ImportFormatError::a␛")
    assert lines[2].startswith("::error file=g/y.golden,line=1,title=golden run%3A ReplayError::the program")
    assert lines[3].startswith("::warning file=g/z.golden,line=1,title=golden run%3A INCONCLUSIVE::a␛")


def test_a_row_of_the_summary_can_not_leave_its_table(report):
    rows = [line for line in summary_markdown(report).splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 5
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)
    assert not any("<b>" in row or "@you" in row for row in rows)
