"""Running a Python program as `python` would, with its runs recorded, or one of them replayed."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isotrace.contracts import TraceStore
from isotrace.errors import NoEntryPointError, UsageError
from isotrace.operations.executing import execute, is_importable
from isotrace.operations.relocating import Relocation
from isotrace.operations.replaying import OPENS_RUN, replay_by_plan
from isotrace.operations.surroundings import changed_files
from isotrace.record import sources
from isotrace.record.capture import instrument
from isotrace.record.context import Driver, Opener, RunInfo, run_opener
from isotrace.record.runs import Run, provisional_run, run, set_program
from isotrace.record.sealer import observed
from isotrace.record.sources import seeds
from isotrace.record.spec import SkillSpec
from isotrace.redact.wanted import VARIABLE, redactors_wanted
from isotrace.replay import Plan, ReplayResult, named_function
from isotrace.replay.stop import ReplayStop

_INTERRUPTED = 130
_FIRST_LINE = 1024


def program_entry(target: str, arguments: Sequence[str], *, module: bool) -> dict[str, Any]:
    """How a program is started, as recorded: `target` is the path of a script, or of a folder or an archive
    with a `__main__.py`, the name of an installed command that is a Python script, or with `module` a module.

    Raises `UsageError` for a script that is not there.
    """
    return {
        "kind": "program",
        "target": target if module else _script(target),
        "module": module,
        "arguments": list(arguments),
        "cwd": str(Path.cwd()),
        # As it was typed: the program's sys.argv[0].
        **({"spelled": target} if not module and os.path.exists(target) else {}),  # noqa: PTH110 - see _script
    }


def _script(target: str) -> str:
    """The absolute path of a script, or of the command of this name."""
    is_there = os.path.isfile(target) or is_importable(target)  # noqa: PTH113 - Path's raises for a name that is too long
    if is_there:
        return str(Path(target).absolute())
    own = str(Path(sys.executable).parent)
    command = shutil.which(target, path=os.pathsep.join((own, os.environ.get("PATH", os.defpath))))
    if command is None:
        raise UsageError("there is no such script", got=target, hint="a module is run with -m MODULE")
    with Path(command).open("rb") as file:
        first = file.readline(_FIRST_LINE)
    if not (first.startswith(b"#!") and b"python" in first):
        raise UsageError("the command is no Python script", got=command)
    return command


def record_program(
    entry: Mapping[str, Any],
    *,
    agent_id: str | None = None,
    tell: Callable[[BaseException], None] | None = None,
) -> None:
    """Runs a program; its runs record that they came from it. Raises what the program raises, `SystemExit`
    too; `tell` is called with that as soon as it is raised, before the program's threads are waited for.

    What the program calls outside of the runs that it opens makes a run of its own, named by the program.
    With `agent_id` the whole program is one run of that agent, and its runs are nested in it. Its generators
    begin with the seeds of `entry`, where it names some.
    """
    entry = {**entry, "seeds": {**seeds.fresh_seeds(), **entry.get("seeds", {})}}
    restore = instrument()
    try:
        with sources.program(entry), _whole(entry, agent_id) as whole:
            try:
                execute(entry, tell=tell)
            except BaseException as error:
                whole.add_metadata(exit_code=exit_code(error))
                raise
            whole.add_metadata(exit_code=0)
    finally:
        restore()
        set_program(None)


def _whole(entry: Mapping[str, Any], agent_id: str | None) -> Run:
    """The run that the program is."""
    if agent_id is not None:
        set_program(entry)
        return run(agent_id, input=_input(entry), entry_point={**entry, "agent": agent_id})
    name = str(entry["target"]).rpartition(".")[2] if entry["module"] else Path(str(entry["target"])).stem
    whole = provisional_run(name, input=_input(entry), entry_point={**entry, "agent": name})
    # Now: the runs that the program opens are counted without this one.
    set_program(entry)
    return whole


def _input(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What a program is given."""
    return {"arguments": [str(argument) for argument in entry["arguments"]]}


def exit_code(error: BaseException) -> int:
    """The exit code of a process that ends with this error, as `python` gives it."""
    if isinstance(error, SystemExit):
        return int(error.code or 0) if error.code is None or isinstance(error.code, int) else 1
    return _INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1


def use_redactors(names: Sequence[str]) -> None:
    """Has every run of this process, and of those that it starts, redacted by these too. Raises `UsageError`
    and `PluginError` for names that there are not."""
    from isotrace.redact.redaction import redaction_of  # noqa: PLC0415 - start-up time: RE2 for those who redact

    wanted = redactors_wanted(names)
    redaction_of(wanted)
    os.environ[VARIABLE] = ",".join(wanted)


class _Finished(BaseException):
    """The run that is replayed has ended, and the program goes on to another one."""


