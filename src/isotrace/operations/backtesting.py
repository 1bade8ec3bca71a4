"""Rules over recorded runs: what they would have flagged and stopped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from isotrace.contracts import Breach, Policy
from isotrace.events import Event, lineage_key
from isotrace.ledger import Ledger
from isotrace.models import Lineage
from isotrace.policy import judge_events
from isotrace.record.policies import ForJudging


def verdicts_of(policy: Policy, ledger: Ledger) -> list[tuple[int | None, str, str]]:
    """Step index, rule and reason of each violation that the policy finds in a run, in order."""
    indexes = step_indexes(ledger.events)
    return [
        (indexes.get(event.lineage), breach.policy_id, breach.reason)
        for event, breach in breaches_of(policy, ledger.events)
    ]


def breaches_of(policy: Policy, events: Iterable[Event]) -> Iterator[tuple[Event, Breach]]:
    """What the policy says of the events of a sealed ledger."""
    judging = ForJudging(settled=True)
    return judge_events(policy, (judging.event(event) for event in events))


def step_indexes(events: Iterable[Event]) -> dict[Lineage, int]:
    """The `step_index` of each step."""
    lineages = {event.lineage for event in events if event.type == "step_started"}
    return {lineage: index for index, lineage in enumerate(sorted(lineages, key=lineage_key))}
