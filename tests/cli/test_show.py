"""`isotrace show`"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from isotrace.registry import open_store

RUN_A, RUN_B = "a" * 32, "b" * 32

TIMELINE = """\
run aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa  support  completed
  2025-11-22 08:26:40 UTC · 5 steps, 1 failed · 527 ms
  0.42 ¢
  signature {signature} · root {root} · seed 7
  replayable
  task 13 · model gpt-4.1 · trial 0
  input {{task: "refund"}}

0 ◆ chat  ✓                                           312 ms
    {{messages: [{{role: "user", content: "Refund order…"}}]}}
    → {{role: "assistant", content: "Looking it up"}}
1 ▸ get_order  ✓                                      4.2 ms
    {{order_id: "W-1042"}}
    → {{status: "delivered", total: 20.0}}
    ⚑ violates pii/no-email: an e-mail address in params
2 ┊ ▸ weather  ✓                                      120 ms
    ┊ {{city: "Paris"}}  → "sunny"
3 ┊ ▸ weather  ✓                                     80.0 ms
    ┊ {{city: "東京"}}  → 21.5
4 ▸ refund  ✗ failure 2 retries                      10.0 ms
    {{order_id: "W-1042", cents: 2000}}
    → TRANSIENT TimeoutError: gateway timed out

  result "done"
