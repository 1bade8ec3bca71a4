"""The stores of this house against the public contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from isotrace.contracts import TraceStore
from isotrace.stores.memory import MemoryStore
from isotrace.stores.sqlite import SqliteStore
from isotrace.testing.store_contract import DurableStoreContract, StoreContract


class TestMemoryStore(StoreContract):
    def make_store(self, tmp_path: Path) -> TraceStore:
        return MemoryStore()


class TestSqliteStore(DurableStoreContract):
    def make_store(self, tmp_path: Path) -> TraceStore:
        return SqliteStore(tmp_path / "traces.db")

    def open_again(self, store: TraceStore) -> TraceStore:
        assert isinstance(store, SqliteStore)
        return SqliteStore(store.path, create=False)


@pytest.mark.slow
class TestSqliteStoreUncompressed(StoreContract):
    def make_store(self, tmp_path: Path) -> TraceStore:
        return SqliteStore(tmp_path / "traces.db", compression=0)


def test_the_contract_can_not_be_weakened_by_replacing_a_test() -> None:
    with pytest.raises(TypeError, match="test_the_same_run_again"):

        class Weaker(StoreContract):
            def test_the_same_run_again_is_reported_and_changes_nothing(self, store: TraceStore) -> None:
                pass


def test_the_contract_can_not_be_weakened_by_a_mixin() -> None:
    class Mixin:
        def test_closing_twice_is_fine(self, store: TraceStore) -> None:
            pass

    with pytest.raises(TypeError, match="test_closing_twice_is_fine"):

        class Weaker(Mixin, StoreContract):
            pass


def test_the_contract_can_not_be_weakened_by_another_store_fixture() -> None:
    with pytest.raises(TypeError, match="store"):

        class Weaker(StoreContract):
            @pytest.fixture
            def store(self) -> object:
                return object()


def test_the_contract_can_not_be_skipped() -> None:
    with pytest.raises(TypeError, match="skip"):

        class Weaker(StoreContract):
            pytestmark = pytest.mark.skip
