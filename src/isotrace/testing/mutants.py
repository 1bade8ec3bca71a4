"""Stores that are wrong in one way each. The store contract must fail them all, or it promises nothing.

Each names, in `caught_by`, the test of the contract that must fail for it. Whoever adds a promise
to the contract adds the store that breaks it here.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from isotrace import ledger as ledgers
from isotrace.contracts import Page, RunItem, RunQuery
from isotrace.errors import AmbiguousRunError, ConflictError, QueryError, RecordGapError
from isotrace.events import microseconds_of
from isotrace.ledger import Ledger, SealedRun, StepRow
from isotrace.models import Erased
from isotrace.stores.memory import Kept, MemoryStore, ValueKey, matches
from isotrace.stores.queries import MAX_LIMIT


class Mutant(MemoryStore):
    """A store that breaks one promise."""

    caught_by: ClassVar[str]

    def _kept_of(self, run: SealedRun) -> Kept | None:
        return self._kept.get((run.tenant_id, run.run_id))


# --- keeping --------------------------------------------------------------------------


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


class RacingPut(Mutant):
    """Looks first and writes later, without a lock between."""

    caught_by = "test_many_threads_may_use_one_store"

    def put(self, run: SealedRun) -> bool:
        there = self._kept_of(run) is not None
        time.sleep(0.002)
        super().put(run)
        return not there


# --- finding --------------------------------------------------------------------------


class OldestFirst(Mutant):
    """Runs are listed in the order of recording."""

    caught_by = "test_runs_are_listed_newest_first_by_recording"

    def _matching(self, query: RunQuery) -> list[Kept]:
        return super()._matching(query)[::-1]


class ByStart(Mutant):
    """Runs are listed by their start, not by when they were recorded."""

    caught_by = "test_runs_are_listed_newest_first_by_recording"

    def _matching(self, query: RunQuery) -> list[Kept]:
        found = super()._matching(query)
        return sorted(found, key=lambda kept: kept.run.projection.summary.started_at, reverse=True)


def _ignores(field: str, ignored: Any, caught_by: str) -> type[Mutant]:
    def matching(self: Mutant, query: RunQuery) -> list[Kept]:
        return MemoryStore._matching(self, replace(query, **{field: ignored}))

    return type(
        f"Ignores_{field}",
        (Mutant,),
        {"__doc__": f"The filter {field} is ignored.", "caught_by": caught_by, "_matching": matching},
    )


_NOTHING_FITS = "test_each_filter_finds_nothing_where_nothing_fits"
_IGNORING = [
    _ignores(field, None, _NOTHING_FITS)
    for field in (
        "agent_id",
        "status",
        "correlation_id",
        "skill",
        "signature",
        "root_hash",
        "since",
        "until",
        "min_cost_cents",
        "max_cost_cents",
        "violation",
    )
] + [_ignores("metadata", {}, _NOTHING_FITS)]


class ListsAllTenants(Mutant):
    """Listings and counts show every tenant's runs."""

    caught_by = "test_a_run_of_another_tenant_does_not_exist"

    def _matching(self, query: RunQuery) -> list[Kept]:
        return [
            kept
            for kept in self._kept.values()
            if matches(kept.run, replace(query, tenant_id=kept.run.tenant_id))
        ]


class AnyFilterFits(Mutant):
    """Agent and skill are joined by OR."""

    caught_by = "test_all_filters_must_hold"

    def _matching(self, query: RunQuery) -> list[Kept]:
        if query.agent_id is None or query.skill is None:
            return super()._matching(query)
        either = super()._matching(replace(query, skill=None)) + super()._matching(
            replace(query, agent_id=None)
        )
        return list({id(kept): kept for kept in either}.values())


class SinceIsExclusive(Mutant):
    """A run that began at `since` is left out."""

    caught_by = "test_a_time_range_includes_its_start_and_not_its_end"

    def _matching(self, query: RunQuery) -> list[Kept]:
        since = None if query.since is None else microseconds_of(query.since)
        return [
            kept
            for kept in super()._matching(query)
            if microseconds_of(kept.run.projection.summary.started_at) != since
        ]


