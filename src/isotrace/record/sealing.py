"""From a journal to a sealed run: a pure function, so that sealing twice gives the same bytes."""

from __future__ import annotations

from typing import Any

import orjson

from isotrace.canonical import value_bytes
from isotrace.errors import CanonicalizationError
from isotrace.events import Event, lineage_text
from isotrace.ledger import SealedRun, seal
from isotrace.minted import MintedIds
from isotrace.models import Erased
from isotrace.record.lines import JournalContent

KILLED = "the process ended before the run did"
STOPPED = "recording stopped before the run did"


def seal_journal(content: JournalContent, *, stopped: bool = False) -> SealedRun:
    """Seals what a journal holds. A run without an end becomes an aborted one; `stopped` says that its
    recording ended before it did.

    Raises `RecordCorruptError` where the events do not make a run.
    """
    sealed = seal(finished_events(content, STOPPED if stopped else KILLED), content.header.seed)
    sealed.local = True
    return sealed


def finished_events(content: JournalContent, reason: str = KILLED) -> list[Event]:
    """The journal's events as they go into the ledger: minted ids replaced, costs read out of
    outcomes, and an end for a run that has none."""
    minted = MintedIds()
    kinds: dict[tuple[Any, ...], str] = {}
    events: list[Event] = []
    for event in content.events:
        events.append(_settle(event, minted, kinds))
        if event.type in _ENDS:
            # A thread may have been about to write when its run ended.
            return events
    if events:
        facts: dict[str, Any] = {"reason": reason}
        if content.torn:
            facts["torn"] = True
        events.append(Event(events[-1].seq + 1, "run_aborted", events[-1].time_us, facts, {}))
    return events


_ENDS = ("run_finished", "run_aborted")


def _settle(event: Event, minted: MintedIds, kinds: dict[tuple[Any, ...], str]) -> Event:
    lineage = event.lineage
    if event.type == "step_started":
        kinds[lineage] = event.facts["kind"]
        if minted:
            _replace_minted(event, minted)
    elif event.type == "step_chunk" and kinds.get(lineage) == "llm":
        minted.learn(lineage_text(lineage), event.value("chunk"))
    elif event.type == "step_finished" and kinds.get(lineage) == "llm":
        outcome = event.value("outcome_data")
        minted.learn(lineage_text(lineage), outcome)
        if not event.facts.get("cost_cents") and (cents := cost_of(outcome)):
            event.facts["cost_cents"] = cents
    return event


def _replace_minted(event: Event, minted: MintedIds) -> None:
    data = event.values.get("params")
    if data is None or isinstance(data, Erased):
        return
    params, raw_ids = minted.replace(orjson.loads(data))
    if raw_ids:
        try:
            replaced = {"params": value_bytes(params), "raw_ids": value_bytes(raw_ids)}
        except CanonicalizationError:
            # The ids' stand-ins are longer than the ids, so params near the limits stay as they were.
            return
        event.values.update(replaced)


def cost_of(outcome: Any) -> float:
    """What an LLM's answer says that it cost, in cents: `cost_cents`, or `usage.cost` in US dollars
    (OpenRouter and LiteLLM write it there). 0.0 where it says nothing."""
    if not isinstance(outcome, dict):
        return 0.0
    usage = outcome.get("usage")
    dollars = usage.get("cost") if isinstance(usage, dict) else None
    for amount, factor in ((outcome.get("cost_cents"), 1.0), (dollars, 100.0)):
        if isinstance(amount, (int, float)) and not isinstance(amount, bool) and 0 < amount < 1e12:
            return round(float(amount) * factor, 9)
    return 0.0