def replayable_program(entry: Mapping[str, Any], run_id: str) -> Callable[[], None]:
    """A function that starts the program again, for `replay`: its first run is the one replayed,
    and the program ends there.

    Raises `NoEntryPointError` for a later run of a program (those before it would not be served),
    and for a script that is gone.
    """
    if entry.get("index", 0):
        raise NoEntryPointError(
            f"the run is number {entry['index'] + 1} of the runs that its program made",
            run_id=run_id,
            hint="mark the function that makes it with @isotrace.agent, and replay that",
        )
    if not _is_there(entry):
        raise NoEntryPointError(
            "the script of the recorded entry point is gone", run_id=run_id, got=str(entry["target"])
        )

    def program() -> None:
        folder = str(entry.get("cwd", ""))
        if Path(folder).is_dir():
            os.chdir(folder)
        first = _FirstRun(run_opener.get())
        token = run_opener.set(first)
        seeds.plant(entry)
        agent_id = entry.get("agent")
        try:
            with nullcontext() if agent_id is None else run(str(agent_id), input=_input(entry)):
                execute(entry, ended=first.has_ended)
        except _Finished:
            pass
        finally:
            run_opener.reset(token)
            seeds.uproot()

    setattr(program, OPENS_RUN, True)
    return program


class _FirstRun:
    """Lets the program's first run be the one that is replayed; what comes after it is not."""

    def __init__(self, opener: Opener | None) -> None:
        self._opener = opener
        self._first: Driver | None = None

    def __call__(self, info: RunInfo) -> Driver | None:
        if self._first is not None and self._first.closed:
            raise _Finished
        self._first = self._opener(info) if self._opener is not None else None
        return self._first

    def has_ended(self, error: BaseException | None) -> bool:
        """Whether the replay is over where the program raised this, or ended: what it does then is of no
        account."""
        over = self._first is not None and self._first.closed
        return over or isinstance(error, _Finished | ReplayStop)

    def noted(self, source: str, function: Callable[[], Any]) -> Any:
        return function() if self._opener is None else self._opener.noted(source, function)

    def outside(self, spec: SkillSpec) -> None:
        if self._first is not None and self._first.closed:
            raise _Finished
        if self._opener is not None:
            self._opener.outside(spec)


def replay_again(
    store: TraceStore,
    run_id: str,
    plan: Plan | None = None,
    *,
    tenant_id: str,
    entry: str | None = None,
    program: Mapping[str, Any] | None = None,
    relocation: Relocation | None = None,
) -> ReplayResult:
    """Replays a stored run, strictly unless `plan` says otherwise, by `entry` (`MODULE:FUNCTION`,
    `FILE.py:FUNCTION`) or `program` (as `program_entry` gives it), else by its recorded entry point, a
    function or a program. With `relocation`, the recorded entry point is taken to lie there. Raises as
    `replay` does, and `UsageError` for `entry`."""
    function: Callable[[], Any] | None = None
    recorded: Any = None
    if entry is not None:
        function = named_function(entry)
    elif program is not None:
        function = replayable_program(program, run_id)
    elif store.get(run_id, tenant_id=tenant_id).local:
        recorded = store.ledger(run_id, tenant_id=tenant_id).events[0].facts.get("entry_point")
        if relocation is not None and isinstance(recorded, dict):
            recorded = relocation.entry(recorded)
        started = _program_of(recorded)
        if started is not None:
            function = replayable_program(started, run_id)
    result = replay_by_plan(
        run_id, function, plan or Plan(), store=store, tenant_id=tenant_id, entry_point=recorded
    )
    if relocation is None:
        result.notes.extend(changed_files(store, run_id, tenant_id=tenant_id))
    return result


def _program_of(entry: Any) -> dict[str, Any] | None:
    """The program to start for an entry point: its own, or, of a run that a function opened, the one
    beside it if this was its first run: that is what was executed, `__main__` and all."""
    if not isinstance(entry, dict):
        return None
    if entry.get("kind") == "program":
        return entry
    beside = entry.get("program")
    if not isinstance(beside, dict) or beside.get("index", 0) or not _is_there(beside):
        return None
    return beside


def _is_there(entry: Mapping[str, Any]) -> bool:
    """Whether a program's script still is: of a module, importing it tells."""
    return bool(entry["module"]) or Path(str(entry["target"])).exists()


@dataclass(frozen=True, slots=True)
class RecordedHere:
    """The ids of the runs of this process: `begun` in the order in which they began, `stored` in that
    in which they were put into their stores."""

    begun: list[str] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)

    @property
    def waiting(self) -> list[str]:
        """Those that began and are not in their store."""
        return [run_id for run_id in self.begun if run_id not in self.stored]


@contextmanager
def recorded_here() -> Iterator[RecordedHere]:
    """What is recorded in this process during the block, which is waited for at its end."""
    recorded = RecordedHere()
    with observed(recorded.stored.append, recorded.begun.append):
        yield recorded