class FirstPolicyOnly(Mutant):
    """A violation is found by the summary's policy alone."""

    caught_by = "test_a_violation_is_found_by_any_policy_or_none"

    def _matching(self, query: RunQuery) -> list[Kept]:
        if not isinstance(query.violation, str):
            return super()._matching(query)
        return [
            kept
            for kept in super()._matching(replace(query, violation=None))
            if kept.run.projection.summary.violation_policy_id == query.violation
        ]


class MetadataByType(Mutant):
    """The number 13 and the text 13 are different."""

    caught_by = "test_metadata_finds_numbers_and_strings_that_read_alike"

    def _matching(self, query: RunQuery) -> list[Kept]:
        return [
            kept
            for kept in super()._matching(query)
            if all(kept.run.projection.metadata[key] == value for key, value in query.metadata.items())
        ]


class MetadataByNumber(Mutant):
    """Two texts are equal if they are equal numbers: 1.10 is 1.1."""

    caught_by = "test_metadata_does_not_find_what_reads_otherwise"

    def _matching(self, query: RunQuery) -> list[Kept]:
        plain = replace(query, metadata={})
        return [kept for kept in super()._matching(plain) if self._fits(kept, query)]

    @staticmethod
    def _fits(kept: Kept, query: RunQuery) -> bool:
        def number(value: Any) -> Any:
            try:
                return float(value)
            except (TypeError, ValueError):
                return value

        held = kept.run.projection.metadata
        return all(
            key in held and number(held[key]) == number(value) for key, value in query.metadata.items()
        )


class PagesByOffset(Mutant):
    """A cursor counts runs from the newest, so that added runs shift the pages."""

    caught_by = "test_runs_added_while_paging_shift_nothing"

    def query(self, query: RunQuery) -> Page:
        offset = self._cursors.read(query) or 0
        matching = self._matching(query)
        items = [self.get(kept.run.run_id, tenant_id=query.tenant_id) for kept in matching]
        end = offset + query.limit
        return Page(items[offset:end], self._cursors.make(query, end) if end < len(items) else None)


class PromisesAnEmptyPage(Mutant):
    """A full page always has a next one."""

    caught_by = "test_pages_hold_each_run_once_and_end"

    def query(self, query: RunQuery) -> Page:
        page = super().query(query)
        if page.next is not None or len(page.runs) < query.limit:
            return page
        last = page.runs[-1].summary.run_id
        return replace(page, next=self._cursors.make(query, self._find(last, query.tenant_id).position))


class CutsTheLimit(Mutant):
    """A limit that is too high gives as many as may be, without a word."""

    caught_by = "test_a_limit_out_of_range_is_refused"

    def query(self, query: RunQuery) -> Page:
        if isinstance(query.limit, int):
            query = replace(query, limit=min(max(int(query.limit), 1), MAX_LIMIT))
        return super().query(query)


class BeginsAgain(Mutant):
    """A cursor that can't be read gives the first page."""

    caught_by = "test_a_cursor_that_is_not_of_this_store_and_query_is_refused"

    def query(self, query: RunQuery) -> Page:
        try:
            return super().query(query)
        except QueryError:
            return super().query(replace(query, after=None))


class CountsAPage(Mutant):
    """A count stops at the limit."""

    caught_by = "test_a_count_is_of_all_runs_whatever_page_is_asked_for"

    def count(self, query: RunQuery) -> int:
        return min(super().count(query), query.limit)


class ListsNothingForABadFilter(Mutant):
    """A filter that can't be served fits no run."""

    caught_by = "test_a_filter_that_can_not_be_served_is_refused"

    def query(self, query: RunQuery) -> Page:
        try:
            return super().query(query)
        except QueryError:
            return Page([], None)


