"""The page of many runs, as text: its sentences, its tree, where runs part, and what changed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import jinja2  # noqa: F401  # what draws the pages: where it is absent, this file is left out
import pytest

from isotrace.models import TraceRecord
from isotrace.operations import behaviours
from isotrace.population import compare_behaviours
from isotrace.report.html import render_behaviours


@pytest.fixture
def runs(step: Callable, run: Callable) -> Callable[..., list[TraceRecord]]:
    """`runs(n, m)`: n runs that check before they refund, and pass; m that don't, and fail."""

    def make(checked: int, unchecked: int, *, limit: int = 100, name: str = "refund") -> list[TraceRecord]:
        found = []
        for number in range(checked + unchecked):
            well = number < checked
            steps = [step(0, "chat", {}, kind="llm"), step(1, "chat", {}, kind="llm")]
            if well:
                steps.append(step(2, "check", {"limit": limit}, cost_cents=2.0))
            steps.append(step(len(steps), name, {"cents": 5}))
            facts = {
                "run_id": f"{limit:03d}{number:029d}",
                "metadata": {"reward": float(well), "task": limit},
            }
            found.append(run(*steps, **facts))
        return found

    return make


def test_one_group_is_told_and_drawn(runs: Callable, parsed: Callable) -> None:
    html = render_behaviours(behaviours(runs(6, 2)))
    page = parsed(html)
    for said in (
        "8 runs took 2 paths",
        "75 % took one path 6 of 8 took the same path: 75 %, between 40 % and 93 % with 95 % confidence",
        "75 % did well 6 of 8 judged runs passed",
        "Step 2, 100 % of the disagreement",
        "2 of 8 go on with refund",
    ):
        assert said in page.text
    assert page.inside("w0") == "0 chat ×2 parts in 2 100 % 8 75 % 1.5 ¢ 37.5 ms"
    assert page.inside("w1") == "2 check → refund 100000000000 75 % 6 100 % 2 ¢ 40.0 ms"
    assert page.inside("w2") == "2 refund 100000000000 25 % 2 0 % 30.0 ms"
    bands = re.findall(
        r'#w(\d)".*?class="f-(\w+)" x="([\d.]+)%" y="([\d.]+)%" width="([\d.]+)%" height="([\d.]+)%"', html
    )
    assert bands == [
        ("0", "mixed", "0", "0", "50", "100"),
        ("1", "good", "50", "0", "50", "75"),
        ("2", "bad", "50", "75", "25", "25"),
    ]


def test_params_that_differ_stand_at_the_step_where_runs_part(runs: Callable, parsed: Callable) -> None:
    page = parsed(render_behaviours(behaviours([*runs(3, 0), *runs(2, 0, limit=250)])))
    assert "Params that differ, by one run of each check /limit check #1 100 check #2 250" in page.text


def test_runs_that_end_while_others_go_on_are_a_branch(
    step: Callable, run: Callable, parsed: Callable
) -> None:
    steps = [step(at, "get", {"at": at}) for at in range(3)]
    found = behaviours([run(*steps, run_id="a" * 32), run(*steps[:2], run_id="b" * 32)])
    page = parsed(render_behaviours(found))
    assert "end here bbbbbbbbbbbb 50 % 1" in page.text
    assert "1 of 2 end" in page.text


def test_equal_runs_are_one_path(runs: Callable, parsed: Callable) -> None:
    page = parsed(render_behaviours(behaviours(runs(10, 0))))
    assert "10 runs took 1 path" in page.text
    assert "10 of 10 took the same path: at least 72 % with 95 % confidence" in page.text
    assert "Where they part" not in page.text


def test_groups_stand_in_a_table(runs: Callable, parsed: Callable) -> None:
    html = render_behaviours(behaviours([*runs(2, 2), *runs(2, 0, limit=250)], by="task"))
    page = parsed(html)
    assert "Behaviours by task 1 of 2 groups took one path in all their runs" in page.text
    assert "100 4 2 33 % 2 250 2 1 100 % ✓" in page.text
    assert "pass^k: that k runs of a group all pass 1 2 75 % 58 %" in page.text


def test_no_run_has_a_page(parsed: Callable) -> None:
    assert "No group of two or more runs to compare" in parsed(render_behaviours(behaviours([]))).text


def test_before_and_after_says_what_has_changed(runs: Callable, parsed: Callable) -> None:
    before, after = (behaviours(made).groups[0].behaviours for made in (runs(30, 0), runs(10, 20)))
    found = behaviours([*runs(30, 0), *runs(10, 20, limit=101)])
    page = parsed(render_behaviours(found, compare_behaviours(before, after)))
    assert "Before and after: changed" in page.text
    assert "appeared chat → chat → refund" in page.text
    assert "0 of 30 → 20 of 30" in page.text


HOSTILE = ["</style></script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "\u202egnp\x1b[2J"]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("by", [None, "task"])
def test_recorded_text_is_text_wherever_it_stands(
    step: Callable, run: Callable, parsed: Callable, text: str, by: str | None
) -> None:
    def page(text: str) -> Any:
        facts = {"metadata": {"task": text}, "status": "failed"}
        found = behaviours(
            [
                run(step(0, text, {text: 1}), step(1, text, {"a": text}), run_id=text + "1", **facts),
                run(step(0, text, {text: 1}), step(1, text, {"a": [text]}), run_id=text + "2", **facts),
                run(step(0, text, {text: 1}), step(1, text + "x", {}), run_id=text + "3", **facts),
            ],
            by=by,
        )
        group = found.groups[0].behaviours
        return parsed(render_behaviours(found, compare_behaviours(group[:1], group[1:])))

    calm, hostile = page("calm"), page(text)
    # Branches of one size stand in the order of their hashes, and only short names stand in the drawing.
    kinds = [Counter(tag for tag, _ in page.elements if tag != "text") for page in (calm, hostile)]
    assert kinds[0] == kinds[1]
    assert hostile.scripts == calm.scripts
    assert not re.search("[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e]", hostile.text)


def test_of_a_tree_with_very_many_branches_the_largest_are_drawn(
    step: Callable, run: Callable, parsed: Callable
) -> None:
    records = [run(step(0, "get", {"at": at}), run_id=f"{at:032d}") for at in range(500)]
    page = parsed(render_behaviours(behaviours(records)))
    assert (
        sum(dict(given).get("id", "").startswith("w") for _, given in page.elements if given.get("id")) == 400
    )
    assert "101 smaller branches left out" in page.text
