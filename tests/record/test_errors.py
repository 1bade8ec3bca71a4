"""Errors that plain JSON can't hold: recorded once, readable, and raised again as they were."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from isotrace.errors import RecordedError
from isotrace.models import TraceRecord
from isotrace.record import skill

if TYPE_CHECKING:
    from tests.record.lab import Lab


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("bad \udc80 byte",), "bad \\udc80 byte"),
        (("fine \U0001f600 \\udc80",), "fine \U0001f600 \\udc80"),
        ((datetime(2026, 1, 2, tzinfo=UTC),), "2026-01-02 00:00:00+00:00"),
        ((b"\xff", 2**70), "(b'\\xff', 1180591620717411303424)"),
    ],
    ids=["a lone surrogate", "no surrogate", "a time", "bytes and a large number"],
)
def test_an_error_is_recorded_as_text_and_raised_again_with_its_arguments(
    lab: Lab, args: tuple[object, ...], message: str
) -> None:
    @skill
    def fail() -> None:
        raise ValueError(*args)

    def agent() -> tuple[object, ...]:
        with pytest.raises(ValueError) as caught:
            fail()
        return caught.value.args

    taken, result = lab.again(agent)
    context = taken.record.steps[0].context
    assert context is not None
    assert context.error == message
    assert (taken.value, result.value) == (args, args)
    assert TraceRecord.from_dict(json.loads(json.dumps(taken.record.to_dict()))) == taken.record


def test_the_text_of_an_error_that_ends_a_run_is_text(lab: Lab) -> None:
    def agent() -> None:
        raise OSError("\udcff")

    record = lab.record(agent).record
    assert record.context is not None
    assert record.context.error == {
        "type": "OSError",
        "message": "\\udcff",
        "args": [{"$iso:str": "\\udcff"}],
    }
    assert TraceRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_an_error_about_a_value_without_end_is_recorded_without_reading_it_out(lab: Lab) -> None:
    graph: list[Any] = []
    for _ in range(40):
        graph = [graph, graph]

    @skill
    def refuse() -> None:
        raise ValueError(graph)

    def agent() -> None:
        with pytest.raises(ValueError) as caught:
            refuse()
        assert caught.value.args[0] is graph

    taken = lab.record(agent)
    assert taken.error is None
    context = taken.record.steps[0].context
    assert context is not None
    assert context.error == "<the error's arguments are too large to be written here>"


def test_a_group_of_errors_comes_back_as_a_group(lab: Lab) -> None:
    def nested(depth: int) -> Exception:
        return ValueError(depth) if depth == 0 else ExceptionGroup(f"at {depth}", [nested(depth - 1)])

    @skill
    def fail(error: str) -> None:
        groups = {
            "plain": ExceptionGroup("two", [KeyError("a"), ExceptionGroup("inner", [OSError(2, "gone")])]),
            "base": BaseExceptionGroup("one", [KeyboardInterrupt()]),
            "deep": nested(40),
            "wide": ExceptionGroup("many", [ValueError(number) for number in range(1000)]),
        }
        raise groups[error]

    def agent() -> list[str]:
        seen = []
        for name in ("plain", "base"):
            with pytest.raises(BaseExceptionGroup) as caught:
                fail(name)
            seen.append(repr(caught.value))
        return seen

    taken, result = lab.again(agent)
    assert (str(result.verdict), result.value) == ("MATCH", taken.value)
    assert taken.value[0] == repr(
        ExceptionGroup("two", [KeyError("a"), ExceptionGroup("inner", [OSError(2, "gone")])])
    )

    def bounded() -> None:
        for name in ("deep", "wide"):
            with pytest.raises((RecordedError, ExceptionGroup)):
                fail(name)

    taken, result = lab.again(bounded)
    assert str(result.verdict) == "MATCH"
    errors = [event.values["error"] for event in taken.events if "error" in event.values]
    assert len(errors) == 2
    assert all(isinstance(error, bytes) and len(error) < 20_000 for error in errors)