class TakesTheFirst(Mutant):
    """An ambiguous beginning means the first run that fits."""

    caught_by = "test_an_ambiguous_beginning_is_refused_and_says_what_it_could_mean"

    def resolve(self, prefix: str, *, tenant_id: str) -> str:
        try:
            return super().resolve(prefix, tenant_id=tenant_id)
        except AmbiguousRunError as error:
            return str(error.nearest).split(", ")[0]


class LastOfAnyTenant(Mutant):
    """`@last` is the newest run of all tenants."""

    caught_by = "test_last_is_the_run_recorded_last"

    def resolve(self, prefix: str, *, tenant_id: str) -> str:
        if prefix == "@last" and self._kept:
            return max(self._kept.values(), key=lambda kept: kept.position).run.run_id
        return super().resolve(prefix, tenant_id=tenant_id)


class EmptyMeansAny(Mutant):
    """An empty beginning names the only run."""

    caught_by = "test_an_unknown_or_empty_beginning_names_no_run"

    def resolve(self, prefix: str, *, tenant_id: str) -> str:
        return super().resolve(prefix or "@last", tenant_id=tenant_id)


# --- erasing and rebuilding -----------------------------------------------------------


class KeepsTheBytes(Mutant):
    """An erased value can still be read by name."""

    caught_by = "test_an_erased_value_leaves_its_commitment_and_the_root_stays_true"

    def __init__(self) -> None:
        super().__init__()
        self._attic: dict[tuple[str, ValueKey], bytes] = {}

    def erase(self, run_id: str, targets: Iterable[ValueKey], *, tenant_id: str, reason: str) -> None:
        wanted = list(targets)
        for key, value in super().values(run_id, wanted, tenant_id=tenant_id).items():
            self._attic[run_id, key] = value
        super().erase(run_id, wanted, tenant_id=tenant_id, reason=reason)

    def values(self, run_id: str, wanted: Sequence[ValueKey], *, tenant_id: str) -> dict[ValueKey, bytes]:
        found = super().values(run_id, wanted, tenant_id=tenant_id)
        return found | {key: self._attic[run_id, key] for key in wanted if (run_id, key) in self._attic}


class _KeepsPart(Mutant):
    """Erases the ledger, and keeps a part of what was derived from it before."""

    def erase(self, run_id: str, targets: Iterable[ValueKey], *, tenant_id: str, reason: str) -> None:
        before = self._find(run_id, tenant_id).run
        super().erase(run_id, targets, tenant_id=tenant_id, reason=reason)
        kept = self._find(run_id, tenant_id)
        kept.run = self._with_part(kept.run, before)

    def _with_part(self, after: SealedRun, before: SealedRun) -> SealedRun:
        raise NotImplementedError


class KeepsTheDigests(_KeepsPart):
    """Hashes that could confirm a guess stay after erasing."""

    caught_by = "test_erasing_params_takes_the_hash_the_path_from_there_on_and_the_signature"

    def _with_part(self, after: SealedRun, before: SealedRun) -> SealedRun:
        return replace(after, projection=replace(after.projection, steps=before.projection.steps))


class KeepsTheSignature(_KeepsPart):
    """The signature, which an erased value's hash went into, stays."""

    caught_by = "test_erasing_params_takes_the_hash_the_path_from_there_on_and_the_signature"

    def _with_part(self, after: SealedRun, before: SealedRun) -> SealedRun:
        return replace(after, projection=replace(after.projection, signature=before.projection.signature))


class KeepsTheSeed(_KeepsPart):
    """The seed, which gives the salt of the erased value, stays."""

    caught_by = "test_the_seed_goes_and_only_the_salts_of_what_is_left_stay"

    def _with_part(self, after: SealedRun, before: SealedRun) -> SealedRun:
        return replace(after, ledger=replace(after.ledger, seed=before.ledger.seed))


