"""Every protocol of isotrace, specified in its comments.

A back-end is right when it satisfies these words and the public suite in `isotrace.testing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO, Protocol, runtime_checkable

from isotrace.errors import ImportFormatError
from isotrace.events import Event
from isotrace.ledger import Ledger, SealedRun, StepRow
from isotrace.models import TraceSummary

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Which runs of one tenant to list: every given field must hold (AND).

    `skill`: the run has a step of this skill. `violation`: True/False for any/none, a string
    for a policy id. `metadata`: these top-level keys have these values; numbers and strings that
    read alike (`13`, `"13"`) count as equal, so that a command line can ask. `since` is
    inclusive, `until` exclusive, both on the run's start. `limit` is 1..10,000. `after` is the
    cursor of the page before.
    """

    tenant_id: str = "default"
    agent_id: str | None = None
    status: str | None = None
    correlation_id: str | None = None
    skill: str | None = None
    signature: str | None = None
    root_hash: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_cost_cents: float | None = None
    max_cost_cents: float | None = None
    violation: bool | str | None = None
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    limit: int = 100
    after: str | None = None


@dataclass(frozen=True, slots=True)
class RunItem:
    """A run in a listing: its summary, and what the summary has no field for.

    `local` is `SealedRun.local` as it was put.
    """

    summary: TraceSummary
    signature: str | None
    tool_signature: str | None
    root_hash: str | None
    metadata: Mapping[str, Any]
    local: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Runs, newest first by recording time; `next` is the cursor of the following page or None."""

    runs: Sequence[RunItem]
    next: str | None


@dataclass(frozen=True, slots=True)
class PathCount:
    """The runs of one group that took one path: how many, sums over them, and some of their ids.

    `key` is None where runs are not grouped. `signature` is the path's end in hex. A run is *judged*
    if its metadata has a number or a boolean under `reward`, and *passed* if that is at least the
    threshold. Sums are over all steps of the runs, exact to within rounding. `examples` are the newest.
    """

    key: str | None
    signature: str
    runs: int
    completed: int
    failed: int
    judged: int
    passed: int
    cost_cents: float
    duration_ms: float
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PathCounts:
    """Runs by group and path, and how many runs are in none: `without_key`, else `empty` (no step of the
    kind), else `erased` (a step's hash was erased, so there is no path).

    `pathless` are those of the latter two, one row a group, whose signature is empty.
    """

    rows: tuple[PathCount, ...]
    pathless: tuple[PathCount, ...] = ()
    without_key: int = 0
    empty: int = 0
    erased: int = 0


@dataclass(frozen=True, slots=True)
class Tombstone:
    """That values of a run were erased: which `(seq, field name)`, when, and why."""

    targets: tuple[tuple[int, str], ...]
    erased_at: datetime
    reason: str


@runtime_checkable
class TraceStore(Protocol):
    """Keeps sealed runs. Every method is bound to a tenant: another tenant's run does not exist.

    All methods MUST be safe to call from several threads. Errors: `StoreUnavailableError`
    (locked past the time-out, read-only, full, unreachable), `StoreCorruptError`,
    `StoreVersionError`; a store never answers with less than what was asked.
    """

    url: str

    def put(self, run: SealedRun) -> bool:
        """Keeps a run; it MUST be durable on return, whole or not at all.

        True if it was added, False if the same run (same root) was there already. Another run
        under the same (tenant, run_id) raises `ConflictError`, and the first stays as it was.
        Identity, digests and paths are taken from the projection, never derived again.
        """
        ...

    def ledger(self, run_id: str, *, tenant_id: str) -> Ledger:
        """The whole ledger, its `owner` this tenant where its events name another (`Ledger.owned_by`).

        Raises `RunNotFoundError`.
        """
        ...

    def get(self, run_id: str, *, tenant_id: str) -> RunItem:
        """The run's listing entry. Raises `RunNotFoundError`."""
        ...

    def query(self, query: RunQuery) -> Page:
        """One page of runs, newest first by recording time (later `put` first).

        Raises `QueryError` for a limit outside 1..10,000 or a cursor that is not this store's.
        Runs added while paging never shift the following pages.
        """
        ...

    def count(self, query: RunQuery) -> int:
        """How many runs the query matches in all; `limit` and `after` are ignored."""
        ...

    def behaviours(
        self,
        queries: Sequence[RunQuery],
        *,
        by: str | None = None,
        tool: bool = False,
        newest: int | None = None,
        threshold: float = 1.0,
        examples: int = 100,
    ) -> PathCounts:
        """The runs that any of the queries matches, each once, counted by group and path.

        Groups: `by` is `agent`, `correlation` or `status`, else the name of a metadata key; None is one
        group. A run's key is the text of that value, as `str` gives it, so 13 and "13" are one key; None,
        a list and an object are no key. Paths: the signature, or with `tool` the tool signature.
        `newest`: only so many of the runs, those recorded last; `limit` and `after` of the queries are
        ignored. At most `examples` ids a row, those recorded last, newest first.

        Rows MUST come by key (as Unicode code points), then the most runs first, then by signature. They
        MUST be complete: a store that holds a million runs counts them, it never samples. What it needs
        in memory MUST grow with the rows and not with the runs.

        Raises `QueryError` for a query that `query` would refuse, queries of several tenants, a `by` that
        is no text, a `newest` or `examples` below 1, a threshold that is not finite.
        """
        ...

    def resolve(self, prefix: str, *, tenant_id: str) -> str:
        """The one run id that starts with `prefix` (an exact id wins), or for `@last` the newest.

        Raises `RunNotFoundError`, or `AmbiguousRunError` naming some candidates.
        """
        ...

    def steps(self, run_id: str, *, tenant_id: str, start: int = 0, stop: int | None = None) -> list[StepRow]:
        """Rows of steps start..stop−1 by step_index, the ledger unread. Raises `RunNotFoundError`."""
        ...

    def path_at(self, run_id: str, k: int, *, tenant_id: str) -> bytes | None:
        """`path_k`, the chain over the run's first k steps (32 bytes); None where an erased step breaks it.

        One look-up, so that the first divergence of two runs is a binary search. Raises
        `RunNotFoundError`, and `IndexError` for k outside 0..n.
        """
        ...

    def values(
        self, run_id: str, wanted: Sequence[tuple[int, str]], *, tenant_id: str
    ) -> dict[tuple[int, str], bytes]:
        """The value bytes of some `(seq, field name)`; what is erased or was never there is left out.

        Raises `RunNotFoundError`. Reads no more blocks than it needs.
        """
        ...

    def erase(self, run_id: str, targets: Iterable[tuple[int, str]], *, tenant_id: str, reason: str) -> None:
        """Erases values for good; commitments, facts and root stay, and a tombstone says when and why.

        What could confirm a guess goes too: the step's hash and digests, the path from there on,
        the signature. Raises `RunNotFoundError`, `RecordGapError` for a value that is not there.
        """
        ...

    def tombstones(self, run_id: str, *, tenant_id: str) -> list[Tombstone]:
        """What was erased from a run, oldest first, targets in order. Raises `RunNotFoundError`."""
        ...

    def rebuild(self) -> int:
        """Drops and recomputes every projection from the ledgers; how many runs were rebuilt."""
        ...

    def close(self) -> None:
        """Lets go of files and connections. Closing twice is fine."""
        ...


@dataclass(slots=True)
class ImportedRun:
    """One run that an importer read: events in order, values as bytes, identity decided.

    `stated_root`: the root that the file itself states and the events give; None where it states none.
    """

    run_id: str
    tenant_id: str
    events: list[Event]
    seed: bytes | None = None
    sealed: SealedRun | None = None
    stated_root: str | None = None


class Importer(Protocol):
    """Reads a foreign file into runs.

    `name` is what `isotrace import NAME FILE` says. `read` yields an `ImportedRun` for each good
    run and an `ImportFormatError` (not raised: yielded) for each bad one, in file order, so
    that one bad run does not lose the others. It raises `ImportFormatError` only where nothing of
    the file can be read. The stream is already decompressed; `where` names it in errors.
    Importers MUST NOT trust the file: sizes, depth and types are checked.
    """

    name: str

    def detect(self, head: bytes, where: str) -> bool:
        """Whether a file that begins with these bytes looks like this format."""
        ...

    def read(
        self, stream: BinaryIO, *, where: str, tenant_id: str, as_tenant: bool = False
    ) -> Iterator[ImportedRun | ImportFormatError]:
        """The runs of one file. `as_tenant` allows a file of another tenant to be taken over."""
        ...


class Exporter(Protocol):
    """Writes ledgers to a stream; the importer of the same name reads them back."""

    name: str

    def write(self, ledgers: Iterable[Ledger], stream: BinaryIO) -> int:
        """Writes all runs; how many there were."""
        ...


@dataclass(frozen=True, slots=True)
class Breach:
    """That a step violates a rule. `policy_id` and `reason` (a sentence) stand in the run's ledger.

    `stop`: the step's effect must not happen; of a step that has ended, whatever the policy says next.
    """

    policy_id: str
    reason: str
    stop: bool = False


class RunPolicy(Protocol):
    """One policy as it watches one run."""

    def judge(self, event: Event) -> Sequence[Breach]:
        """The rules that the run violates with this event, in the policy's order.

        Called for each `step_started` before the step's effect happens, for each `step_attempt` before the
        next try, and for each `step_chunk` and `step_finished`; never for timers. Events come in their
        order (those of a live run have no `seq` yet) and never two at a time, as they stand in the sealed
        ledger: costs read out of answers, minted ids replaced, and of every model the `usage` that its
        answer states. Params and outcomes are there as far as the policy `looks_at` them. The same events
        MUST give the same answer, so that recorded runs can be judged. A step that was answered with a
        stop does not happen; its `step_finished` (status `skipped`) is not passed on.
        """
        ...


class Policy(Protocol):
    """Rules about runs: what is flagged, and what is stopped.

    Found by name through the entry points `isotrace.policies`. `looks_at` names what of steps it has to see
    beyond their names, effects and times: any of `params`, `outcome` (costs and tokens stand there).
    """

    looks_at: frozenset[str]

    def opened(self, started: Event) -> RunPolicy:
        """Watches a run that begins with this `run_started`. MUST be safe to call from several threads."""
        ...


class Redactor(Protocol):
    """Finds in a text what must not be recorded.

    `name` is what `redact=[NAME]` and `--redact NAME` say, the entry point's name in `isotrace.redactors`,
    and what stands in the record in place of what was found: `[NAME]`. Lower-case letters, digits and
    hyphens. `version` is another one wherever something else is found than before: a run that was redacted by
    one version is not replayed with another.

    `find` MUST be pure and deterministic: the same text has the same spans in every process, because a replay
    finds in what the code asks what the recording found. It MUST be total and bounded: any text of any
    length, in about linear time, and no waiting for anything. It is called from several threads, and again
    with what is left of a text between two findings, until it finds nothing there: that makes redacting
    idempotent, and is why a text that goes before or after should not decide. Texts are Unicode without lone
    surrogates, and may be JSON, whole or cut.

    One that raises, or gives spans that are not in the text, has the whole text withheld.
    """

    name: str
    version: str

    def find(self, text: str) -> Iterable[tuple[int, int]]:
        """Where something stands that must go: `(start, end)` in characters. They may overlap, and come in
        any order."""
        ...
