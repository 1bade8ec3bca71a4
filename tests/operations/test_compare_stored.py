"""Comparing stored runs through their paths, held against comparing their records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isotrace.contracts import TraceStore
from isotrace.errors import RunNotFoundError
from isotrace.models import ParityResult, compare_traces
from isotrace.operations import compare_stored
from isotrace.stores.memory import MemoryStore
from isotrace.stores.sqlite import SqliteStore
from isotrace.testing.runs import Call, llm, make_run, tool

SEARCH = tool("search", {"query": "shoes", "price": 1.0})
FAILED = replace(SEARCH, status="failure", category="TRANSIENT", code="TimeoutError")
KINDS_OF_CALL = [
    SEARCH,
    tool("search", {"query": "boots", "price": 1.0}),
    tool("refund", {"query": "shoes", "price": 1.0}),
    llm({"query": "shoes", "price": 1.0}, skill="search"),
    FAILED,
    replace(FAILED, category="PERMANENT"),
    replace(FAILED, code="ConnectionError"),
    replace(SEARCH, retry_count=2),
]
runs_of_calls = st.lists(st.sampled_from(KINDS_OF_CALL), max_size=6)
SEEN_IN_WHAT_FOLLOWS = ("EXTRA_STEP", "MISSING_STEP", "REORDERED")


def store_of(one: list[Call], other: list[Call]) -> MemoryStore:
    store = MemoryStore()
    store.put(make_run("one", steps=one))
    store.put(make_run("other", steps=other))
    return store


def compared(store: TraceStore) -> tuple[ParityResult, ParityResult]:
    """From the paths, and from the records."""
    records = [store.ledger(run_id, tenant_id="default").record() for run_id in ("one", "other")]
    return compare_stored(store, "one", "other", tenant_id="default"), compare_traces(*records)


@given(runs_of_calls, runs_of_calls, runs_of_calls)
def test_it_says_what_comparing_the_records_says(
    shared: list[Call], rest: list[Call], other: list[Call]
) -> None:
    stored, recorded = compared(store_of(shared + rest, shared + other))
    if (recorded.divergence_reason or "").startswith(SEEN_IN_WHAT_FOLLOWS):
        recorded.divergence_reason = stored.divergence_reason
    assert stored == recorded


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ([SEARCH, KINDS_OF_CALL[1]], 'PARAMS_CHANGED: params differ at /query ("shoes" → "boots")'),
        ([SEARCH, KINDS_OF_CALL[2]], "SKILL_CHANGED: skill: search → refund"),
        ([SEARCH, FAILED], "STATUS_CHANGED: status: success → failure"),
        ([SEARCH, KINDS_OF_CALL[7]], "RETRIES_CHANGED: retries: 0 → 2"),
        ([SEARCH], "EARLY_END: step count: 2 → 1"),
        ([SEARCH, SEARCH, SEARCH], "LATE_END: step count: 2 → 3"),
    ],
)
def test_the_reason_says_what_is_to_be_seen_at_the_step(other: list[Call], reason: str) -> None:
    stored = compare_stored(store_of([SEARCH, SEARCH], other), "one", "other", tenant_id="default")
    assert (stored.divergence_reason, stored.is_parity) == (reason, False)


def test_erased_params_are_a_gap_even_against_the_same_run() -> None:
    store = store_of([SEARCH, SEARCH, SEARCH], [SEARCH, SEARCH, SEARCH])
    for run_id in ("one", "other"):
        start = store.steps(run_id, tenant_id="default")[1].start_seq
        store.erase(run_id, [(start, "params")], tenant_id="default", reason="asked for")
    stored, recorded = compared(store)
    assert stored == recorded
    assert (stored.divergence_step, stored.original_signature) == (1, "")
    assert (stored.divergence_reason or "").startswith("RECORD_GAP: ")


def test_a_run_that_is_not_there_is_named() -> None:
    with pytest.raises(RunNotFoundError, match="nobody"):
        compare_stored(store_of([], []), "one", "nobody", tenant_id="default")


@pytest.fixture(scope="module")
def file_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path_factory.mktemp("compared") / "traces.db") as store:
        yield store


NUMBERS = count()


@settings(max_examples=30)
@given(runs_of_calls, runs_of_calls, runs_of_calls, st.integers(0, 14))
def test_a_store_that_bisects_by_itself_finds_what_looking_at_single_paths_finds(
    file_store: SqliteStore, shared: list[Call], rest: list[Call], other: list[Call], limit: int
) -> None:
    number = next(NUMBERS)
    one, two = f"one-{number}", f"two-{number}"
    memory = MemoryStore()
    for store in (memory, file_store):
        store.put(make_run(one, steps=shared + rest))
        store.put(make_run(two, steps=shared + other))
    results = [compare_stored(store, one, two, tenant_id="default") for store in (memory, file_store)]
    assert results[0] == results[1]

    def alike(k: int) -> bool:
        paths = [memory.path_at(run_id, k, tenant_id="default") for run_id in (one, two)]
        return paths[0] == paths[1]

    shorter = min(len(rest), len(other)) + len(shared)
    last = max(k for k in range(min(limit, shorter) + 1) if alike(k))
    assert file_store.common_steps(one, two, limit, tenant_id="default") == last


def test_an_erased_step_ends_what_two_runs_in_a_file_have_in_common(file_store: SqliteStore) -> None:
    for run_id in ("whole", "erased"):
        file_store.put(make_run(run_id, steps=[SEARCH] * 5))
    assert file_store.common_steps("whole", "erased", 5, tenant_id="default") == 5
    start = file_store.steps("erased", tenant_id="default")[3].start_seq
    file_store.erase("erased", [(start, "params")], tenant_id="default", reason="asked for")
    assert file_store.common_steps("whole", "erased", 5, tenant_id="default") == 3
    assert file_store.common_steps("erased", "erased", 5, tenant_id="default") == 3
    with pytest.raises(RunNotFoundError, match="nobody"):
        file_store.common_steps("whole", "nobody", 5, tenant_id="default")
