"""The surroundings in which the process of a replay starts, as far as the recorded ones are known."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from isotrace.contracts import TraceStore
from isotrace.ledger import Ledger
from isotrace.models import TraceRecord
from isotrace.record.sources import seeds


def replay_environment(store: TraceStore, record: TraceRecord) -> dict[str, str]:
    """The environment for a process that replays this run: this process's own, with what was recorded.

    A run that was not sealed on this machine decides nothing but its hash seed.
    """
    ledger = store.ledger(record.run_id, tenant_id=record.tenant_id)
    environment = dict(os.environ)
    environment |= _hash_seed(ledger)
    return environment


def _hash_seed(ledger: Ledger) -> dict[str, str]:
    """The one that isotrace chose for the program, else the one that its user did."""
    started = ledger.events[0]
    entry = started.facts.get("entry_point")
    for place in (entry, _inside(entry, "program")):
        chosen = seeds.hash_seed_of(_inside(_inside(place, "seeds"), "hash"))
        if chosen is not None:
            return seeds.chosen_hash_seed(chosen)
    given = seeds.hash_seed_of(_inside(started.value("environment"), "hash_seed"))
    return {} if given is None else {seeds.HASH_SEED: str(given)}


def _inside(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None
