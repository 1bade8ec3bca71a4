"""What every `TraceStore` must do, as a pytest suite that a back-end inherits:

    class TestMyStore(StoreContract):
        def make_store(self, tmp_path):
            return MyStore(tmp_path / "runs")

A back-end whose runs outlive the object derives from `DurableStoreContract` and adds `open_again`. The
suite can't be weakened: a subclass that replaces one of its tests is refused when it is defined.
`broken_promises` runs it without pytest's collection; `isotrace.testing.mutants` shows that it can fail.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from isotrace.contracts import RunQuery, TraceStore
from isotrace.testing.contract_counting import CountingContract
from isotrace.testing.contract_erasing import ErasingContract, erase
from isotrace.testing.contract_finding import FindingContract, fill, found
from isotrace.testing.contract_keeping import KeepingContract, T, assert_kept, rich_run
from isotrace.testing.runs import make_run


class StoreContract(KeepingContract, FindingContract, CountingContract, ErasingContract, ABC):
    """The suite. Each test gets a store of its own, fresh and empty."""

    @abstractmethod
    def make_store(self, tmp_path: Path) -> TraceStore:
        """A new, empty store; `tmp_path` is an empty folder for its files."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[TraceStore]:
        """The store under test; closed at the end."""
        store = self.make_store(tmp_path)
        yield store
        store.close()

    @pytest.fixture
    def other_store(self, tmp_path: Path) -> Iterator[TraceStore]:
        """A second store that has nothing to do with the first."""
        folder = tmp_path / "other"
        folder.mkdir()
        store = self.make_store(folder)
        yield store
        store.close()

    def __init_subclass__(cls, **more: Any) -> None:
        """Raises `TypeError` for a class that replaces or skips a part of the contract."""
        super().__init_subclass__(**more)
        for base in cls.__mro__[1:]:
            if not _is_contract(base):
                continue
            for name, promise in vars(base).items():
                fixed = name.startswith("test_") or name in ("store", "other_store", "reopened")
                if fixed and inspect.getattr_static(cls, name) is not promise:
                    raise TypeError(f"{cls.__qualname__} must not replace {name} of the store contract")
        if _skips(vars(cls).get("pytestmark", ())):
            raise TypeError(f"{cls.__qualname__} must not skip the store contract")


def _is_contract(cls: type) -> bool:
    return cls.__module__.startswith("isotrace.testing.")


def _skips(marks: Any) -> bool:
    listed = marks if isinstance(marks, list | tuple) else [marks]
    return any(getattr(mark, "name", "") in ("skip", "skipif", "xfail") for mark in listed)


class DurableStoreContract(StoreContract):
    """The suite for stores whose runs outlive the object."""

    @abstractmethod
    def open_again(self, store: TraceStore) -> TraceStore:
        """Another object for the same data, as another process would open it."""

    @pytest.fixture
    def reopened(self, store: TraceStore) -> Iterator[Callable[[], TraceStore]]:
        """Opens the data of `store` once more; what was opened is closed at the end."""
        opened: list[TraceStore] = []

        def reopen() -> TraceStore:
            opened.append(self.open_again(store))
            return opened[-1]

        yield reopen
        for one in opened:
            one.close()

    def test_a_run_is_there_for_others_when_put_returns(
        self, store: TraceStore, reopened: Callable[[], TraceStore]
    ) -> None:
        other = reopened()
        store.put(run := rich_run())
        assert_kept(other, run)
        assert other.put(rich_run()) is False

    def test_runs_and_their_order_outlive_the_store_object(
        self, store: TraceStore, reopened: Callable[[], TraceStore]
    ) -> None:
        runs = fill(store)
        cursor = store.query(RunQuery(limit=2)).next
        store.close()
        again = reopened()
        for run in runs.values():
            assert_kept(again, run)
        assert found(again) == ["d", "c", "b", "a"]
        rest = again.query(RunQuery(limit=2, after=cursor)).runs
        assert [item.summary.run_id for item in rest] == ["b", "a"]
        again.put(make_run("e"))
        assert found(again)[0] == again.resolve("@last", tenant_id=T) == "e"

    def test_what_was_erased_stays_erased(
        self, store: TraceStore, reopened: Callable[[], TraceStore]
    ) -> None:
        store.put(run := rich_run())
        expected = erase(store, run, {(1, "params"), (2, "outcome_data")})
        store.close()
        assert_kept(reopened(), expected)


def broken_promises(
    suite: type[StoreContract], tmp_path: Path, names: Collection[str] | None = None
) -> dict[str, BaseException]:
    """The tests of a suite that its store fails, by name, with what they raised; empty for a good store.

    Runs all tests of the contract, or those named, without pytest's collection. Each gets stores of its
    own, in its own folder below `tmp_path`.
    """
    broken: dict[str, BaseException] = {}
    for name, promise in inspect.getmembers(suite, inspect.isfunction):
        if not name.startswith("test_") or (names is not None and name not in names):
            continue
        try:
            _hold_to(suite(), promise, tmp_path / name)
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001  # a broken store may raise anything
            broken[name] = error
    return broken


def _hold_to(suite: StoreContract, promise: Callable[..., None], folder: Path) -> None:
    """Runs one test with what pytest's fixtures would give it."""
    opened: list[TraceStore] = []

    def make(name: str) -> TraceStore:
        (folder / name).mkdir(parents=True)
        opened.append(suite.make_store(folder / name))
        return opened[-1]

    def reopen() -> TraceStore:
        assert isinstance(suite, DurableStoreContract)
        opened.append(suite.open_again(opened[0]))
        return opened[-1]

    asked = list(inspect.signature(promise).parameters)[1:]
    given = {name: reopen if name == "reopened" else make(name) for name in asked}
    try:
        promise(suite, **given)
    finally:
        for store in opened:
            store.close()