"""


def test_json_is_the_record(isotrace: Callable[..., Any], store_url: str) -> None:
    store = open_store(store_url)
    expected = store.ledger(RUN_A, tenant_id="default").record().to_dict()
    store.close()
    assert isotrace("show", RUN_A, "--json").json == expected


@pytest.mark.parametrize(("name", "run"), [("aaaa", RUN_A), ("@last", RUN_B), ("@last~1", RUN_A)])
def test_run_is_named_by_prefix_or_age(isotrace: Callable[..., Any], name: str, run: str) -> None:
    assert isotrace("show", name, "--json").json["run_id"] == run


@pytest.mark.parametrize("name", ["zzz", "@last~2"])
def test_unknown_run_is_named(isotrace: Callable[..., Any], name: str) -> None:
    said = isotrace("show", name, "--json")
    assert (said.code, said.json["error"]["type"]) == (2, "RunNotFoundError")


def test_prefix_of_several_runs_names_them(
    isotrace: Callable[..., Any], put: Callable[..., None], refund: Callable[..., Any]
) -> None:
    put(refund("aaab" + "c" * 28))
    said = isotrace("show", "aaa", "--json")
    assert (said.code, said.json["error"]["type"]) == (2, "AmbiguousRunError")
    assert RUN_A in said.json["error"]["nearest"]


def test_timeline_on_60_columns(isotrace: Callable[..., Any]) -> None:
    record = isotrace("show", RUN_A, "--json").json
    said = isotrace("show", RUN_A, columns=60)
    expected = TIMELINE.format(signature=record["checksum"][:12], root=record["root_hash"][:12])
    assert said.out.splitlines() == expected.splitlines()


@pytest.mark.parametrize("columns", [60, 80, 100, 160])
def test_timeline_fits_the_terminal(terminal: Callable[..., Any], columns: int) -> None:
    screen = terminal(columns, "show", RUN_A)
    assert screen.code == 0
    # The terminal counts cells: a CJK character takes two.
    assert max(len(line) + sum(ord(c) > 0x2E80 for c in line) for line in screen.lines) <= columns


def test_wide_timeline_places_bars_by_time(isotrace: Callable[..., Any]) -> None:
    lines = isotrace("show", RUN_A, columns=100).out.splitlines()
    bars = [line for line in lines if "━" in line]
    assert len(bars) == 5
    starts = [line.index("━") for line in bars]
    assert starts == sorted(starts)
    assert bars[0].count("━") > bars[2].count("━") > bars[1].count("━")


def test_one_step_in_full(isotrace: Callable[..., Any]) -> None:
    said = isotrace("show", RUN_A, "--step", "4", columns=100)
    record = isotrace("show", RUN_A, "--json").json
    assert "refund  ✗ failure TRANSIENT TimeoutError" in said.out
    assert '"cents": 2000' in said.out
    assert "gateway timed out" in said.out
    assert isotrace("show", RUN_A, "--step", "4", "--json").json == record["steps"][4]


@pytest.mark.parametrize("step", ["5", "-1"])
def test_step_that_is_not_there_is_named(isotrace: Callable[..., Any], step: str) -> None:
    said = isotrace("show", RUN_A, "--step", step)
    assert said.code == 2
    assert "expected 0 to 4" in said.err


def test_range_of_steps(isotrace: Callable[..., Any]) -> None:
    out = isotrace("show", RUN_A, "--steps", "1:3", columns=60).out
    assert "get_order" in out
    assert '"Paris"' in out
    assert "chat" not in out.split("input")[1].split("result")[0]
    for wrong in ("x", "3:1", "9:", "2:2"):
        assert isotrace("show", RUN_A, "--steps", wrong).code == 2


def test_long_run_shows_both_ends_on_a_terminal_and_all_in_a_pipe(
    terminal: Callable[..., Any],
    isotrace: Callable[..., Any],
    put: Callable[..., None],
    build: Callable[..., Any],
) -> None:
    run = build("c" * 32)
    for number in range(500):
        run.step("count", {"number": number})
    put(run.sealed())
    text = terminal(80, "show", "ccc").text
    assert "… 300 more steps: --steps 100:400" in text
    assert "number: 99}" in text
    assert "number: 100}" not in text
    assert "number: 499}" in text
    assert isotrace("show", "ccc").out.count("▸ count") == 500


def test_run_without_steps_and_without_times(
    isotrace: Callable[..., Any], put: Callable[..., None], build: Callable[..., Any]
) -> None:
    put(
        build(
            "c" * 32, metadata={"time": "absent", "replayability": ["no entry point", "thread: x"]}
        ).sealed()
    )
    out = isotrace("show", "ccc").out
    assert "no steps" in out
    assert "2025" not in out
    assert "may not replay:\n    no entry point\n    thread: x" in out


def test_last_is_a_keyword_that_no_recorded_id_takes_over(
    isotrace: Callable[..., Any], put: Callable[..., None], refund: Callable[..., Any]
) -> None:
    for run_id in ("@last", "@last~1", "c" * 32, "d" * 32):
        put(refund(run_id))
    assert isotrace("show", "@last", "--json").json["run_id"] == "d" * 32
    assert isotrace("show", "@last~1", "--json").json["run_id"] == "c" * 32
    assert isotrace("show", "@last~2", "--json").json["run_id"] == "@last~1"
    assert isotrace("show", "@last~99", "--json").code == 2


def used(builder: Any, usage: dict[str, Any], cents: float = 0.0) -> None:
    """Adds a call of a model that said what it used."""
    builder.step("chat", {"messages": []}, {"choices": []}, kind="llm", cost_cents=cents)
    builder.events[-1].facts["usage"] = usage


def test_models_tokens_and_costs_are_shown_and_summed(
    isotrace: Callable[..., Any], put: Callable[..., None], build: Any
) -> None:
    builder = build("c" * 32)
    prices = "genai-prices 0.2.3"
    used(builder, {"model": "gpt-x", "input_tokens": 1200, "output_tokens": 35, "prices": prices}, 0.42)
    used(builder, {"model": "m-1", "input_tokens": 3, "output_tokens": 2, "unpriced": f"{prices}: unknown"})
    used(builder, {"model": "m-1", "input_tokens": 4, "unpriced": f"{prices}: unknown"})
    put(builder.sealed())
    said = isotrace("show", "ccc", columns=100)
    assert "1,207 tokens in, 37 out · 0.42 ¢" in said.out
    assert said.out.count(f"no cost of m-1, {prices}: unknown") == 1
    lines = [line for line in said.out.splitlines() if "chat" in line]
    assert ["gpt-x, 1,200 in, 35 out" in lines[0], "m-1, 3 in, 2 out" in lines[1]] == [True, True]
    step = isotrace("show", "ccc", "--step", "0", columns=100)
    assert f"model gpt-x · 1,200 tokens in · 35 tokens out · prices of {prices}" in step.out.replace(
        "\n  ", " · "
    )
    assert isotrace("show", "ccc", "--json").json["steps"][0]["context"]["usage"] == {
        "model": "gpt-x",
        "input_tokens": 1200,
        "output_tokens": 35,
        "prices": prices,
    }
    assert isotrace("ls", "--json").json[0]["total_cost_cents"] == 0.42


@pytest.mark.parametrize("columns", [40, 60, 80, 100])
def test_what_a_model_used_fits_the_terminal(
    terminal: Callable[..., Any], put: Callable[..., None], build: Any, columns: int
) -> None:
    builder = build("c" * 32)
    used(builder, {"model": "a-model-with-a-rather-long-name" * 3, "input_tokens": 10**9, "output_tokens": 7})
    put(builder.sealed())
    screen = terminal(columns, "show", "ccc")
    assert screen.code == 0
    assert max(map(len, screen.lines)) <= columns