class KeepsTheMetadata(_KeepsPart):
    """Erased metadata is still listed and found."""

    caught_by = "test_erased_metadata_is_no_longer_listed_nor_found"

    def _with_part(self, after: SealedRun, before: SealedRun) -> SealedRun:
        return replace(after, projection=replace(after.projection, metadata=before.projection.metadata))


class ErasesToNull(Mutant):
    """An erased value reads back as null."""

    caught_by = "test_an_erased_value_leaves_its_commitment_and_the_root_stays_true"

    def ledger(self, run_id: str, *, tenant_id: str) -> Ledger:
        ledger = super().ledger(run_id, tenant_id=tenant_id)
        for event in ledger.events:
            for name, value in event.values.items():
                if isinstance(value, Erased):
                    event.values[name] = b"null"
        return ledger


class ErasesWhatItFinds(Mutant):
    """Targets that are not there are passed over."""

    caught_by = "test_a_value_that_is_not_there_is_named_and_nothing_is_erased"

    def erase(self, run_id: str, targets: Iterable[ValueKey], *, tenant_id: str, reason: str) -> None:
        for target in targets:
            try:
                super().erase(run_id, [target], tenant_id=tenant_id, reason=reason)
            except RecordGapError:
                continue


class ErasesHalf(Mutant):
    """A target that is not there is found only after others were erased."""

    caught_by = "test_a_value_that_is_not_there_is_named_and_nothing_is_erased"

    def erase(self, run_id: str, targets: Iterable[ValueKey], *, tenant_id: str, reason: str) -> None:
        wanted = list(targets)
        if not wanted:
            super().erase(run_id, wanted, tenant_id=tenant_id, reason=reason)
        for target in wanted:
            super().erase(run_id, [target], tenant_id=tenant_id, reason=reason)


class BringsBackTheErased(Mutant):
    """Putting the run again undoes what was erased."""

    caught_by = "test_putting_an_erased_run_again_does_not_bring_its_values_back"

    def put(self, run: SealedRun) -> bool:
        added = super().put(run)
        self._kept[run.tenant_id, run.run_id].run = replace(run)
        return added


class ForgetsWhy(Mutant):
    """A tombstone does not keep its reason."""

    caught_by = "test_a_tombstone_says_what_was_erased_when_and_why"

    def erase(self, run_id: str, targets: Iterable[ValueKey], *, tenant_id: str, reason: str) -> None:
        super().erase(run_id, targets, tenant_id=tenant_id, reason="")


class RebuildLosesRuns(Mutant):
    """Rebuilding keeps only what was completed."""

    caught_by = "test_rebuilding_gives_the_same_runs_again"

    def rebuild(self) -> int:
        self._kept = {
            key: kept for key, kept in self._kept.items() if kept.run.projection.summary.status == "completed"
        }
        return super().rebuild()


class RebuildDoesNothing(Mutant):
    """Rebuilding counts the runs and leaves them as they are."""

    caught_by = "test_rebuilding_takes_everything_from_the_ledger"

    def rebuild(self) -> int:
        return len(self._kept)


class StaleItems(Mutant):
    """Listings are kept from before a rebuild."""

    caught_by = "test_rebuilding_takes_everything_from_the_ledger"

    def __init__(self) -> None:
        super().__init__()
        self._cache: dict[tuple[str, str], RunItem] = {}

    def get(self, run_id: str, *, tenant_id: str) -> RunItem:
        key = (tenant_id, run_id)
        if key not in self._cache:
            self._cache[key] = super().get(run_id, tenant_id=tenant_id)
        return self._cache[key]

    def put(self, run: SealedRun) -> bool:
        added = super().put(run)
        self.get(run.run_id, tenant_id=run.tenant_id)
        return added


def _mutants(cls: type[Mutant]) -> list[type[Mutant]]:
    found = [cls] if "caught_by" in vars(cls) else []
    return found + [mutant for child in cls.__subclasses__() for mutant in _mutants(child)]


MUTANTS: tuple[type[Mutant], ...] = tuple(_mutants(Mutant))
"""Every store of this module that breaks a promise."""
