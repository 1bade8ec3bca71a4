"""Runs that are still going on, read from their journals."""

from __future__ import annotations

from isotrace.contracts import RunItem, RunQuery, TraceStore
from isotrace.errors import JournalError, RecordCorruptError, SchemaUnsupportedError
from isotrace.events import LedgerFold
from isotrace.models import TraceRecord
from isotrace.record.home import journal_folder
from isotrace.record.journal import read_journal, scan
from isotrace.record.redacting import with_pieces


def live_records(store: TraceStore, *, tenant_id: str) -> list[TraceRecord]:
    """The tenant's live runs as far as they have come, newest first.

    Their ids are those of the providers still, and costs inside outcomes are not added up yet: that
    happens when they are sealed. A journal that can't be read is left for its own process to report.
    """
    folder = journal_folder(store.url)
    records = []
    for path in scan(folder) if folder is not None else ():
        try:
            content = read_journal(path)
        except (JournalError, RecordCorruptError, SchemaUnsupportedError):
            continue
        if content.events and content.header.tenant_id == tenant_id:
            state = LedgerFold()
            for event in with_pieces(content.events):
                state.add(event)
            records.append(state.record())
    # One that has ended is being sealed at this moment; the store will show it.
    running = [record for record in records if record.status == "running"]
    return sorted(running, key=lambda record: record.started_at, reverse=True)


def live_runs(store: TraceStore, query: RunQuery) -> list[RunItem]:
    """The live runs that the query matches, as a listing shows them. They have no signature or root."""
    return [
        RunItem(record.to_summary(), None, None, None, record.metadata)
        for record in live_records(store, tenant_id=query.tenant_id)
        if _matches(record, query)
    ]


def _matches(record: TraceRecord, query: RunQuery) -> bool:
    wanted = [
        query.agent_id is None or record.agent_id == query.agent_id,
        query.status in (None, "running"),
        query.correlation_id is None or record.correlation_id == query.correlation_id,
        query.skill is None or any(step.skill_name == query.skill for step in record.steps),
        query.signature is None and query.root_hash is None,
        query.since is None or record.started_at >= query.since,
        query.until is None or record.started_at < query.until,
        query.min_cost_cents is None or record.total_cost_cents >= query.min_cost_cents,
        query.max_cost_cents is None or record.total_cost_cents <= query.max_cost_cents,
        _violates(record, query.violation),
        all(str(record.metadata.get(key)) == str(value) for key, value in query.metadata.items()),
    ]
    return all(wanted)


def _violates(record: TraceRecord, wanted: bool | str | None) -> bool:
    if wanted is None:
        return True
    if isinstance(wanted, str):
        return any(one.policy_id == wanted for one in record.violations)
    return bool(record.violations) == wanted
