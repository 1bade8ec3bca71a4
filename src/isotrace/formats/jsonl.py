"""isotrace's own format: a ledger as JSON lines, one event a line.

The first line of each run also says how many events the run has and which root they give, so that
a file can be checked on its own: a value altered, an event altered, dropped or out of place and a
tail cut off are each found and named. (Whoever can rewrite the whole file can also write another root
into it: only a root that is kept elsewhere shows that.) A run without these words is read all
the same; its root is then what its events give.

Writing what was read gives the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from isotrace.contracts import ImportedRun
from isotrace.errors import (
    CanonicalizationError,
    ImportFormatError,
    RecordError,
    SchemaUnsupportedError,
)
from isotrace.events import MAX_RUN_ID, Event, run_id_problem
from isotrace.formats.jsonl_line import MAX_LINE, Header, Line, Place, line_bytes, read_line
from isotrace.formats.source import CHUNK, DEFAULT_BOUNDS, Bounds
from isotrace.hashing import SCHEME, leaf_data, merkle_root
from isotrace.ledger import Ledger, SealedRun, envelope, project
from isotrace.models import Erased, TraceRecord

_ENDS: Final = ("run_finished", "run_aborted")
_MAX_ID: Final = 512
_LINE_OVERHEAD: Final = 64
_MAX_LOST: Final = 100_000
"""How many lines in a row may belong to no run, or can't be read, before the rest of a file is left."""


class JsonlExporter:
    """Writes ledgers as JSON lines."""

    name = "jsonl"

    def write(self, ledgers: Iterable[Ledger], stream: BinaryIO) -> int:
        """Writes all runs; how many there were. What is erased in a ledger is withheld in the file.

        Raises `RecordGapError` for a value whose salt is gone.
        """
        count = 0
        for ledger in ledgers:
            header: Header | None = Header(len(ledger.events), ledger.root_hash)
            for event in ledger.events:
                values = {
                    name: (ledger.salt_of(event.seq, name), data)
                    for name, data in event.values.items()
                    if not isinstance(data, Erased)
                }
                stream.write(line_bytes(envelope(event, ledger), values, header))
                header = None
            count += 1
        return count


@dataclass(slots=True)
class _Run:
    """The lines of one run, as far as they have been read; none are kept once there is a failure."""

    place: Place
    run_id: str | None = None
    lines: list[Line] = field(default_factory=list)
    header: Header | None = None
    seen: int = 0
    size: int = 0
    ended: bool = False
    failure: ImportFormatError | None = None

    def complete(self) -> bool:
        """Whether no more lines belong to it, so that what follows can't spoil it."""
        return self.ended if self.header is None else self.seen >= self.header.events

    def add(self, line: Line | None, failure: ImportFormatError | None, limit: int) -> None:
        self.seen += 1
        self.size += _LINE_OVERHEAD + (0 if line is None else line.size)
        if self.size > limit:
            failure = failure or self.place.fail("a run is too large", "", expected=f"at most {limit} bytes")
        if line is not None and line.event.type == "run_started":
            self.run_id = line.event.facts["run_id"]
        if failure is not None and failure.run_id is None:
            failure.run_id = self.run_id
        self.failure = self.failure or failure
        if line is not None:
            self.header = self.header or (line.header if self.seen == 1 else None)
            self.ended = line.event.type in _ENDS
            self.lines.append(line)
        if self.failure is not None:
            self.lines.clear()


class JsonlImporter:
    """Reads what `JsonlExporter` writes."""

    name = "jsonl"

    def __init__(self, bounds: Bounds = DEFAULT_BOUNDS) -> None:
        self._bounds = bounds

    def detect(self, head: bytes, where: str) -> bool:
        """Whether the file begins as a line with an event."""
        start = head.lstrip()
        return start.startswith((b'{"ledger":', b'{"event":')) and b'"seq"' in head

    def read(
        self, stream: BinaryIO, *, where: str, tenant_id: str, as_tenant: bool = False
    ) -> Iterator[ImportedRun | ImportFormatError]:
        """The runs of one file, as `isotrace.contracts.Importer` has it.

        Errors of a run name its first fault. Where the record was altered or damaged, the error's
        cause is a `RecordCorruptError`; where it is of a newer version, a `SchemaUnsupportedError`.
        """
        for run in self._runs(stream, where):
            try:
                yield _sealed(run, tenant_id, as_tenant)
            except ImportFormatError as error:
                yield error

    def _runs(self, stream: BinaryIO, where: str) -> Iterator[_Run]:
        """Lines put together to runs; lines of no run make one of their own, which will be refused."""
        run: _Run | None = None
        found = lost = 0
        for place, data in _lines(stream, where, self._bounds):
            line, failure = _read(place, data)
            begins = line is not None and line.event.type == "run_started"
            if run is None or begins or run.complete():
                if run is not None:
                    yield run
                run = _Run(place)
                found += 1
            run.add(line, failure, self._bounds.ledger)
            lost = lost + 1 if line is None or run.run_id is None else 0
            if lost > _MAX_LOST:
                yield run
                what = "too many lines in a row are no events of a run; the rest of the file was not read"
                run = _Run(place, failure=place.fail(what, "", expected=f"at most {_MAX_LOST:,}"))
                break
        if run is not None:
            yield run
        if not found:
            raise ImportFormatError(
                "the file is empty", where=where, pointer="", expected="events, one a line"
            )


def _read(place: Place, data: bytes | ImportFormatError) -> tuple[Line | None, ImportFormatError | None]:
    if isinstance(data, ImportFormatError):
        return None, data
    try:
        return read_line(data, place), None
    except ImportFormatError as error:
        return None, error


