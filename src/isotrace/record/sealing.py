"""From a journal to a sealed run: a pure function, so that sealing twice gives the same bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from isotrace.canonical import value_bytes
from isotrace.errors import CanonicalizationError
from isotrace.events import Event, datetime_of, lineage_text
from isotrace.ledger import SealedRun, seal
from isotrace.minted import MintedIds
from isotrace.models import Erased, Lineage
from isotrace.record.assembly import Answer, StreamedAnswers
from isotrace.record.lines import JournalContent
from isotrace.record.prices import price_of
from isotrace.record.redacting import with_pieces
from isotrace.record.usage import usage_of

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
    """The journal's events as they go into the ledger: minted ids replaced, streamed answers put
    together, costs read out of outcomes, and an end for a run that has none."""
    settling = Settling()
    events: list[Event] = []
    for event in _whole(content.events):
        events.append(settling.settle(event))
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


def _whole(events: list[Event]) -> list[Event]:
    """The events; where the run was redacted, with the pieces of its streams."""
    return with_pieces(events) if events and "redactors" in events[0].facts else events


class Settling:
    """Completes the events of one run, one after the other. `priced`: what calls cost is looked up where
    nobody said it."""

    def __init__(self, *, priced: bool = True) -> None:
        self._priced = priced
        self._minted = MintedIds()
        self._answers = StreamedAnswers(self._minted)
        self._started: dict[Lineage, Event] = {}

    def settle(self, event: Event) -> Event:
        """The event as it goes into the ledger."""
        lineage = event.lineage
        if event.type == "step_started":
            if event.facts["kind"] == "llm":
                self._started[lineage] = event
            self._answers.learn()
            if self._minted:
                _replace_minted(event, self._minted)
        elif event.type == "step_chunk" and lineage in self._started:
            if "captured" in self._started[lineage].facts:
                self._answers.feed(lineage, event.value("chunk"))
            else:
                self._minted.learn(lineage_text(lineage), event.value("chunk"))
        elif event.type == "step_finished" and lineage in self._started:
            self._finish(event)
        return event

    def _finish(self, event: Event) -> None:
        answer = self._answers.end(event.lineage)
        if answer is not None:
            _put_together(event, answer)
        outcome = event.value("outcome_data")
        self._minted.learn(lineage_text(event.lineage), outcome)
        if not event.facts.get("cost_cents") and (cents := cost_of(outcome)):
            event.facts["cost_cents"] = cents
        started = self._started.pop(event.lineage)
        if "captured" in started.facts:
            _account(event, started, outcome, priced=self._priced)


def _put_together(event: Event, answer: Answer) -> None:
    """Makes the answer that a stream gave the outcome of its step."""
    try:
        data = value_bytes(answer.message)
    except CanonicalizationError:
        return  # beyond the limits: its pieces are the outcome
    event.values["outcome_data"] = data
    event.facts["assembled"] = True
    if answer.partial:
        event.facts["partial"] = True


def _account(event: Event, started: Event, outcome: Any, *, priced: bool) -> None:
    """Says what a call of a model used, and what that cost where nobody said so."""
    params = started.value("params", {})
    usage = usage_of(outcome, params.get("model") if isinstance(params, dict) else None)
    if usage is None:
        return
    if priced and not event.facts.get("cost_cents"):
        transport = event.value("transport", {})
        url = transport.get("url") if isinstance(transport, dict) else None
        price = price_of(usage, datetime_of(started.time_us), url if isinstance(url, str) else None)
        if price is not None and price.cents is not None:
            event.facts["cost_cents"] = price.cents
            usage = replace(usage, prices=price.source)
        elif price is not None:
            usage = replace(usage, unpriced=f"{price.source}: {price.problem}")
    event.facts["usage"] = usage.to_dict()


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
