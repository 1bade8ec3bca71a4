"""Stores that keep or give back something else than what was put."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from isotrace import ledger as ledgers
from isotrace.errors import ConflictError
from isotrace.ledger import Ledger, SealedRun, StepRow
from isotrace.stores.memory import Kept, ValueKey
from isotrace.testing.mutants.base import Mutant


class LastWriteWins(Mutant):
    """Another run under the same id replaces the first."""

    caught_by = "test_another_run_under_the_same_id_is_refused_and_the_first_stays"

    def put(self, run: SealedRun) -> bool:
        if (kept := self._kept_of(run)) is not None:
            kept.run = run
            return False
        return super().put(run)


class SaysAddedTwice(Mutant):
    """The same run again counts as added."""

    caught_by = "test_the_same_run_again_is_reported_and_changes_nothing"

    def put(self, run: SealedRun) -> bool:
        super().put(run)
        return True


class RefusesTheSameRun(Mutant):
    """The same run again is a conflict."""

    caught_by = "test_the_same_run_again_is_reported_and_changes_nothing"

    def put(self, run: SealedRun) -> bool:
        if not super().put(run):
            raise ConflictError("there already", run_id=run.run_id)
        return True


class MovesToTheFront(Mutant):
    """The same run again becomes the newest."""

    caught_by = "test_the_same_run_again_is_reported_and_changes_nothing"

    def put(self, run: SealedRun) -> bool:
        if (kept := self._kept_of(run)) is not None:
            kept.position = max(one.position for one in self._kept.values()) + 1
        return super().put(run)


class DropsAValue(Mutant):
    """The last value of a run is lost."""

    caught_by = "test_a_run_comes_back_as_it_was_put"

    def put(self, run: SealedRun) -> bool:
        added = super().put(run)
        events = self._kept[run.tenant_id, run.run_id].run.ledger.events
        event = next((event for event in reversed(events) if event.values), None)
        if event is not None:
            event.values.popitem()
        return added


class SortsKeys(Mutant):
    """Values come back as equal JSON, not as the same bytes."""

    caught_by = "test_values_keep_their_bytes_whatever_stands_in_them"

    def ledger(self, run_id: str, *, tenant_id: str) -> Ledger:
        from isotrace.canonical import canonical_bytes, parse_json  # noqa: PLC0415  # this mutant alone

        ledger = super().ledger(run_id, tenant_id=tenant_id)
        for event in ledger.events:
            for name, value in event.values.items():
                if isinstance(value, bytes):
                    event.values[name] = canonical_bytes(parse_json(value))
        return ledger


class DerivesIdentityAgain(Mutant):
    """Summary and digests are computed from the ledger instead of being taken as given."""

    caught_by = "test_identity_and_digests_are_taken_as_they_are_given"

    def put(self, run: SealedRun) -> bool:
        return super().put(replace(run, projection=ledgers.project(run.ledger)))


class ForgetsWhereItWasSealed(Mutant):
    """Every run counts as imported."""

    caught_by = "test_where_a_run_was_sealed_is_kept"

    def put(self, run: SealedRun) -> bool:
        return super().put(replace(run, local=False))


class TrustsEveryone(Mutant):
    """Every run counts as sealed here, so that its entry point would be followed."""

    caught_by = "test_where_a_run_was_sealed_is_kept"

    def put(self, run: SealedRun) -> bool:
        return super().put(replace(run, local=True))


class KeepsTheCallersObjects(Mutant):
    """What was put changes when the caller's objects do."""

    caught_by = "test_a_run_does_not_change_with_the_callers_objects"

    def put(self, run: SealedRun) -> bool:
        added = super().put(run)
        self._kept[run.tenant_id, run.run_id].run = run
        return added


class HandsOutItsOwnObjects(Mutant):
    """What was read changes the store when the reader changes it."""

    caught_by = "test_what_was_read_can_be_changed_without_changing_the_run"

    def ledger(self, run_id: str, *, tenant_id: str) -> Ledger:
        return self._find(run_id, tenant_id).run.ledger


class LosesTheSalts(Mutant):
    """A run without a seed comes back without its salts."""

    caught_by = "test_a_run_whose_values_were_withheld_keeps_commitments_and_salts"

    def ledger(self, run_id: str, *, tenant_id: str) -> Ledger:
        return replace(super().ledger(run_id, tenant_id=tenant_id), salts={})


class StopsOneStepLate(Mutant):
    """A range of steps includes its end."""

    caught_by = "test_steps_are_read_by_their_range"

    def steps(self, run_id: str, *, tenant_id: str, start: int = 0, stop: int | None = None) -> list[StepRow]:
        return super().steps(
            run_id, tenant_id=tenant_id, start=start, stop=None if stop is None else stop + 1
        )


class PathIsOneLate(Mutant):
    """The path after k steps is that of step k."""

    caught_by = "test_the_path_after_k_steps_is_that_of_step_k_minus_1"

    def path_at(self, run_id: str, k: int, *, tenant_id: str) -> bytes | None:
        total = len(self.steps(run_id, tenant_id=tenant_id))
        return super().path_at(run_id, min(k + 1, total) if k >= 0 else k, tenant_id=tenant_id)


class GivesMoreValues(Mutant):
    """All values of an event come along."""

    caught_by = "test_values_are_read_by_event_and_name"

    def values(self, run_id: str, wanted: Sequence[ValueKey], *, tenant_id: str) -> dict[ValueKey, bytes]:
        events = self._find(run_id, tenant_id).run.ledger.events
        there = {seq for seq, _ in wanted if 0 <= seq < len(events)}
        keys = [(seq, name) for seq in there for name in events[seq].values]
        return super().values(run_id, keys, tenant_id=tenant_id)


class LeaksAcrossTenants(Mutant):
    """A run is found by its id alone."""

    caught_by = "test_a_run_of_another_tenant_does_not_exist"

    def _find(self, run_id: str, tenant_id: str) -> Kept:
        for kept in self._kept.values():
            if kept.run.run_id == run_id:
                return kept
        return super()._find(run_id, tenant_id)


class OneIdForAllTenants(Mutant):
    """Two tenants can't use the same id."""

    caught_by = "test_tenants_may_use_the_same_run_id"

    def put(self, run: SealedRun) -> bool:
        if any(kept.run.run_id == run.run_id for kept in self._kept.values()) and not self._kept_of(run):
            raise ConflictError("taken", run_id=run.run_id)
        return super().put(run)


class ForgetsWhoTookItOver(Mutant):
    """A ledger is handed out as if it still belonged to whom its events name."""

    caught_by = "test_a_run_that_was_taken_over_is_of_who_took_it"

    def ledger(self, run_id: str, *, tenant_id: str) -> Ledger:
        return replace(super().ledger(run_id, tenant_id=tenant_id), owner=None)


class RacingPut(Mutant):
    """Looks first and writes later, without a lock between."""

    caught_by = "test_many_threads_may_use_one_store"

    def put(self, run: SealedRun) -> bool:
        there = self._kept_of(run) is not None
        time.sleep(0.05)
        super().put(run)
        return not there