def _lines(stream: BinaryIO, where: str, bounds: Bounds) -> Iterator[tuple[Place, bytes | ImportFormatError]]:
    """The lines that are not blank, numbered from 0, and the error that ended the reading, if one did."""
    buffer = bytearray()
    place = Place(where, 0)
    total = searched = 0
    while True:
        try:
            chunk = stream.read(CHUNK)
        except ImportFormatError as error:
            error.pointer = f"/{place.line}"
            yield place, error
            return
        total += len(chunk)
        if total > bounds.total:
            yield place, place.fail("the file is too large", "", expected=f"at most {bounds.total} bytes")
            return
        buffer += chunk
        while (end := buffer.find(b"\n", searched)) >= 0:
            if buffer[:end].strip():
                yield place, bytes(buffer[:end])
            del buffer[: end + 1]
            place = Place(where, place.line + 1)
            searched = 0
        searched = len(buffer)
        if len(buffer) > MAX_LINE:
            yield place, place.fail("a line is too long", "", expected=f"at most {MAX_LINE} bytes")
            return
        if not chunk:
            break
    if buffer.strip():
        yield place, bytes(buffer)


def _sealed(run: _Run, tenant_id: str, as_tenant: bool) -> ImportedRun:
    """The run, if its lines are whole and give its root. Raises `ImportFormatError`."""
    if run.failure is not None:
        raise run.failure
    place, events = run.place, [line.event for line in run.lines]
    header = run.header
    if header is not None:
        _check_version(header, place)
    _check_order(events, header, place)
    facts = events[0].facts
    if facts["scheme"] != SCHEME:
        cause = SchemaUnsupportedError("the run is of another scheme", expected=SCHEME, got=facts["scheme"])
        raise place.because(cause, "/event/scheme")
    if (problem := run_id_problem(facts["run_id"])) is not None:
        raise place.fail(problem, "/event/run_id", got=facts["run_id"][:MAX_RUN_ID])
    for name in ("tenant_id", "correlation_id"):
        if not 0 < len(facts[name]) <= _MAX_ID:
            raise place.fail(
                "an id is empty or too long", f"/event/{name}", expected=f"1 to {_MAX_ID} characters"
            )
    if facts["tenant_id"] != tenant_id and not as_tenant:
        raise place.fail(
            "the run belongs to another tenant",
            "/event/tenant_id",
            expected=tenant_id,
            got=facts["tenant_id"],
            hint="--as-tenant takes it over",
        )
    root = _root(run)
    if header is not None and root != header.root_hash:
        raise place.corrupt(
            "the events do not give the run's root: a fact, a commitment or the root was altered",
            "/ledger/root_hash",
            run_id=facts["run_id"],
            expected=header.root_hash,
            got=root,
        )
    salts = {(line.event.seq, name): salt for line in run.lines for name, salt in line.salts.items()}
    return _imported(Ledger(events, root, None, salts), tenant_id, place, None if header is None else root)


def _imported(ledger: Ledger, tenant_id: str, place: Place, stated: str | None) -> ImportedRun:
    try:
        # The events stay as they were sealed; whose run it is now is the store's key.
        ledger = ledger.owned_by(tenant_id)
        projection = project(ledger)
    except (RecordError, CanonicalizationError) as error:
        raise place.because(error, "") from error
    sealed = SealedRun(ledger, projection)
    return ImportedRun(sealed.run_id, tenant_id, ledger.events, sealed=sealed, stated_root=stated)


def _check_version(header: Header, place: Place) -> None:
    known = TraceRecord.SCHEMA_VERSION
    if header.schema.split(".")[0] != known.split(".")[0]:
        cause = SchemaUnsupportedError(
            "the run is of another major schema version",
            expected=known,
            got=header.schema,
            hint="upgrade isotrace to read it",
        )
        raise place.because(cause, "/ledger/schema")
    if header.scheme != SCHEME:
        cause = SchemaUnsupportedError("the run is of another scheme", expected=SCHEME, got=header.scheme)
        raise place.because(cause, "/ledger/scheme")


def _check_order(events: list[Event], header: Header | None, place: Place) -> None:
    """That the events are those of one run, each once and in order, from its start to its end."""
    if not events or events[0].type != "run_started":
        raise place.corrupt(
            "events of no run",
            "/event/type",
            expected="run_started first",
            got=events[0].type if events else "nothing",
        )
    run_id = events[0].facts["run_id"]
    seqs = [event.seq for event in events]
    found = set(seqs)
    twice = [seq for seq, count in Counter(seqs).items() if count > 1]
    if twice:
        raise place.corrupt("an event stands twice in the run", "", run_id=run_id, got=f"event {min(twice)}")
    missing = next((seq for seq in range(max(found)) if seq not in found), None)
    if missing is not None:
        raise place.corrupt("an event is missing", "", run_id=run_id, expected=f"event {missing}")
    for index, seq in enumerate(seqs):
        if seq != index:
            raise place.corrupt(
                "events are out of order", "", run_id=run_id, expected=f"event {index}", got=f"event {seq}"
            )
    last = events[-1].type
    if last not in _ENDS or (header is not None and len(events) != header.events):
        raise place.corrupt(
            "the run's tail is cut",
            "",
            run_id=run_id,
            expected=f"{header.events} events" if header is not None else " or ".join(_ENDS),
            got=f"{len(events)} events, {last} last",
        )


def _root(run: _Run) -> str:
    # Over the envelopes as they stand in the file, so that no spelling of a fact can hide behind ours.
    return merkle_root([leaf_data(line.envelope) for line in run.lines]).hex()
