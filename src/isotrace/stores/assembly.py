"""From a sealed run to blocks, and from blocks to its events again: the same for every SQL back-end."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

from isotrace.errors import LimitError, RecordCorruptError
from isotrace.events import Event
from isotrace.ledger import Ledger
from isotrace.models import Erased
from isotrace.stores.blocks import (
    EVENTS,
    MAX_RUN_BYTES,
    SALTS,
    VALUES,
    Block,
    Packer,
    ValueKey,
    event_blocks,
    read_events,
    read_salts,
    read_values,
    salt_blocks,
    value_blocks,
)


def blocks_of(ledger: Ledger, packer: Packer, run_id: str) -> list[Block]:
    """All blocks of a run. Raises `LimitError` where values are too long to be kept."""
    blocks = list(event_blocks(ledger.events, packer))
    blocks.extend(value_blocks(_values_of(ledger.events), packer, run_id))
    if ledger.seed is None:
        blocks.extend(salt_blocks(ledger.salts, packer))
    return blocks


def _values_of(events: Iterable[Event]) -> Iterator[tuple[int, str, Hashable, bytes]]:
    """Each value with the key of those that resemble it: the same field of the same skill."""
    skills: dict[tuple[int | str, ...], str] = {}
    for event in events:
        if not event.values:
            continue
        lineage = event.facts.get("lineage")
        skill = ""
        if lineage is not None:
            if event.type == "step_started":
                skills[tuple(lineage)] = skill = event.facts["skill_name"]
            else:
                skill = skills.get(tuple(lineage), "")
        for name, data in event.values.items():
            if not isinstance(data, Erased):
                yield event.seq, name, (skill, name), data


def without(
    data: bytes, erased: set[ValueKey], slot_keys: Mapping[ValueKey, Hashable], packer: Packer, run_id: str
) -> Block | None:
    """A block of values written anew without some of them; None if no value is left.

    One block always becomes one: it holds less than before.
    """
    left = [
        (seq, name, slot_keys[seq, name], value)
        for (seq, name), value in read_values(data, run_id).items()
        if (seq, name) not in erased
    ]
    return next(value_blocks(left, packer, run_id, whole=True), None)


def slot_keys_of(events: Iterable[Event]) -> dict[ValueKey, Hashable]:
    """The slot key of each value that is there."""
    return {(seq, name): key for seq, name, key, _ in _values_of(events)}


def events_of(
    run_id: str, blocks: Sequence[Block], erased: Mapping[ValueKey, str], event_count: int
) -> list[Event]:
    """All events of a run, with their values. `erased` has the commitments of what was erased later.

    Raises `RecordCorruptError` where a block is damaged, or is missing.
    """
    events: list[Event] = []
    values: dict[ValueKey, bytes] = {}
    size = 0
    for block in blocks:
        if block.kind == EVENTS:
            events.extend(read_events(block.data, run_id))
        elif block.kind == VALUES:
            found = read_values(block.data, run_id)
            values.update(found)
            size += sum(map(len, found.values()))
            if size > MAX_RUN_BYTES:
                raise LimitError(
                    "the values of a run are too long to be read",
                    run_id=run_id,
                    expected=f"at most {MAX_RUN_BYTES} bytes",
                )
    if len(events) != event_count or any(event.seq != seq for seq, event in enumerate(events)):
        raise RecordCorruptError(
            "events of a run are missing", run_id=run_id, expected=event_count, got=len(events)
        )
    for event in events:
        _fill(event, values, erased, run_id)
    return events


def _fill(
    event: Event, values: Mapping[ValueKey, bytes], erased: Mapping[ValueKey, str], run_id: str
) -> None:
    held = event.values
    for name, known in held.items():
        if known != b"":
            continue  # erased before the run came here
        key = (event.seq, name)
        value = values.get(key)
        if value is None:
            if key not in erased:
                raise RecordCorruptError(
                    "a value of a run is missing", run_id=run_id, where=f"event {event.seq}, value {name!r}"
                )
            held[name] = Erased(erased[key])
        else:
            held[name] = value


def salts_of(run_id: str, blocks: Iterable[Block]) -> dict[ValueKey, bytes]:
    """The salts of a run whose seed is gone. Raises `RecordCorruptError`."""
    salts: dict[ValueKey, bytes] = {}
    for block in blocks:
        if block.kind == SALTS:
            salts.update(read_salts(block.data, run_id))
    return salts
