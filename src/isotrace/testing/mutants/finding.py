"""Stores that list, count or name other runs than those asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from isotrace.contracts import Page, RunQuery
from isotrace.errors import AmbiguousRunError, QueryError
from isotrace.events import microseconds_of
from isotrace.stores.memory import Kept, MemoryStore, matches
from isotrace.stores.queries import MAX_LIMIT
from isotrace.testing.mutants.base import Mutant


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
