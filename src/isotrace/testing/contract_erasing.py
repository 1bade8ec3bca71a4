"""The part of the store contract about erasing values, and about rebuilding what is derived."""

from __future__ import annotations

from datetime import timedelta

import pytest

from isotrace import ledger as ledgers
from isotrace.contracts import RunQuery, TraceStore
from isotrace.errors import RecordGapError
from isotrace.ledger import SealedRun
from isotrace.models import Erased
from isotrace.testing.contract_finding import fill, found
from isotrace.testing.contract_keeping import T, assert_kept, history, rich_run
from isotrace.testing.runs import make_run, make_steps

Targets = set[tuple[int, str]]


def without(run: SealedRun, targets: Targets) -> SealedRun:
    """The run as it must be once these values are erased."""
    ledger = ledgers.erase(run.ledger, targets)
    return SealedRun(ledger, ledgers.project(ledger), run.local)


def erase(store: TraceStore, run: SealedRun, targets: Targets) -> SealedRun:
    """Erases in the store; the run as it must be from now on."""
    store.erase(run.run_id, targets, tenant_id=run.tenant_id, reason="a test asked for it")
    return without(run, targets)


class ErasingContract:
    """Tests of `erase` and `rebuild`."""

    def test_an_erased_value_leaves_its_commitment_and_the_root_stays_true(self, store: TraceStore) -> None:
        store.put(run := rich_run())
        commit = ledgers.envelope(run.ledger.events[1], run.ledger)["params"]["commit"]
        expected = erase(store, run, {(1, "params")})
        ledger = store.ledger("rich", tenant_id=T)
        assert ledger.events[1].values["params"] == Erased(commit)
        assert ledger.root_hash == run.ledger.root_hash
        ledgers.verify(ledger)
        assert_kept(store, expected)
        assert store.values("rich", [(1, "params"), (2, "outcome_data")], tenant_id=T) == {
            (2, "outcome_data"): run.ledger.events[2].values["outcome_data"]
        }

    def test_erasing_params_takes_the_hash_the_path_from_there_on_and_the_signature(
        self, store: TraceStore
    ) -> None:
        store.put(run := make_run("run", steps=make_steps(6)))
        erase(store, run, {(5, "params")})
        rows = store.steps("run", tenant_id=T)
        assert [row.determinism_hash is None for row in rows] == [False, False, True, False, False, False]
        assert [row.path is None for row in rows] == [False, False, True, True, True, True]
        assert [store.path_at("run", k, tenant_id=T) is None for k in range(7)] == [False] * 3 + [True] * 4
        assert store.get("run", tenant_id=T).signature is None
        assert found(store, signature=run.projection.signature) == []
        assert found(store, root_hash=run.ledger.root_hash) == ["run"]

    def test_erasing_an_outcome_takes_its_digest_alone(self, store: TraceStore) -> None:
        store.put(run := make_run("run", steps=make_steps(3)))
        erase(store, run, {(4, "outcome_data")})
        rows = store.steps("run", tenant_id=T)
        assert [row.outcome_digest is None for row in rows] == [False, True, False]
        assert [row.path for row in rows] == [row.path for row in run.projection.steps]
        assert store.get("run", tenant_id=T).signature == run.projection.signature

    def test_each_kind_of_value_can_be_erased(self, store: TraceStore) -> None:
        run = rich_run()
        targets = {(event.seq, name) for event in run.ledger.events for name in event.values}
        for number, target in enumerate(sorted(targets)):
            one = rich_run(f"rich-{number}")
            store.put(one)
            assert_kept(store, erase(store, one, {target}))

    def test_all_values_of_a_run_can_be_erased(self, store: TraceStore) -> None:
        store.put(run := rich_run())
        targets = {(event.seq, name) for event in run.ledger.events for name in event.values}
        expected = erase(store, run, targets)
        assert_kept(store, expected)
        assert store.values("rich", sorted(targets), tenant_id=T) == {}
        ledgers.verify(store.ledger("rich", tenant_id=T))

    def test_a_value_amid_a_growing_history_can_be_erased(self, store: TraceStore) -> None:
        store.put(run := history(60))
        expected = erase(store, run, {(41, "params"), (43, "params"), (44, "outcome_data")})
        assert_kept(store, expected)
        kept = {(seq, "params"): run.ledger.events[seq].values["params"] for seq in (39, 45, 119)}
        assert store.values("history", [*kept, (41, "params")], tenant_id=T) == kept

    def test_values_can_be_erased_one_after_the_other(self, store: TraceStore) -> None:
        store.put(run := rich_run())
        once = erase(store, run, {(2, "outcome_data")})
        twice = erase(store, once, {(3, "params"), (0, "input")})
        assert_kept(store, twice)
        ledgers.verify(store.ledger("rich", tenant_id=T))

    def test_the_seed_goes_and_only_the_salts_of_what_is_left_stay(self, store: TraceStore) -> None:
        store.put(run := rich_run())
        erase(store, run, {(1, "params")})
        ledger = store.ledger("rich", tenant_id=T)
        left = {(event.seq, name) for event in run.ledger.events for name in event.values} - {(1, "params")}
        assert ledger.seed is None
        assert set(ledger.salts) == left

    def test_erased_metadata_is_no_longer_listed_nor_found(self, store: TraceStore) -> None:
        runs = fill(store)
        expected = erase(store, runs["a"], {(0, "metadata")})
        assert found(store, metadata={"task": 13}) == ["b"]
        assert store.get("a", tenant_id=T).metadata == expected.projection.metadata
        assert "gpt-4.1" not in str(store.query(RunQuery(skill="search")).runs[0].metadata)

    def test_an_erased_reason_leaves_the_violation(self, store: TraceStore) -> None:
        store.put(run := rich_run())
        seq = next(event.seq for event in run.ledger.events if event.type == "violation")
        expected = erase(store, run, {(seq, "reason")})
        assert store.get("rich", tenant_id=T).summary == expected.projection.summary
        assert isinstance(store.get("rich", tenant_id=T).summary.violation_reason, Erased)
        assert found(store, violation="no-refunds") == ["rich"]

    def test_a_value_that_is_not_there_is_named_and_nothing_is_erased(self, store: TraceStore) -> None:
        store.put(run := rich_run())
        for target in ((1, "nothing"), (999, "params"), (-1, "params")):
            with pytest.raises(RecordGapError):
                store.erase("rich", [(1, "params"), target], tenant_id=T, reason="test")
        assert_kept(store, run)

    def test_a_value_can_not_be_erased_twice(self, store: TraceStore) -> None:
        store.put(run := rich_run())
        expected = erase(store, run, {(1, "params")})
        with pytest.raises(RecordGapError):
            store.erase("rich", [(1, "params")], tenant_id=T, reason="again")
        assert_kept(store, expected)

    def test_erasing_nothing_changes_nothing(self, store: TraceStore) -> None:
        store.put(run := rich_run())
        store.erase("rich", [], tenant_id=T, reason="test")
        assert_kept(store, run)

    def test_putting_an_erased_run_again_does_not_bring_its_values_back(self, store: TraceStore) -> None:
        store.put(run := rich_run())
        expected = erase(store, run, {(1, "params")})
        assert store.put(rich_run()) is False
        assert_kept(store, expected)

    def test_erasing_keeps_the_order_of_recording_and_other_runs(self, store: TraceStore) -> None:
        runs = fill(store)
        cursor = store.query(RunQuery(limit=2)).next
        erase(store, runs["b"], {(1, "params")})
        assert found(store) == ["d", "c", "b", "a"]
        rest = store.query(RunQuery(limit=2, after=cursor)).runs
        assert [item.summary.run_id for item in rest] == ["b", "a"]
        for name in "acd":
            assert_kept(store, runs[name])

    def test_a_tombstone_says_what_was_erased_when_and_why(self, store: TraceStore) -> None:
        store.put(rich_run())
        assert store.tombstones("rich", tenant_id=T) == []
        store.erase("rich", [(3, "params"), (1, "params")], tenant_id=T, reason="a card number")
        store.erase("rich", [(0, "input")], tenant_id=T, reason="asked for by ü")
        store.rebuild()
        first, second = store.tombstones("rich", tenant_id=T)
        assert (first.targets, first.reason) == (((1, "params"), (3, "params")), "a card number")
        assert (second.targets, second.reason) == (((0, "input"),), "asked for by ü")
        assert first.erased_at <= second.erased_at
        assert first.erased_at.utcoffset() == timedelta(0)

    # --- rebuilding -----------------------------------------------------------------

    def test_rebuilding_gives_the_same_runs_again(self, store: TraceStore) -> None:
        runs = fill(store)
        store.put(theirs := rich_run(tenant_id="acme"))
        store.put(erased := rich_run("erased"))
        expected = erase(store, erased, {(3, "params"), (0, "metadata")})
        assert store.rebuild() == 6
        for run in (*runs.values(), theirs, expected):
            assert_kept(store, run)
        assert found(store) == ["erased", "d", "c", "b", "a"]
        assert found(store, metadata={"task": 13}) == ["b", "a"]

    def test_rebuilding_takes_everything_from_the_ledger(self, store: TraceStore) -> None:
        # Put with a summary that its ledger does not give, as a damaged index would show it.
        run = rich_run()
        run.projection.summary.agent_id = "wrong"
        run.projection.metadata["task"] = "wrong"
        run.projection.steps[0].skill_name = "wrong"
        store.put(run)
        assert found(store, agent_id="wrong") == found(store, skill="wrong") == ["rich"]
        assert store.rebuild() == 1
        assert_kept(store, rich_run())
        assert found(store, agent_id="wrong") == found(store, skill="wrong") == []
        assert found(store, metadata={"task": "wrong"}) == []
        assert found(store, skill="chat", metadata={"task": 13}) == ["rich"]

    def test_rebuilding_a_store_without_runs_is_fine(self, store: TraceStore) -> None:
        assert store.rebuild() == 0
