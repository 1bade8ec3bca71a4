"""Which code a golden run is replayed with: never what the record says, unless the project says so too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isotrace.errors import NoEntryPointError, UsageError
from isotrace.events import Event
from isotrace.ledger import Ledger
from isotrace.operations.entries import Entries, Entry, project_entries, suggested
from isotrace.operations.recording import redactors_of
from isotrace.operations.surroundings import environment_of
from isotrace.testing.runs import make_run

PROGRAM = {
    "kind": "program",
    "target": "/projects/ann/agents/nightly.py",
    "module": False,
    "arguments": ["--limit", "3"],
    "cwd": "/projects/ann",
    "seeds": {"random": "00", "hash": 7},
    "agent": "nightly",
}
FUNCTION = {
    "kind": "function",
    "module": "agents.support",
    "qualname": "main",
    "file": "/a/agents/support.py",
}


def run_of(entry_point: Any, agent_id: str | None = "support", **facts: Any) -> Ledger:
    facts = {"entry_point": entry_point, **facts}
    return make_run("run-1", agent_id=agent_id, facts=facts, result="done").ledger


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("agents.support:main", {"function": "agents.support:main"}),
        ("agents/support.py:Support.main", {"function": "agents/support.py:Support.main"}),
        ("nightly.py", {"target": "nightly.py"}),
        ("'my agent.py' --day 'next week'", {"target": "my agent.py", "arguments": ("--day", "next week")}),
        ("-m agents.nightly 3", {"target": "agents.nightly", "module": True, "arguments": ("3",)}),
    ],
)
def test_an_entry_is_a_function_or_a_program(text, expected):
    assert Entry.of(text, Path("/p")) == Entry(text, Path("/p"), **expected)


@pytest.mark.parametrize("text", ["", " ", "main", "-m", "rm -rf /", "a:", ":main", "agent.py:", "'agent.py"])
def test_what_names_no_code_is_refused(text):
    with pytest.raises(UsageError, match="MODULE:FUNCTION"):
        Entry.of(text, Path("/nowhere"))


def test_a_program_takes_seeds_and_arguments_from_the_record_and_nothing_else():
    evil = {**PROGRAM, "target": "/evil/evil.py", "module": True, "cwd": "/evil", "spelled": "evil.py"}
    entry = Entry.of("agents/nightly.py", Path("/p"))
    assert entry.program(run_of(evil, "nightly")) == {
        "kind": "program",
        "target": "/p/agents/nightly.py",
        "module": False,
        "arguments": ["--limit", "3"],
        "cwd": "/p",
        "spelled": "agents/nightly.py",
        "seeds": {"random": "00", "hash": 7},
        "agent": "nightly",
    }
    beside = Entry.of("agents/nightly.py --limit 1", Path("/p")).program(
        run_of({**FUNCTION, "program": evil})
    )
    assert beside is not None
    assert (beside["arguments"], "agent" in beside) == (["--limit", "1"], False)
    assert Entry.of("a:b", Path("/p")).program(run_of(evil)) is None


@pytest.mark.parametrize(
    ("entry_point", "expected"),
    [
        (None, None),
        ("odd", None),
        (FUNCTION, "agents.support:main"),
        ({**FUNCTION, "module": "__main__"}, "support.py:main"),
        (PROGRAM, "agents/nightly.py"),
        ({**PROGRAM, "cwd": "/elsewhere"}, "nightly.py"),
        ({**PROGRAM, "target": "agents.nightly", "module": True}, "-m agents.nightly"),
        ({**FUNCTION, "program": PROGRAM}, "agents/nightly.py"),
    ],
)
def test_what_the_record_says_is_a_suggestion(entry_point, expected):
    assert suggested(run_of(entry_point)) == expected


@pytest.mark.parametrize(
    ("file", "agent", "lines"),
    [
        ("pyproject.toml", "support", '[tool.isotrace.entries]\n    support = "agents.support:main"'),
        (
            "isotrace.toml",
            'the "agent"\n',
            '[entries]\n    "the \\"agent\\"\\U0000000a" = "agents.support:main"',
        ),
    ],
)
def test_the_lines_to_add_fit_the_file(tmp_path, file, agent, lines):
    entries = Entries(tmp_path, tmp_path / file)
    with pytest.raises(NoEntryPointError) as raised:
        entries.of(run_of(FUNCTION, agent))
    assert str(raised.value).endswith(lines)
    (tmp_path / file).write_text(lines)
    assert project_entries(tmp_path).of(run_of(FUNCTION, agent)).function == "agents.support:main"


def test_the_nearest_settings_upwards_are_those_of_the_project(tmp_path):
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[tool.isotrace.entries]\nx = "a:b"\n')
    assert project_entries(below) == Entries(tmp_path, tmp_path / "pyproject.toml", {"x": "a:b"})
    (tmp_path / "a" / "isotrace.toml").write_text("")
    assert project_entries(below) == Entries(tmp_path / "a", tmp_path / "a" / "isotrace.toml", {})
    assert project_entries(below, given="c:d").of(run_of(None)).function == "c:d"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["program", "function", "/p", "\0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["kind", "program", "target", "module", "arguments", "cwd", "seeds", "hash", "use", "index"]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(entry_point=JSON, redactors=JSON, noted=JSON, source=st.sampled_from([{}, {"source": "environment"}]))
def test_no_record_makes_this_process_fail(entry_point, redactors, noted, source):
    ledger = run_of(entry_point, redactors=redactors)
    value = make_run("x", result=noted).ledger.events[-1].values.get("result", b"null")
    ledger.events.insert(1, Event(1, "value_read", 0, {"gap": -1, **source}, {"value": value}))
    suggested(ledger)
    redactors_of(ledger)
    Entry.of("agent.py", Path("/p")).program(ledger)
    environment_of(ledger, placeholders=True)
