"""One golden-guarded scope: code that is held against its golden run, or recorded as one."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from isotrace.clock import SYSTEM
from isotrace.compare import Level, Rules, Verdict, diff_traces
from isotrace.compare.codes import Code
from isotrace.errors import ImportFormatError, IsotraceError, RecordError, UsageError
from isotrace.ledger import Ledger
from isotrace.operations.goldens import candidate_of, read_golden, same_behaviour, write_golden
from isotrace.pytest_plugin.failing import Failing, own_outcome
from isotrace.record import flush, instrument
from isotrace.record.context import (
    Driver,
    RunInfo,
    current_branch,
    current_step,
    reset_all,
    run_opener,
    set_all,
)
from isotrace.record.policies import policies_for
from isotrace.record.provisional import ProvisionalJournal
from isotrace.record.runs import policies_around, provisional_run
from isotrace.record.sources import seeds
from isotrace.record.spec import SkillSpec
from isotrace.record.start import start_recording
from isotrace.redact.redaction import redaction_of
from isotrace.replay import Plan, Replay, ReplayResult
from isotrace.stores.memory import MemoryStore

Mode = Literal["replay", "record", "extend"]
BODY: Final = "golden_body"
"""Metadata of a run that the guarded code itself is the body of."""

_open: ContextVar[Path | None] = ContextVar("isotrace_golden", default=None)
"""The golden that the calling code is held against."""

Kept = Literal["new", "same", "candidate", "match"]

SEED: Final = bytes(range(16)).hex()
"""What the global generators begin with in every scope, recorded or replayed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How closely a golden is held to, and what its run is recorded with."""

    level: str = "decisions"
    ignore: Sequence[str] = ()
    normalize: Sequence[str] = ()
    tolerance: Sequence[str] = ()
    kinds: Sequence[str] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    redact: Sequence[str] = ()

    def plan(self, *, extends: bool) -> Plan:
        """How a golden is replayed. Raises `UsageError` for a level or a rule that there is not."""
        names = ("ignore", "normalize", "tolerance", *(() if self.kinds is None else ("kinds",)))
        rules = {name: _texts(name, getattr(self, name)) for name in names}
        Rules.parse(**rules)
        live: dict[str, Any] = {"mode": "live", "allow": ("*",), "extends": True} if extends else {}
        return Plan(level=str(self.level), rules=rules, **live)

    def redactors(self) -> list[str]:
        """The names of what must not be recorded. Raises `PluginError` for one that there is not."""
        names = _texts("redact", self.redact)
        if names:
            redaction_of(names)
        return names


def _texts(name: str, given: Any) -> list[str]:
    """One text, or several."""
    texts = [given] if isinstance(given, str) else list(given)
    if not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{name} of a golden is a text, or several", got=repr(given)[:80])
    return texts


class Scope:
    """One golden and the code that it guards. `kept` says what became of the golden file."""

    def __init__(self, path: Path, mode: Mode, asked: Asked, agent_id: str) -> None:
        self.path = path
        self.mode = mode
        self.asked = asked
        self.kept: Kept | None = None
        self._agent_id = agent_id

    @contextmanager
    def hold(self) -> Iterator[None]:
        """The code of the block is replayed from the golden, or recorded. Raises what it raised by itself,
        and `Failing` where it is not the golden's run."""
        plan = self._checked(lambda: self.asked.plan(extends=self.mode == "extend"))
        around = _open.get()
        if around is not None:
            raise Failing.nested(self.path, around)
        token = _open.set(self.path)
        try:
            with self._held(plan):
                yield
        finally:
            _open.reset(token)

    @contextmanager
    def _held(self, plan: Plan) -> Iterator[None]:
        if self.mode == "record" or (self.mode == "extend" and not self.path.exists()):
            with self._recording(plan):
                yield
            return
        if not self.path.exists():
            raise Failing.missing(self.path, candidate_of(self.path).exists())
        with self._replaying(plan):
            yield

    def _checked(self, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except (ImportFormatError, RecordError) as error:
            raise Failing.unreadable(self.path, error) from None
        except IsotraceError as error:
            raise Failing.of_error(self.path, error) from None

    # --- replay -----------------------------------------------------------------------

    @contextmanager
    def _replaying(self, plan: Plan) -> Iterator[None]:
        ledger: Ledger = self._checked(lambda: read_golden(self.path))
        session: Replay = self._checked(lambda: Replay(ledger, plan, alone=True))
        try:
            with seeded(), instrumented(), session.block(body=_is_body(ledger)):
                yield
        except IsotraceError as error:
            raise Failing.of_error(self.path, error) from None
        result = session.block_result
        assert result is not None
        self._judge(ledger, result, session)

    def _judge(self, ledger: Ledger, result: ReplayResult, session: Replay) -> None:
        error, driving = result.error, session.driving
        if error is not None and own_outcome(error):
            raise error
        if self._went_on(result, error):
            self._write(result.new_ledger)
            return
        if result.verdict is Verdict.MATCH:
            self.kept = "match"
            if error is not None:
                raise error
            return
        if driving.implied and result.crash is not None and error is not None:
            # The body of the test broke off by itself: what it then left out says nothing about the agent.
            raise error
        own = None if error is driving.raised else error  # what the agent raised stands in a note
        raise Failing.diverged(self.path, ledger.record(), result, own) from None

    def _went_on(self, result: ReplayResult, error: BaseException | None) -> bool:
        """Whether the run only went on where its golden ends, and was executed from there."""
        first = result.first
        late = first is not None and first.code is Code.LATE_END and result.verdict is Verdict.DIVERGED
        return self.mode == "extend" and late and not result.stopped and error is None

    # --- record -----------------------------------------------------------------------

    @contextmanager
    def _recording(self, plan: Plan) -> Iterator[None]:
        names = self._checked(self.asked.redactors)
        recording = Recording(self.asked.metadata, names)
        with seeded(), recording.open(self._agent_id):
            yield
        if recording.error is not None:
            raise recording.error
        ledger = self._checked(recording.ledger)
        if not self.path.exists():
            self._checked(lambda: write_golden(self.path, ledger))
            self.kept = "new"
        elif self._checked(lambda: self._same(ledger, plan)):
            self.kept = "same"
            candidate_of(self.path).unlink(missing_ok=True)
        else:
            self._write(ledger)

    def _same(self, ledger: Ledger, plan: Plan) -> bool:
        """Whether the golden says the same of this run, as far as the test looks at it."""
        try:
            golden = read_golden(self.path)
        except ImportFormatError:
            return False
        if same_behaviour(golden, ledger):
            return True
        level = Level.EXACT if plan.level == Level.DECISIONS else Level.of(plan.level)
        diff = diff_traces(golden.record(), ledger.record(), level=level, rules=Rules.parse(**plan.rules))
        return diff.verdict is Verdict.MATCH

    def _write(self, ledger: Ledger | None) -> None:
        assert ledger is not None
        candidate = candidate_of(self.path)
        # One that was left there is of an earlier recording, whatever it says.
        candidate.unlink(missing_ok=True)
        self._checked(lambda: write_golden(candidate, ledger))
        self.kept = "candidate"


def _is_body(ledger: Ledger) -> bool:
    """Whether the guarded code was the run, in contrast to a run that it has opened."""
    record = ledger.record()
    entry = record.context.entry_point if record.context is not None else None
    return bool(record.metadata.get(BODY)) or (isinstance(entry, dict) and entry.get("kind") == "program")


class Recording:
    """Records the one run of a block in memory: the one that its code opens, else the block itself.

    `error` is what the code raised by itself.
    """

    def __init__(self, metadata: Mapping[str, Any], redact: Sequence[str]) -> None:
        self.error: BaseException | None = None
        self._metadata = dict(metadata)
        self._redact = redact
        self._store = MemoryStore()
        self._opened: list[RunInfo] = []
        self._ids: set[str] = set()
        self._body: Driver | None = None

    @contextmanager
    def open(self, agent_id: str) -> Iterator[None]:
        """Around the code. What it raises ends the block, and stands in `error`."""
        tokens = set_all([(run_opener, self), (current_branch, None), (current_step, None)])
        try:
            with instrumented(), provisional_run(agent_id, input=None, entry_point=None):
                try:
                    yield
                except BaseException as raised:  # noqa: BLE001  # the caller raises it again
                    self.error = raised
        finally:
            reset_all(tokens)

    def __call__(self, info: RunInfo) -> Driver:
        """The driver of a run that opens."""
        inner = info.parent is not None and info.parent["run_id"] in self._ids
        if not inner:
            info.metadata.update(self._metadata)
            if self._redact:
                before = () if info.redaction is None else info.redaction.names
                info.redaction = redaction_of(list(dict.fromkeys((*before, *self._redact))))
        if info.provisional:
            info.metadata[BODY] = True
        info.policies = policies_for(info, policies_around())
        driver = start_recording(info, self._store, "process", SYSTEM)
        self._ids.add(driver.info.run_id)
        if info.provisional:
            self._body = driver
        elif not inner:
            self._opened.append(driver.info)
        return driver

    def noted(self, source: str, function: Callable[[], Any]) -> Any:
        """What is read outside of runs is nobody's."""
        return function()

    def outside(self, spec: SkillSpec) -> None:
        """A skill that is called outside of runs is a plain call."""

    def ledger(self) -> Ledger:
        """The run. Raises `UsageError` where there is none, or more than one."""
        flush()
        body = self._body
        journal = getattr(getattr(body, "writer", None), "journal", None)
        own_steps = isinstance(journal, ProvisionalJournal) and journal.kept is not None
        names = [info.agent_id or "a run without a name" for info in self._opened]
        if len(names) > 1:
            raise UsageError(
                "a golden holds one run, and here several were opened",
                got=", ".join(names[:5]),
                hint="give each a golden of its own: `with golden('a'): …` and `with golden('b'): …`",
            )
        if names and own_steps:
            raise UsageError(
                "a golden holds one run: beside the agent's, the test itself took steps",
                got=f"a run of {names[0]}, and {self._first_step()} outside of it",
                hint="let `with golden():` stand around the agent's call alone",
            )
        if not names and not own_steps:
            raise UsageError(
                "nothing was recorded: the code opened no run and took no step",
                hint="call the agent inside, and await it if it is a coroutine; its calls are steps if "
                "they are skills, or captured",
            )
        assert body is not None
        info = self._opened[0] if self._opened else body.info
        return self._store.ledger(info.run_id, tenant_id=info.tenant_id)

    def _first_step(self) -> str:
        assert self._body is not None
        info = self._body.info
        steps = self._store.ledger(info.run_id, tenant_id=info.tenant_id).record().steps
        kinds = [
            step for step in steps if step.context is None or step.context.kind not in ("agent", "timer")
        ]
        return kinds[0].skill_name if kinds else "a step"


@contextmanager
def instrumented() -> Iterator[None]:
    """Calls of libraries are captured."""
    undo = instrument()
    try:
        yield
    finally:
        undo()


@contextmanager
def seeded() -> Iterator[None]:
    """The global generators of `random`, and of numpy where it is loaded, begin the same each time, and are
    as they were afterwards. A program that `isotrace run` has started has seeds of its own.
    """
    if seeds.numbers_for("random") is not None:
        yield
        return
    numpy = sys.modules.get("numpy.random")
    states = random.getstate(), None if numpy is None else numpy.get_state()
    seeds.plant({"seeds": {"random": SEED}})
    if numpy is not None:
        numpy.seed(seeds.numbers_for("numpy"))
    try:
        yield
    finally:
        seeds.uproot()
        random.setstate(states[0])
        if numpy is not None:
            numpy.set_state(states[1])
