"""The SQLite store answers as the in-memory one does, whatever is asked in whatever order."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from isotrace.contracts import TraceStore
from isotrace.stores.sqlite import SqliteStore
from isotrace.testing.mutants.finding import OldestFirst
from isotrace.testing.stateful import store_machine


def _make(folder: Path) -> TraceStore:
    return SqliteStore(folder / "traces.db")


def _open_again(store: TraceStore) -> TraceStore:
    assert isinstance(store, SqliteStore)
    return SqliteStore(store.path, create=False)


def test_sqlite_answers_as_memory_does() -> None:
    run_state_machine_as_test(
        store_machine(_make, _open_again),
        settings=settings(max_examples=25, stateful_step_count=25, deadline=None),
    )


@pytest.mark.slow
def test_sqlite_answers_as_memory_does_at_length() -> None:
    run_state_machine_as_test(
        store_machine(_make, _open_again),
        settings=settings(max_examples=100, stateful_step_count=40, deadline=None),
    )


def test_the_machine_notices_a_store_that_answers_otherwise() -> None:
    # Without shrinking: that it is noticed is enough.
    quick = settings(
        max_examples=500,
        stateful_step_count=20,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(store_machine(lambda _: OldestFirst()), settings=quick)
