"""Why two runs parted."""

from __future__ import annotations

from typing import Any

import pytest

from isotrace.compare import Why, diff_traces


def story(
    run: Any,
    step: Any,
    *,
    prompt: str = "hi",
    model: str = "m",
    answer: str = "search",
    searched: str = "Paris",
    found: int = 20,
    given: str = "weather",
    extra: bool = False,
) -> Any:
    """An agent that asks a model, searches, and asks again with what it found."""
    steps = [
        step("chat", {"model": model, "prompt": prompt}, kind="llm", outcome={"text": answer}),
        step("search", {"city": searched}, outcome={"t": found}),
        step("chat", {"model": model, "prompt": f"it is {found}"}, kind="llm", outcome={"text": "done"}),
    ]
    return run([*steps, step("log")] if extra else steps, given=given)


@pytest.mark.parametrize(
    ("change", "why", "at"),
    [
        ({"found": 21}, Why.TOOL, 1),
        ({"searched": "Rome"}, Why.CODE, 1),
        ({"searched": "Rome", "answer": "look in Rome"}, Why.MODEL, 0),
        ({"prompt": "hello"}, Why.PROMPT, 0),
        ({"model": "n"}, Why.MODEL, 0),
        ({"given": "news", "prompt": "hello"}, Why.INPUT, None),
        ({"extra": True}, Why.CODE, 3),
    ],
)
def test_the_cause_is_the_first_thing_that_was_otherwise(
    run: Any, step: Any, change: dict[str, Any], why: Why, at: int | None
) -> None:
    diff = diff_traces(story(run, step), story(run, step, **change))
    assert diff.cause is not None
    assert (diff.cause.why, diff.cause.step_index) == (why, at)
    assert diff.cause.to_dict() == {"why": why.value, "message": diff.cause.message, "step_index": at}


def test_comparing_one_kind_still_finds_the_cause_among_all(run: Any, step: Any) -> None:
    one, other = story(run, step), story(run, step, searched="Rome", answer="look in Rome")
    cause = diff_traces(one, other, kinds=["tool"]).cause
    assert cause is not None
    assert cause.message == "step 0 (chat) asked the model the same, and it answered otherwise"


def test_without_a_model_on_record_the_code_is_not_blamed(run: Any, step: Any) -> None:
    one, other = run([step("a"), step("b")]), run([step("a"), step("c")])
    cause = diff_traces(one, other).cause
    assert cause is not None
    assert cause.why is Why.UNEXPLAINED


def test_an_answer_in_a_parallel_branch_counts_if_it_came_before(run: Any, step: Any) -> None:
    def two_branches(rate: int, order: list[tuple[str, int]]) -> Any:
        steps = [
            step("pay", {"rate": rate}, lineage=(0, 0)),
            step("rates", lineage=(1, 0), outcome={"rate": rate}),
        ]
        return run(steps, order=order)

    before = [("start", 1), ("end", 1), ("start", 0), ("end", 0)]
    after = [("start", 0), ("end", 0), ("start", 1), ("end", 1)]
    told = diff_traces(two_branches(1, before), two_branches(2, before)).cause
    assert told is not None
    assert (told.why, told.step_index) == (Why.TOOL, 1)
    later = diff_traces(two_branches(1, after), two_branches(2, after)).cause
    assert later is not None
    assert later.why is Why.UNEXPLAINED


def test_a_timer_that_ended_otherwise_is_the_environment(run: Any, step: Any) -> None:
    one = run([step("sleep", kind="timer"), step("a")])
    other = run([step("sleep", kind="timer", error="CancelledError", category="CANCELLED"), step("b")])
    cause = diff_traces(one, other).cause
    assert cause is not None
    assert cause.why is Why.ENV


def test_where_only_the_result_differs_the_steps_do_not_explain_it(run: Any, step: Any) -> None:
    diff = diff_traces(run([step("a")], result=1), run([step("a")], result=2), level="outcome")
    assert diff.cause is not None
    assert diff.cause.why is Why.UNEXPLAINED
