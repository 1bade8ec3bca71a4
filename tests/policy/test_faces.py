"""Policies on the command line: run, ls, show, diff, backtest, fork."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cel_expr_python  # noqa: F401  # conditions: where it is absent, this file is left out
import pytest
import yaml  # noqa: F401  # files of rules

AGENT = """
import sys
import isotrace

@isotrace.skill(effect="read")
def get_order(order):
    return {"cents": int(sys.argv[1]) if len(sys.argv) > 1 else 4990}

@isotrace.skill
def refund(order, cents):
    open("refunded", "a").write(f"{order} {cents}\\n")
    return {"ok": True}

@isotrace.agent("support")
def support(order):
    found = get_order(order)
    return refund(order, found["cents"])

support("A1")
"""

RULES = """
rules:
  - id: no-big-refunds
    skills: [refund]
    before: params.cents > 5000
    action: stop
    reason: a person decides
  - id: any-refund
    skills: [refund]
    deny: true
    action: flag
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "agent.py").write_text(AGENT)
    (tmp_path / "rules.yaml").write_text(RULES)
    return tmp_path


def isotrace(here: Path, *arguments: str, code: int = 0, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ISOTRACE_")}
    done = subprocess.run(
        [sys.executable, "-m", "isotrace.cli", *arguments],
        cwd=here,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def refunds(here: Path) -> list[str]:
    file = here / "refunded"
    return file.read_text().splitlines() if file.exists() else []


def test_a_program_is_held_to_its_rules_and_told_everywhere(here: Path) -> None:
    isotrace(here, "run", "--policy", "rules.yaml", "agent.py", "100")
    assert refunds(here) == ["A1 100"]
    said = isotrace(here, "run", "--policy", "rules.yaml", "agent.py", "9000", code=1)
    assert "PolicyViolation: a person decides (refund: params.cents > 5000)" in said
    assert refunds(here) == ["A1 100"]
    isotrace(here, "run", "agent.py", "9000", code=1, ISOTRACE_POLICY=str(here / "rules.yaml"))
    assert refunds(here) == ["A1 100"]

    [stopped] = json.loads(isotrace(here, "ls", "policy=no-big-refunds", "--limit", "1", "--json"))
    assert stopped["violation_step_index"] == 1
    assert stopped["violation_policy_id"] == "no-big-refunds"
    assert stopped["violation_reason"] == "a person decides (refund: params.cents > 5000)"
    assert stopped["violation_timestamp"].endswith("Z")
    assert len(json.loads(isotrace(here, "ls", "--violations", "--json"))) == 3
    assert len(json.loads(isotrace(here, "ls", "--policy", "no-big-refunds", "--json"))) == 2
    assert "⚑" in isotrace(here, "ls", PYTHONUTF8="1")

    shown = isotrace(here, "show", "@last", PYTHONUTF8="1")
    assert "⊘" in shown
    assert "⚑ violates no-big-refunds: a person decides (refund: params.cents > 5000)" in shown
    step = isotrace(here, "show", "@last", "--step", "1")
    assert "violates no-big-refunds" in step

    replayed = json.loads(isotrace(here, "replay", "@last", "--json").splitlines()[0])
    assert replayed["verdict"] == "MATCH"
    assert refunds(here) == ["A1 100"]


def test_a_violation_that_only_one_run_has_is_named_by_diff(here: Path) -> None:
    isotrace(here, "run", "agent.py", "100")
    isotrace(here, "run", "--policy", "rules.yaml", "agent.py", "100")
    said = isotrace(here, "diff", "@last~1", "@last")
    assert said.startswith("MATCH")
    assert "only B violates any-refund at step 1: refund is denied" in said
    told = json.loads(isotrace(here, "diff", "@last", "@last~1", "--json"))
    assert told["violations"] == [
        {"side": "original", "step_index": 1, "policy_id": "any-refund", "reason": "refund is denied"}
    ]
    assert json.loads(isotrace(here, "diff", "@last", "@last", "--json"))["violations"] == []


def test_a_backtest_exits_with_1_if_a_run_would_have_been_stopped(here: Path) -> None:
    isotrace(here, "run", "agent.py", "100")
    said = isotrace(here, "backtest", "rules.yaml")
    assert said.startswith("none of 1 run would have been stopped\n1 more would have been flagged\n")
    isotrace(here, "run", "agent.py", "9000")
    said = isotrace(here, "backtest", "rules.yaml", "agent=support", code=1)
    assert said.startswith("1 of 2 runs would have been stopped, 1 of them had succeeded\n")
    assert "no-big-refunds: a person decides (refund: params.cents > 5000)" in said
    told = json.loads(isotrace(here, "backtest", "rules.yaml", "--limit", "1", "--json", code=1))
    assert (told["runs"], told["stopped"], told["false_alarms"]) == (1, 1, 1)
    assert told["saving"]["steps"] == 1
    nothing = isotrace(here, "backtest", "rules.yaml", "agent=other", code=125)
    assert nothing == "no run fits the query: nothing was judged\n"


def test_rules_that_are_wrong_end_a_command_before_anything_runs(here: Path) -> None:
    (here / "rules.yaml").write_text("rules:\n  - {id: a, action: stop, before: parms.x > 1}\n")
    for arguments in (("run", "--policy", "rules.yaml", "agent.py"), ("backtest", "rules.yaml")):
        said = isotrace(here, *arguments, code=2)
        assert "rules.yaml:2:35, rule a, line 1, column 6 of the expression" in said, said
    assert refunds(here) == []


def test_a_fork_can_be_held_to_rules(here: Path) -> None:
    isotrace(here, "run", "agent.py", "9000")
    said = isotrace(here, "fork", "@last", "--at", "1", "--allow", "*", "--policy", "rules.yaml", "--json")
    assert json.loads(said.splitlines()[0])["verdict"] == "DIVERGED"
    assert refunds(here) == ["A1 9000"]
    assert json.loads(isotrace(here, "ls", "--policy", "no-big-refunds", "--json")) != []
