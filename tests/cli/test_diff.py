"""`isotrace diff`"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

RUN_A, RUN_B = "a" * 32, "b" * 32

SIDE_BY_SIDE = """\
DIVERGED  PARAMS_CHANGED at step 2: params differ at /city ("Paris" → "Rome")

  A aaaaaaaaaaaa  support  completed    │ B bbbbbbbbbbbb  support  completed
  5 steps · 527 ms · 0.42 ¢ · task 13 … │ 5 steps · 527 ms · 0.42 ¢ · task 13 …
  ──────────────────────────────────────┼──────────────────────────────────────
  0 ◆ chat                              │ 0 ◆ chat
  1 ▸ get_order                         │ 1 ▸ get_order
≠ 2 ▸ weather  {city: "Paris"}          │ 2 ▸ weather  {city: "Rome"}
  3 ▸ weather                           │ 3 ▸ weather
  4 ▸ refund  ✗ TRANSIENT TimeoutError… │ 4 ▸ refund  ✗ TRANSIENT TimeoutError…

First divergence: PARAMS_CHANGED at step 2
  The same skill was called with params that differ at these JSON Pointers.
  /city
    - "Paris"
    + "Rome"
"""


def test_two_columns_with_the_first_divergence(isotrace: Callable[..., Any]) -> None:
    said = isotrace("diff", "aaa", "bbb", columns=82)
    assert said.code == 1
    assert said.out.startswith(SIDE_BY_SIDE)


def test_narrow_terminal_gets_one_column(terminal: Callable[..., Any]) -> None:
    screen = terminal(60, "diff", "aaa", "bbb")
    assert screen.code == 1
    assert '- 2 ▸ weather  {city: "Paris"}' in screen.text
    assert '+ 2 ▸ weather  {city: "Rome"}' in screen.text
    assert "│" not in screen.text


@pytest.mark.parametrize("columns", [60, 80, 100, 160, 240])
def test_rows_fit_the_terminal(terminal: Callable[..., Any], columns: int) -> None:
    rows = [line for line in terminal(columns, "diff", "aaa", "bbb").lines if "▸" in line or "│" in line]
    assert rows
    assert max(map(len, rows)) <= columns


def test_json_has_verdict_parity_and_divergences(isotrace: Callable[..., Any]) -> None:
    said = isotrace("diff", "aaa", "bbb", "--json")
    found = said.json
    assert said.code == 1
    assert found["verdict"] == "DIVERGED"
    assert found["parity"]["divergence_step"] == 2
    first = found["divergences"][0]
    assert (first["code"], first["index"], first["pointers"]) == ("PARAMS_CHANGED", 2, ["/city"])
    assert (first["expected"], first["actual"]) == ({"/city": "Paris"}, {"/city": "Rome"})
    assert found["alignment"][2] == ["changed", 2, 2]


def test_run_against_itself_matches(isotrace: Callable[..., Any]) -> None:
    said = isotrace("diff", "aaa", "aaa", columns=80)
    assert said.code == 0
    assert said.out.startswith("MATCH\n")
    assert "… 5 equal steps" in said.out


def test_match_says_that_the_runs_ended_differently(
    isotrace: Callable[..., Any], put: Callable[..., None], build: Callable[..., Any]
) -> None:
    put(build("c" * 32).step("count", {"n": 1}).sealed())
    put(build("d" * 32).step("count", {"n": 1}).sealed("failed"))
    said = isotrace("diff", "ccc", "ddd", columns=120)
    assert said.code == 0
    assert said.out.startswith("MATCH  FINAL_RESULT_CHANGED at step 1: the run's end differs at /status")
    assert isotrace("diff", "ccc", "ddd", "--json").json["divergences"][0]["severity"] == "warning"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--kind", "llm"], 0),
        (["--kind", "tool"], 1),
        (["--kind", "retrieval"], 125),
        (["--level", "skeleton"], 0),
        (["--level", "outcome"], 0),
        (["--level", "exact"], 1),
        (["--ignore", "/city"], 0),
        (["--ignore", "weather:/city"], 0),
        (["--ignore", "chat:/city"], 1),
        (["--level", "none"], 2),
        (["--ignore", "city"], 2),
        (["--kind", "tol"], 2),
    ],
)
def test_options_decide_what_is_compared(isotrace: Callable[..., Any], options: list[str], code: int) -> None:
    assert isotrace("diff", "aaa", "bbb", *options).code == code


def test_erased_content_is_inconclusive(isotrace: Callable[..., Any]) -> None:
    assert isotrace("erase", "aaa", "--step", "1", "--reason", "test", "--yes").code == 0
    assert isotrace("diff", "aaa", "aaa").code == 125
    assert isotrace("show", "aaa").out.count("erased, commitment") == 2


def test_difference_deep_in_a_long_text_is_in_view(
    isotrace: Callable[..., Any], put: Callable[..., None], build: Callable[..., Any]
) -> None:
    long = "All work and no play makes Jack a dull boy. " * 40
    put(build("c" * 32).step("chat", {"messages": [{"content": long + "one" + long}]}).sealed())
    put(build("d" * 32).step("chat", {"messages": [{"content": long + "two" + long}]}).sealed())
    for columns in (60, 100):
        out = isotrace("diff", "ccc", "ddd", columns=columns).out
        assert "/messages/0/content" in out
        changes = out[out.index("First divergence") :]
        assert "dull boy. one" in changes
        assert "dull boy. two" in changes


def test_long_runs_show_what_differs_and_say_what_is_left_out(
    isotrace: Callable[..., Any], put: Callable[..., None], build: Callable[..., Any]
) -> None:
    for name, city in (("c", "Paris"), ("d", "Rome")):
        run = build(name * 32)
        for number in range(300):
            run.step("count", {"number": number, "city": city if number % 100 == 50 else ""})
        put(run.sealed())
    out = isotrace("diff", "ccc", "ddd", columns=100).out
    assert "… 48 equal steps" in out
    assert "… 95 equal steps" in out
    assert "After it: 2 × PARAMS_CHANGED" in out
    assert isotrace("diff", "ccc", "ddd", "--all", columns=100).out.count("▸ count") == 600
