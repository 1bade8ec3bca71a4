"""The page of two runs, as text: what it says first, its rows, and that recorded text stays text."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jinja2  # noqa: F401  # what draws the pages: where it is absent, this file is left out
import pytest

from isotrace.compare import diff_traces
from isotrace.models import Erased, RunContext, TraceRecord, TraceStatus
from isotrace.report.html import render_diff
from isotrace.report.html.differences import marked

FAILED = {"status": TraceStatus.FAILURE, "outcome_category": "PERMANENT", "outcome_code": "ValueError"}


def pages(original: TraceRecord, replay: TraceRecord, **options: Any) -> str:
    return render_diff(diff_traces(original, replay, **options), original, replay)


def test_verdict_place_and_difference_come_first(step: Callable, run: Callable, parsed: Callable) -> None:
    page = parsed(
        pages(
            run(*(step(at, "get", {"at": at}) for at in range(6)), run_id="a" * 32),
            run(*(step(at, "get", {"at": 70 if at == 4 else at}) for at in range(6)), run_id="b" * 32),
        )
    )
    said = page.text.partition("Side by side")[0].partition("divergence ")[2]
    assert said == (
        "DIVERGED PARAMS_CHANGED at step 4 Two runs A aaaaaaaaaaaa B bbbbbbbbbbbb "
        "First divergence: PARAMS_CHANGED at step 4 params differ at /at (4 → 70) "
        "/at − 4 + 70 The same skill was called with params that differ at these JSON Pointers. "
        "UNEXPLAINED: all recorded observations up to step 4 are the same "
    )
    assert page.inside("r4").startswith(
        "First divergence A 4 ▸ get {at: 4} ≠ B 4 ▸ get {at: 70} PARAMS_CHANGED /at − 4 + 70 Both in full"
    )
    assert "4 equal steps A 0" in page.text
    assert '<p class="was"><span class="op" aria-label="was">−</span> <code><mark>4</mark></code>' in pages(
        run(step(0, "get", {"at": 4})), run(step(0, "get", {"at": 70}))
    )


def test_rows_say_what_was_inserted_removed_and_moved(
    step: Callable, run: Callable, parsed: Callable
) -> None:
    before = [step(at, name, {}) for at, name in enumerate(["a", "b", "c", "d", "e", "f", "g"])]
    after = [step(at, name, {}) for at, name in enumerate(["a", "c", "x", "d", "f", "e", "g"])]
    html = pages(run(*before), run(*after))
    rows = re.findall(r'class="row is-(\w+)[^"]*" id="r(\d+)"', html)
    page = parsed(html)
    assert sorted(op for op, _ in rows) == ["inserted", "moved", "removed"]
    said = {op: page.inside(f"r{number}") for op, number in rows}
    assert "A 1 ▸ b {} −" in said["removed"]
    assert "+ B 2 ▸ x {}" in said["inserted"]
    assert said["moved"].startswith(("A 4 ▸ e {} ~ B 5 ▸ e", "A 5 ▸ f {} ~ B 4 ▸ f"))
    assert "5 equal 1 only in B 1 only in A 1 moved" in page.text


def test_equal_runs_match_and_are_folded(step: Callable, run: Callable, parsed: Callable) -> None:
    record = run(*(step(at, "get", {"at": at}) for at in range(100)))
    html = pages(record, record)
    page = parsed(html)
    assert page.text.startswith("aaaaaaaaaaaa and aaaaaaaaaaaa · isotrace Skip to the first divergence MATCH")
    assert "Every compared step is equal." in page.text
    assert "100 equal steps A 0 ▸ get" in page.text
    assert 'class="row ' not in html


def test_broken_and_unfinished_records_have_a_page(step: Callable, run: Callable, parsed: Callable) -> None:
    broken = run(step(3, "get", {}))
    assert "INVALID_RECORD RECORD_CORRUPT" in parsed(pages(broken, broken)).text
    gone = run(step(0, "get", Erased("c" * 64)))
    page = parsed(pages(gone, gone))
    assert "INCONCLUSIVE RECORD_GAP at step 0" in page.text
    assert "RECORD_GAP the params of get are absent in both runs Both in full" in page.inside("r0")


def test_both_runs_are_told_side_by_side(step: Callable, run: Callable, parsed: Callable) -> None:
    page = parsed(
        pages(
            run(step(0, "get", {}), metadata={"model": "small"}),
            run(step(0, "get", {}), step(1, "end", {}, error="no", **FAILED), metadata={"model": "large"}),
            level="skeleton",
        )
    )
    assert "steps 1 2, 1 failed" in page.text
    assert "model small large" in page.text
    assert "Compared at level skeleton: skills and statuses must be equal." in page.text


HOSTILE = ["</style></script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "\u202egnp\x1b[2J"]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_recorded_text_is_text_wherever_it_stands(
    step: Callable, run: Callable, parsed: Callable, text: str
) -> None:
    def page(text: str) -> Any:
        facts = {"run_id": text, "agent_id": text, "status": text, "metadata": {text: text}}
        inside = {text: [text], "other": text}
        return parsed(
            pages(
                run(step(0, text, inside), step(1, text, {"a": text}, error=text, **FAILED), **facts),
                run(step(0, text, {}), step(1, text, {"a": text + "!"}), step(2, text, inside), **facts),
                level="exact",
            )
        )

    calm, hostile = page("calm"), page(text)
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in calm.elements]
    assert hostile.scripts == calm.scripts
    assert not re.search("[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e]", hostile.text)


def test_what_differs_is_marked_in_whole_words_and_shown_in_place() -> None:
    assert marked('"head -20 x"', '"head -30 x"') == (
        '"head -<mark>20</mark> x"',
        '"head -<mark>30</mark> x"',
    )
    assert marked("abc", "abc") == ("abc", "abc")
    assert marked("1 &", "1 2 &") == ("1 &amp;", "1 <mark>2 </mark>&amp;")
    left, right = marked("-" * 5000 + "a" + "-" * 5000, "-" * 5000 + "b" + "-" * 5000)
    dashes = "-" * 120
    assert left == f"…{dashes}<mark>a</mark>{dashes}…"
    assert right == f"…{dashes}<mark>b</mark>{dashes}…"


def test_many_differences_are_bounded_and_counted(step: Callable, run: Callable, parsed: Callable) -> None:
    html = pages(
        run(*(step(at, "get", {"at": at, "text": "x" * 300}) for at in range(300))),
        run(*(step(at, "get", {"at": -1 - at, "text": "x" * 300}) for at in range(300))),
        level="exact",
    )
    assert "100 more differences" in parsed(html).text
    assert html.count("Both in full") == 200


def test_result_alone_may_differ(step: Callable, run: Callable, parsed: Callable) -> None:
    page = parsed(
        pages(
            run(step(0, "get", {}), context=RunContext(result="yes")),
            run(step(0, "get", {}), context=RunContext(result="no")),
            level="outcome",
        )
    )
    assert "First divergence: FINAL_RESULT_CHANGED" in page.text
    assert '− "yes" + "no"' in page.text
