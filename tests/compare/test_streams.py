"""Streams: chunks, content and their end."""

from __future__ import annotations

from typing import Any

import pytest

from isotrace.compare import Code, Severity, Verdict, diff_traces

TEXT = ["hel", "lo"]
BYTES = [{"$iso:bytes": "aGVs"}, {"$iso:bytes": "bG8="}]
CLOSED = {"closed_early": True}


def compare(run: Any, step: Any, one: list[Any], other: list[Any], *facts: dict[str, Any]) -> Any:
    ended = [*facts, {}, {}][:2]
    runs = [
        run([step("s", chunks=chunks, facts=fact)]) for chunks, fact in zip((one, other), ended, strict=True)
    ]
    return diff_traces(*runs, level="exact")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TEXT, ["hello"]),
        (TEXT, ["h", "", "ello"]),
        (BYTES, [{"$iso:bytes": "aGVsbG8="}]),
        ([], [""]),
    ],
)
def test_the_same_content_in_other_chunks_is_worth_a_remark(
    run: Any, step: Any, one: list[Any], other: list[Any]
) -> None:
    diff = compare(run, step, one, other)
    (found,) = diff.divergences
    assert (found.code, found.severity, found.pointers) == (Code.STREAM_CHANGED, Severity.INFO, ["/chunks"])
    assert (found.expected, found.actual) == ({"/chunks": len(one)}, {"/chunks": len(other)})
    assert diff.verdict is Verdict.MATCH


@pytest.mark.parametrize(
    ("one", "other", "pointers"),
    [
        (TEXT, ["hel", "p"], ["/chunks/1"]),
        (TEXT, ["help"], ["/chunks/0", "/chunks/1"]),
        (BYTES, [{"$iso:bytes": "aGVs"}], ["/chunks/1"]),
        ([{"n": 1}, {"n": 2}], [{"n": 1}, {"n": 3}], ["/chunks/1/n"]),
        (["a", {"n": 1}], ["a", {"n": 2}], ["/chunks/1/n"]),
        ([{"$iso:bytes": "no base64"}], [{"$iso:bytes": "nor this"}], ["/chunks/0/$iso:bytes"]),
    ],
)
def test_other_content_is_another_outcome(
    run: Any, step: Any, one: list[Any], other: list[Any], pointers: list[str]
) -> None:
    (found,) = compare(run, step, one, other).divergences
    assert (found.code, found.pointers) == (Code.OUTPUT_CHANGED, pointers)


def test_a_stream_that_only_one_run_saw_to_its_end_is_an_error(run: Any, step: Any) -> None:
    diff = compare(run, step, ["hel", "lo", "!"], ["hel", "lo"], {}, CLOSED)
    (found,) = diff.divergences
    assert (found.code, found.severity) == (Code.STREAM_CHANGED, Severity.ERROR)
    assert found.message == "the stream was closed early in the replay only (3 → 2 chunks)"
    assert diff.verdict is Verdict.DIVERGED


def test_a_stream_closed_early_with_other_content_is_another_outcome(run: Any, step: Any) -> None:
    (found,) = compare(run, step, ["hel", "lo"], ["hal"], {}, CLOSED).divergences
    assert found.code is Code.OUTPUT_CHANGED


def test_two_streams_closed_early_at_one_place_match(run: Any, step: Any) -> None:
    assert compare(run, step, ["hel"], ["hel"], CLOSED, CLOSED).divergences == []


def test_what_came_with_the_chunks_is_compared_too(run: Any, step: Any) -> None:
    one, other = run([step("s", chunks=["hello"])]), run([step("s", chunks=TEXT)])
    for record, count in ((one, 1), (other, 2)):
        record.steps[0].outcome_data["tokens"] = count
    (found,) = diff_traces(one, other, level="exact").divergences
    assert (found.code, found.pointers) == (Code.OUTPUT_CHANGED, ["/chunks/0", "/chunks/1", "/tokens"])


def test_chunks_are_nothing_to_decisions(run: Any, step: Any) -> None:
    one, other = run([step("s", chunks=["a"])]), run([step("s", chunks=["b"])])
    assert diff_traces(one, other).divergences == []
