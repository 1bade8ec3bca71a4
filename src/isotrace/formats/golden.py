"""Golden runs: a recorded run as a text that people review, and that a replay is held against.

    isotrace golden 1 iso1
    run_started agent_id=support input: {"order": "W-1"}
    step_started lineage=[0] kind=tool skill_name=get_order effect=read params: {"order_id": "W-1"}
    step_finished lineage=[0] status=success outcome_category=SUCCESS outcome_data: {"total": 20.5}
    run_finished status=completed step_count=1 result: "done"

    recorded at="2026-11-22T22:52:31.308827Z" …
      times=[0, 75, 92, 311]

An event is one line; a value that does not fit is laid out on indented lines below it
(`isotrace.formats.golden_text`). Behind a name, `=` gives a fact and `:` a value. What another recording of
the same behaviour would have otherwise, and what a replay needs exactly, stands behind the events in
`recorded`. The run's id, salts and root are left out: they follow from the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from isotrace.contracts import ImportedRun
from isotrace.errors import CanonicalizationError, ImportFormatError, RecordError, UsageError
from isotrace.events import Event, run_id_problem, time_text
from isotrace.formats.golden_lines import Fail
from isotrace.formats.golden_reading import events_of_text
from isotrace.formats.golden_shape import (
    BOUNDS,
    ELSEWHERE,
    FORMAT,
    HEAD,
    LEFT_OUT,
    RECORDED_FACTS,
    VERSION,
    is_recorded_value,
    reference_label,
)
from isotrace.formats.golden_text import INDENT, WIDTH, Layout, Value, fact_text, value_of, value_text
from isotrace.formats.source import CHUNK, Bounds
from isotrace.hashing import SCHEME, H, import_run_id, salt
from isotrace.ledger import Ledger, SealedRun, project, seal
from isotrace.models import Erased


class GoldenExporter:
    """Writes one run as a golden file."""

    name = FORMAT

    def write(self, ledgers: Iterable[Ledger], stream: BinaryIO) -> int:
        """Writes the run; 1. Raises `UsageError` for more than one, before the second is written."""
        count = 0
        for ledger in ledgers:
            if count:
                raise UsageError("a golden file holds one run", hint="export each run to a file of its own")
            stream.writelines(line.encode() + b"\n" for line in golden_lines(ledger))
            count += 1
        return count


def golden_text(ledger: Ledger) -> str:
    """The run as a golden file has it."""
    return "\n".join((*golden_lines(ledger), ""))


# --- writing ------------------------------------------------------------------------


def golden_lines(ledger: Ledger) -> Iterator[str]:
    """The lines of a golden file, without their ends."""
    events = ledger.events
    layout = Layout()
    yield f"{HEAD}{VERSION} {events[0].facts.get('scheme', SCHEME)}"
    for event in events:
        yield from _event_lines(event, layout)
    yield ""
    yield from _recorded_lines(events)


def _event_lines(event: Event, layout: Layout) -> Iterator[str]:
    left_out = LEFT_OUT.get(event.type, {})
    recorded = (*RECORDED_FACTS.get(event.type, ()), *ELSEWHERE.get(event.type, ()))
    facts = [
        f"{name}={fact_text(value)}"
        for name, value in event.facts.items()
        if name not in recorded and not (name in left_out and left_out[name] == value)
    ]
    head = " ".join((event.type, *facts))
    values: dict[str, Value | Erased] = {
        name: data if isinstance(data, Erased) else value_of(data)
        for name, data in event.values.items()
        if not is_recorded_value(event, name)
    }
    if all(_is_short(layout, one) for one in values.values()):
        whole = " ".join((head, *(f"{name}: {_short(value)}" for name, value in values.items())))
        if len(whole) <= WIDTH + 20 or not values:
            yield whole
            return
    yield head
    for name, value in values.items():
        if isinstance(value, Erased):
            yield f"{INDENT}{name}: {_short(value)}"
        else:
            yield from layout.lines(name, value, INDENT)
    _remember(layout, event, values)


def _is_short(layout: Layout, value: Value | Erased) -> bool:
    return isinstance(value, Erased) or layout.fits(value.value, WIDTH)


def _short(value: Value | Erased) -> str:
    return f"<erased {value.commit}>" if isinstance(value, Erased) else value_text(value.value)


def _remember(layout: Layout, event: Event, values: dict[str, Value | Erased]) -> None:
    if (label := reference_label(event)) is not None:
        for name, value in values.items():
            if not isinstance(value, Erased):
                layout.remember(label, name, value)


def _recorded_lines(events: list[Event]) -> Iterator[str]:
    """The last section: one line for each thing."""
    started = events[0]
    yield f"recorded at={value_text(time_text(started.time_us))}"
    for name in RECORDED_FACTS["run_started"]:
        value = started.facts.get(name, ...)
        if value is not ... and not (name in LEFT_OUT["run_started"] and value is None):
            yield f"{INDENT}{name}={value_text(value)}"
    yield f"{INDENT}times={value_text([event.time_us - started.time_us for event in events])}"
    durations = {
        str(event.seq): event.facts["duration_ms"] for event in events if event.facts.get("duration_ms")
    }
    if durations:
        yield f"{INDENT}durations={value_text(durations)}"
    for event in events:
        yield from _recorded_of(event)


def _recorded_of(event: Event) -> Iterator[str]:
    if event.type != "run_started":
        for name in RECORDED_FACTS.get(event.type, ()):
            if event.facts.get(name) is not None:
                yield f"{INDENT}{event.seq}.{name}={value_text(event.facts[name])}"
    for name, data in event.values.items():
        if is_recorded_value(event, name):
            text = _short(data if isinstance(data, Erased) else value_of(data))
            yield f"{INDENT}{event.seq}.{name}: {text}"


# --- reading ------------------------------------------------------------------------


class GoldenImporter:
    """Reads what `GoldenExporter` writes, and what people have made of it."""

    name = FORMAT

    def __init__(self, bounds: Bounds = BOUNDS) -> None:
        self._bounds = bounds

    def detect(self, head: bytes, where: str) -> bool:
        """Whether the file begins as a golden file does."""
        return head.startswith(HEAD.encode())

    def read(
        self, stream: BinaryIO, *, where: str, tenant_id: str, as_tenant: bool = False
    ) -> Iterator[ImportedRun | ImportFormatError]:
        """The one run of the file, as `isotrace.contracts.Importer` has it. Errors name file and line."""
        try:
            ledger = read_golden_bytes(_whole(stream, where, self._bounds), where, bounds=self._bounds)
            recorded = ledger.events[0].facts["tenant_id"]
            if recorded != tenant_id and not as_tenant:
                raise ImportFormatError(
                    "the run belongs to another tenant",
                    where=where,
                    expected=tenant_id,
                    got=recorded,
                    hint="--as-tenant takes it over",
                )
            ledger = ledger.owned_by(tenant_id)
        except ImportFormatError as error:
            yield error
            return
        from_ledger = SealedRun(ledger, project(ledger))
        yield ImportedRun(from_ledger.run_id, tenant_id, ledger.events, sealed=from_ledger)


def _whole(stream: BinaryIO, where: str, bounds: Bounds) -> bytes:
    data = bytearray()
    while chunk := stream.read(CHUNK):
        data += chunk
        if len(data) > bounds.total:
            raise ImportFormatError(
                "the file is too large", where=where, expected=f"at most {bounds.total} bytes"
            )
    return bytes(data)


def read_golden_bytes(data: bytes, where: str, *, bounds: Bounds = BOUNDS) -> Ledger:
    """The run of a golden file. The same bytes give the same ledger, root and all.

    Raises `ImportFormatError` with file and line in `where`; its cause is a `SchemaUnsupportedError` where
    the file is of a newer version.
    """
    fail = Fail(where)
    if len(data) > bounds.total:
        raise fail("the file is too large", 1, expected=f"at most {bounds.total} bytes")
    events = events_of_text(data, fail, bounds.ledger)
    digest = hashlib.sha256(data.replace(b"\r\n", b"\n")).hexdigest()
    facts = events[0].facts
    facts["run_id"] = import_run_id(FORMAT, facts["tenant_id"], digest)
    for name in ("origin_run_id", "correlation_id"):
        facts[name] = facts.get(name) or facts["run_id"]
    if (problem := run_id_problem(facts["origin_run_id"])) is not None:
        raise fail(problem, 1, got=facts["origin_run_id"])
    return _sealed(events, digest, fail)


def _sealed(events: list[Event], digest: str, fail: Fail) -> Ledger:
    # Everything is in the clear, so the salts hide nothing; derived, they make the root a digest of the file.
    seed = H("isotrace/v1/golden", bytes.fromhex(digest))
    try:
        ledger = seal(events, seed).ledger
    except (RecordError, CanonicalizationError) as error:
        raise fail(error.what, 1, expected=error.expected, got=error.got, hint=error.hint) from error
    if any(isinstance(data, Erased) for event in events for data in event.values.values()):
        ledger.seed = None
        ledger.salts = {
            (event.seq, name): salt(seed, event.seq, name)
            for event in events
            for name, data in event.values.items()
            if not isinstance(data, Erased)
        }
    return ledger
