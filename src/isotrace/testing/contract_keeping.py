"""The part of the store contract about keeping runs: what is put comes back, and only to its tenant."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from isotrace import ledger as ledgers
from isotrace.contracts import RunItem, RunQuery, TraceStore
from isotrace.errors import ConflictError, IsotraceError, RunNotFoundError
from isotrace.hashing import path_start
from isotrace.ledger import SealedRun
from isotrace.testing.runs import Breach, Call, llm, make_run, make_steps, tool

T = "default"


def item_of(run: SealedRun) -> RunItem:
    """The listing entry that a store must make of a run."""
    projection = run.projection
    return RunItem(
        projection.summary,
        projection.signature,
        projection.tool_signature,
        run.ledger.root_hash,
        projection.metadata,
        run.local,
    )


def rich_run(run_id: str = "rich", **more: Any) -> SealedRun:
    """A run with something in every field that a store keeps."""
    steps = [
        llm({"messages": [{"role": "user", "content": "grüße 🙂"}]}, {"text": "ok"}, cost_cents=0.1 + 0.2),
        tool("search", {"q": "x"}, {"hits": []}, duration_ms=12.5, raw_ids={"/id": "call_1"}),
        tool(
            "pay", {"cents": 5}, None, status="failure", category="PERMANENT", code="ValueError", error="no"
        ),
        llm({"messages": []}, {"usage": {"tokens": 1}}, chunks=["a", {"b": 1}], retry_count=2),
        tool("search", {"q": "x"}, 20.0, lineage=(4, "eu", 0)),
        tool("never_back", {"q": 1}, finished=False, lineage=(5,)),
    ]
    given: dict[str, Any] = {
        "agent_id": "support",
        "correlation_id": "request-1",
        "steps": steps,
        "metadata": {"task": 13, "note": "ü", "nested": {"a": [1, None, True]}},
        "violations": [Breach("no-refunds", 2, "refund of 5"), Breach("budget")],
        "plan": [{"goal": "help"}],
        "input": {"task": "t"},
        "result": {"done": True},
    }
    return make_run(run_id, **(given | more))


def history(turns: int, run_id: str = "history") -> SealedRun:
    """A run whose every model call is given all messages so far."""
    messages: list[dict[str, str]] = []
    steps: list[Call] = []
    for turn in range(turns):
        messages.append({"role": "user", "content": f"turn {turn}: " + "please look again. " * 20})
        steps.append(llm({"messages": list(messages)}, {"role": "assistant", "content": f"looked {turn}"}))
    return make_run(run_id, steps=steps)


def assert_kept(store: TraceStore, run: SealedRun) -> None:
    """Everything that a store says of a run is what was put."""
    run_id, tenant = run.run_id, run.tenant_id
    ledger = store.ledger(run_id, tenant_id=tenant)
    assert ledger.events == run.ledger.events
    assert (ledger.root_hash, ledger.seed, ledger.salts) == (
        run.ledger.root_hash,
        run.ledger.seed,
        run.ledger.salts,
    )
    assert store.get(run_id, tenant_id=tenant) == item_of(run)
    assert store.steps(run_id, tenant_id=tenant) == run.projection.steps
    assert store.query(RunQuery(tenant_id=tenant, root_hash=run.ledger.root_hash)).runs[0] == item_of(run)


class KeepingContract:
    """Tests of `put`, `get`, `ledger`, `steps`, `path_at` and `values`."""

    def test_a_run_comes_back_as_it_was_put(self, store: TraceStore) -> None:
        run = rich_run()
        assert store.put(run) is True
        assert_kept(store, run)
        ledgers.verify(store.ledger(run.run_id, tenant_id=T))

    def test_a_run_without_steps_comes_back(self, store: TraceStore) -> None:
        run = make_run("empty", agent_id=None)
        store.put(run)
        assert_kept(store, run)
        assert store.steps("empty", tenant_id=T) == []

    def test_values_keep_their_bytes_whatever_stands_in_them(self, store: TraceStore) -> None:
        odd: dict[str, Any] = {
            "": None,
            "a\u0000b": "\u2028\U0001f600",
            "n": [1e16, -0.0, 5e-324, 20.0, 2**53 - 1],
            "{}": {},
        }
        run = make_run("odd", steps=[tool("t", odd, {"z": 1, "a": 2}), tool("t", {}, {}), tool("u", odd)])
        store.put(run)
        assert_kept(store, run)

    def test_long_values_and_growing_histories_come_back(self, store: TraceStore) -> None:
        long = "".join(f"line {number}\n" for number in range(150_000))
        runs = [history(120), make_run("long", steps=[tool("read", {"n": 1}, {"text": long})] * 2)]
        for run in runs:
            store.put(run)
            assert_kept(store, run)

    def test_a_run_of_thousands_of_events_comes_back(self, store: TraceStore) -> None:
        run = make_run("many", steps=make_steps(2100))
        store.put(run)
        assert_kept(store, run)

    def test_a_run_whose_values_were_withheld_keeps_commitments_and_salts(self, store: TraceStore) -> None:
        ledger = ledgers.erase(rich_run().ledger, {(1, "params"), (2, "outcome_data")})
        run = SealedRun(ledger, ledgers.project(ledger))
        store.put(run)
        assert_kept(store, run)
        ledgers.verify(store.ledger(run.run_id, tenant_id=T))
        assert store.values(run.run_id, [(1, "params")], tenant_id=T) == {}

    def test_where_a_run_was_sealed_is_kept(self, store: TraceStore) -> None:
        store.put(replace(make_run("here"), local=True))
        store.put(make_run("elsewhere"))
        assert store.get("here", tenant_id=T).local is True
        assert store.get("elsewhere", tenant_id=T).local is False

    def test_the_same_run_again_is_reported_and_changes_nothing(self, store: TraceStore) -> None:
        first, second = make_run("first"), make_run("second")
        assert [store.put(first), store.put(second), store.put(first)] == [True, True, False]
        assert [item.summary.run_id for item in store.query(RunQuery()).runs] == ["second", "first"]
        assert store.count(RunQuery()) == 2

    def test_another_run_under_the_same_id_is_refused_and_the_first_stays(self, store: TraceStore) -> None:
        first = make_run("same", steps=make_steps(3))
        store.put(first)
        with pytest.raises(ConflictError) as caught:
            store.put(make_run("same", steps=make_steps(4)))
        assert caught.value.run_id == "same"
        assert_kept(store, first)
        assert store.count(RunQuery()) == 1

    def test_identity_and_digests_are_taken_as_they_are_given(self, store: TraceStore) -> None:
        # A store that derived any of this again would contradict the one who sealed the run.
        run = rich_run()
        run.projection.signature = "ab" * 32
        run.projection.tool_signature = None
        run.projection.summary.total_cost_cents = 77.5
        run.projection.summary.correlation_id = "another request"
        run.projection.steps[1] = replace(
            run.projection.steps[1], determinism_hash=b"h" * 32, path=b"p" * 32, tool_path=b"t" * 32
        )
        store.put(run)
        assert_kept(store, run)
        assert store.path_at(run.run_id, 2, tenant_id=T) == b"p" * 32

    def test_a_run_does_not_change_with_the_callers_objects(self, store: TraceStore) -> None:
        store.put(run := rich_run())
        run.ledger.events[1].facts["skill_name"] = "changed"
        run.ledger.events[1].values.clear()
        run.ledger.events.pop()
        run.projection.metadata["nested"]["a"].clear()
        run.projection.summary.status = "changed"
        run.projection.steps[0].skill_name = "changed"
        assert_kept(store, rich_run())

    def test_what_was_read_can_be_changed_without_changing_the_run(self, store: TraceStore) -> None:
        store.put(rich_run())
        ledger = store.ledger("rich", tenant_id=T)
        ledger.events[1].facts["skill_name"] = "changed"
        ledger.events[1].values.clear()
        ledger.events.clear()
        item = store.get("rich", tenant_id=T)
        item.summary.status = "changed"
        item.metadata["nested"]["a"].clear()
        store.steps("rich", tenant_id=T)[0].skill_name = "changed"
        assert_kept(store, rich_run())

    # --- steps, paths, values -------------------------------------------------------

    def test_steps_are_read_by_their_range(self, store: TraceStore) -> None:
        store.put(run := make_run("run", steps=make_steps(10)))
        rows = run.projection.steps
        assert store.steps("run", tenant_id=T, start=3, stop=5) == rows[3:5]
        assert store.steps("run", tenant_id=T, start=8) == rows[8:]
        assert store.steps("run", tenant_id=T, stop=2) == rows[:2]
        assert store.steps("run", tenant_id=T, start=5, stop=5) == []
        assert store.steps("run", tenant_id=T, start=10, stop=99) == []

    def test_the_path_after_k_steps_is_that_of_step_k_minus_1(self, store: TraceStore) -> None:
        store.put(run := make_run("run", steps=make_steps(5)))
        store.put(make_run("next", steps=make_steps(1)))
        paths = [store.path_at("run", k, tenant_id=T) for k in range(6)]
        assert paths == [path_start(), *(row.path for row in run.projection.steps)]
        for k in (-1, 6, 2**24 + 1):
            with pytest.raises(IndexError):
                store.path_at("run", k, tenant_id=T)

    def test_values_are_read_by_event_and_name(self, store: TraceStore) -> None:
        store.put(run := rich_run())
        events = run.ledger.events
        wanted = [(1, "params"), (3, "raw_ids"), (2, "outcome_data")]
        expected = {(seq, name): events[seq].values[name] for seq, name in wanted}
        assert store.values("rich", wanted, tenant_id=T) == expected
        assert store.values("rich", [], tenant_id=T) == {}
        assert store.values("rich", [(1, "nothing"), (-1, "params"), (999, "params")], tenant_id=T) == {}

    def test_single_values_of_a_growing_history_are_right(self, store: TraceStore) -> None:
        store.put(run := history(90))
        for seq in (1, 41, 177, 179):
            wanted = [(seq, "params"), (seq + 1, "outcome_data")]
            expected = {key: run.ledger.events[key[0]].values[key[1]] for key in wanted}
            assert store.values("history", wanted, tenant_id=T) == expected

    # --- tenants --------------------------------------------------------------------

    def test_a_run_of_another_tenant_does_not_exist(self, store: TraceStore) -> None:
        store.put(make_run("theirs", tenant_id="acme", steps=make_steps(2), metadata={"a": 1}))
        store.put(make_run("ours"))
        for ask in _questions(store, "theirs"):
            with pytest.raises(RunNotFoundError):
                ask()
        assert [item.summary.run_id for item in store.query(RunQuery()).runs] == ["ours"]
        assert store.count(RunQuery()) == 1
        assert store.count(RunQuery(metadata={"a": 1})) == store.count(RunQuery(skill="chat")) == 0
        assert store.count(RunQuery(tenant_id="nobody")) == 0

    def test_tenants_may_use_the_same_run_id(self, store: TraceStore) -> None:
        ours = make_run("same", steps=make_steps(1))
        theirs = make_run("same", tenant_id="acme", steps=make_steps(2))
        assert store.put(ours)
        assert store.put(theirs)
        assert_kept(store, ours)
        assert_kept(store, theirs)

    def test_a_run_that_was_taken_over_is_of_who_took_it(self, store: TraceStore) -> None:
        recorded = rich_run("theirs", tenant_id="acme").ledger
        taken = recorded.owned_by(T)
        ours = SealedRun(taken, ledgers.project(taken))
        # Whose it is stands in what was put, not in the events, which still name who recorded it.
        assert store.put(replace(ours, ledger=recorded))
        for _ in range(2):
            assert_kept(store, ours)
            kept = store.ledger("theirs", tenant_id=T)
            ledgers.verify(kept)
            assert kept == taken
            assert kept.record().to_summary() == ours.projection.summary
            for ask in _questions(store, "theirs", "acme"):
                with pytest.raises(RunNotFoundError):
                    ask()
            assert store.rebuild() == 1
        store.put(make_run("ours"))
        assert store.ledger("ours", tenant_id=T).owner is None

    def test_an_unknown_run_is_named_in_the_error(self, store: TraceStore) -> None:
        for ask in _questions(store, "nowhere"):
            with pytest.raises(RunNotFoundError) as caught:
                ask()
            assert caught.value.run_id == "nowhere"

    def test_an_id_that_no_text_can_be_is_just_not_found(self, store: TraceStore) -> None:
        for ask in _questions(store, "\ud800"):
            with pytest.raises(RunNotFoundError):
                ask()

    # --- threads --------------------------------------------------------------------

    def test_many_threads_may_use_one_store(self, store: TraceStore) -> None:
        added: list[str] = []
        shared = make_run("shared", steps=make_steps(3))
        together = threading.Barrier(6, timeout=60)

        def work(number: int) -> None:
            for count in range(5):
                run = make_run(f"run-{number}-{count}", steps=make_steps(2))
                store.put(run)
                if count == 0:
                    together.wait()
                if store.put(shared):
                    added.append("shared")
                assert_kept(store, run)
                store.count(RunQuery())

        _together([partial(work, number) for number in range(6)])
        assert added == ["shared"]
        assert store.count(RunQuery()) == 31

    def test_closing_twice_is_fine(self, store: TraceStore) -> None:
        store.put(make_run("run"))
        store.close()
        store.close()

    def test_a_closed_store_says_so(self, store: TraceStore) -> None:
        store.put(make_run("run"))
        store.close()
        with pytest.raises(IsotraceError):
            store.count(RunQuery())

    def test_a_store_has_a_url(self, store: TraceStore) -> None:
        assert isinstance(store.url, str)
        assert store.url
        assert isinstance(store, TraceStore)


def _questions(store: TraceStore, run_id: str, tenant_id: str = T) -> list[Callable[[], object]]:
    """Each call that is about one run."""

    def erase() -> None:
        store.erase(run_id, [(0, "metadata")], tenant_id=tenant_id, reason="test")

    return [
        lambda: store.get(run_id, tenant_id=tenant_id),
        lambda: store.ledger(run_id, tenant_id=tenant_id),
        lambda: store.steps(run_id, tenant_id=tenant_id),
        lambda: store.path_at(run_id, 0, tenant_id=tenant_id),
        lambda: store.values(run_id, [(1, "params")], tenant_id=tenant_id),
        lambda: store.resolve(run_id, tenant_id=tenant_id),
        lambda: store.tombstones(run_id, tenant_id=tenant_id),
        erase,
    ]


def _together(tasks: list[Callable[[], None]]) -> None:
    """Runs all at once, each in a thread, and raises what one of them raised."""
    errors: list[BaseException] = []

    def guarded(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:  # noqa: BLE001  # handed to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
