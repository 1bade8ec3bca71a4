"""Recorded text can't reach the terminal as anything but text."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotrace.report.safe import json_text, plain, summary, visible, visible_lines

EVIL = (
    "\x1b[2J\x1b]0;owned\x07[bold red]x[/] :skull: "
    "\x9b31m a\u202eb\u2066c\u200bd\r\nline two\x08\x00 \U000e0041"
)


JOINERS = "\u200c\u200d"
SEEN = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
"""Format characters that are drawn: number and verse marks."""


def harmless(text: str) -> bool:
    """No control, surrogate or invisible format character, but line ends and joiners."""
    allowed = {"\n", *JOINERS, *SEEN}
    return all(c in allowed or unicodedata.category(c) not in ("Cc", "Cf", "Cs") for c in text)


@pytest.fixture
def evil(put: Callable[..., None], build: Callable[..., Any]) -> str:
    """A run with hostile text wherever text can stand."""
    run = build(
        "e" * 31 + "1",
        agent_id=EVIL,
        correlation_id=EVIL,
        metadata={"task": EVIL, EVIL: EVIL, "model": EVIL, "replayability": [EVIL]},
    )
    run.step(EVIL, {EVIL: EVIL, "list": [EVIL]}, {"value": EVIL}, kind=EVIL)
    run.step("fails", {"x": EVIL}, error=("PERMANENT", EVIL, EVIL))
    run.violation(EVIL, EVIL, (0,))
    put(run.sealed())
    other = build("e" * 31 + "2", agent_id=EVIL, metadata={"task": EVIL})
    other.step(EVIL, {EVIL: EVIL + "!", "list": [EVIL]}, {"value": EVIL}, kind=EVIL)
    put(other.sealed())
    return "e" * 31 + "1"


COMMANDS = [
    ["ls"],
    ["ls", "--json"],
    ["show", "RUN"],
    ["show", "RUN", "--json"],
    ["show", "RUN", "--step", "0"],
    ["show", "RUN", "--step", "1"],
    ["diff", "RUN", "OTHER"],
    ["diff", "RUN", "OTHER", "--all"],
    ["diff", "RUN", "OTHER", "--json"],
    ["behaviours", "--by", "task"],
    ["verify", "RUN"],
    ["prove", "RUN", "0"],
    ["ls", "--agent", EVIL.replace("\x00", "")],
    ["show", EVIL.replace("\x00", "")],
]


@pytest.mark.parametrize(
    "command", COMMANDS, ids=lambda command: " ".join(command[:3]).encode("ascii", "replace").decode()[:30]
)
def test_hostile_text_is_shown_harmlessly(
    isotrace: Callable[..., Any], terminal: Callable[..., Any], evil: str, command: list[str]
) -> None:
    arguments = [{"RUN": evil, "OTHER": evil[:-1] + "2"}.get(word, word) for word in command]
    said = isotrace(*arguments)
    assert harmless(said.out)
    assert harmless(said.err)
    for columns in (60, 120):
        screen = terminal(columns, *arguments)
        assert harmless(screen.text)
        assert "\x1b]" not in screen.raw
        assert "\x1b[2J" not in screen.raw


def test_markup_is_shown_as_it_was_recorded(isotrace: Callable[..., Any], evil: str) -> None:
    out = isotrace("show", evil, columns=160).out
    assert "[bold red]x[/] :skull:" in out


@given(st.text(st.characters()))
def test_visible_is_one_harmless_line_and_idempotent(text: str) -> None:
    shown = visible(text)
    assert harmless(shown)
    assert "\n" not in shown
    assert visible(shown) == shown


@given(st.text(st.characters(exclude_categories=["C", "Zl", "Zp"], exclude_characters="\u00ad\u180e")))
def test_visible_leaves_plain_text_alone(text: str) -> None:
    assert visible(text) == text


@given(st.text(st.characters()))
def test_lines_are_harmless(text: str) -> None:
    assert all(harmless(line) for line in visible_lines(text))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON, st.booleans())
def test_json_text_is_harmless_and_reads_back(value: Any, indent: bool) -> None:
    text = json_text(value, indent=indent)
    assert harmless(text)
    assert json.loads(text) == value


@given(JSON, st.integers(1, 200))
def test_summary_is_one_line_of_at_most_its_width(value: Any, width: int) -> None:
    for text in (summary(value, width), plain(value, width)):
        assert len(text) <= width
        assert harmless(text)
        assert "\n" not in text


def test_summary_never_reads_as_data_that_is_not_there() -> None:
    """What stands for a part that is left out is no JSON."""
    deep = {"a": {"b": {"content": {"text": "x" * 200}, "list": [["y" * 200], 2]}}}
    assert summary(deep, 60) == "{a: {b: {content: {…1}, list: […2]}}}"
