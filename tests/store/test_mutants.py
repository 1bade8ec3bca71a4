"""The store contract can fail: each store that breaks a promise is caught by the test that makes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from isotrace.contracts import TraceStore
from isotrace.stores.memory import MemoryStore
from isotrace.testing.mutants import MUTANTS, Mutant
from isotrace.testing.store_contract import DurableStoreContract, StoreContract, broken_promises


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_store_that_breaks_a_promise_is_caught_by_the_test_of_that_promise(
    mutant: type[Mutant], tmp_path: Path
) -> None:
    class Suite(StoreContract):
        def make_store(self, tmp_path: Path) -> TraceStore:
            return mutant()

    assert list(broken_promises(Suite, tmp_path, [mutant.caught_by])) == [mutant.caught_by]


@pytest.mark.slow
def test_a_good_store_breaks_no_promise(tmp_path: Path) -> None:
    class Suite(StoreContract):
        def make_store(self, tmp_path: Path) -> TraceStore:
            return MemoryStore()

    assert broken_promises(Suite, tmp_path) == {}


def test_a_store_that_forgets_is_caught_by_the_durable_contract(tmp_path: Path) -> None:
    class Suite(DurableStoreContract):
        def make_store(self, tmp_path: Path) -> TraceStore:
            return MemoryStore()

        def open_again(self, store: TraceStore) -> TraceStore:
            return MemoryStore()

    promises = [
        "test_a_run_is_there_for_others_when_put_returns",
        "test_runs_and_their_order_outlive_the_store_object",
        "test_what_was_erased_stays_erased",
    ]
    assert sorted(broken_promises(Suite, tmp_path, promises)) == promises


def test_every_promise_that_a_mutant_names_is_in_the_contract() -> None:
    assert [mutant.__name__ for mutant in MUTANTS if not hasattr(StoreContract, mutant.caught_by)] == []
