"""What a replay is to serve from the record, and what it may really execute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

from isotrace.compare import Level
from isotrace.errors import UsageError
from isotrace.jsondiff import pointer_split

MODES: Final = ("strict", "tools-live", "model-live", "live")

READS: Final = ("pure", "read")
"""Effects that `tools-live` executes."""

_NO_TOOLS = ("llm", "agent", "timer")

PARAMS: Final = "params"
OUTCOME: Final = "outcome_data"


@dataclass(frozen=True, slots=True)
class Plan:
    """How one replay goes about it.

    - `mode`: `strict` executes nothing; `tools-live` steps that only read; `model-live` calls of models;
      `live` every step whose skill `allow` names (shell patterns).
    - `fork_at`: up to the start of the step of this index all is served strictly; from there on the mode
      holds, and a new run is kept.
    - `changes`: JSON Pointers into that step, from `/params` or `/outcome_data`, with what to put there.
    - `model`, `prompt`: asked of models that are really called, in place of the recorded ones.
    - `keep`: whether the new run goes into the store.
    - `level`, `rules`: how closely a strictly replayed code is held against the record: at `skeleton` and
      `outcome` a step may be asked for otherwise, and at `skeleton` the result may differ; the rules are
      texts for `Rules.parse`, by its arguments' names.
    - `moved`: the folder in which the code is now, and the recorded one that it stands for in what a strictly
      replayed code asks and returns.
    - `policy`: what the new run is held to beside what the code asks for: a policy, or a file of rules.
    - `extends`: all that is on record is served strictly; a run that goes on beyond it is executed from
      there, in mode `live`.

    Raises `UsageError` for a mode that there is not, and for what does not go together.
    """

    mode: str = "strict"
    allow: tuple[str, ...] = ()
    fork_at: int | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    prompt: str | None = None
    keep: bool = False
    moved: tuple[str, str] | None = None
    policy: Any = None
    level: str = "decisions"
    rules: Mapping[str, Sequence[str]] = field(default_factory=dict)
    extends: bool = False

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UsageError("unknown replay mode", expected=", ".join(MODES), got=self.mode)
        Level.of(self.level)
        if self.mode == "live" and not self.allow:
            raise UsageError(
                "mode live executes nothing without an allow-list",
                hint="name the skills that may be executed, '*' for all",
            )
        if self.allow and self.mode != "live":
            raise UsageError("an allow-list belongs to mode live", got=self.mode)
        if self.extends and (self.mode != "live" or self.fork_at is not None):
            raise UsageError("what goes on beyond its record does so in mode live, and without a fork")
        if (self.model or self.prompt) and self.mode not in ("model-live", "live"):
            raise UsageError(
                "another model or prompt needs a mode that calls models",
                expected="model-live or live",
                got=self.mode,
            )
        if self.policy is not None and self.is_strict:
            raise UsageError(
                "a strict replay executes nothing that a policy could stop",
                expected="another mode, or a fork",
                hint="`isotrace backtest` holds rules against recorded runs",
            )
        self._check_changes()

    def _check_changes(self) -> None:
        if self.changes and self.fork_at is None:
            raise UsageError("a value can only be changed at the step where a fork begins")
        for pointer in self.changes:
            if pointer_split(pointer)[:1] not in ([PARAMS], [OUTCOME]):
                raise UsageError(
                    "a change is a JSON Pointer into the step",
                    expected=f"/{PARAMS}/… or /{OUTCOME}/…",
                    got=pointer,
                )

    @property
    def is_strict(self) -> bool:
        """Whether nothing is executed, and no new run comes about."""
        return self.mode == "strict" and self.fork_at is None

    @property
    def follows_the_record(self) -> bool:
        """Whether each step has to be the recorded one at its place."""
        return self.mode in ("strict", "tools-live")

    def executes(self, kind: str, name: str, effect: str) -> bool:
        """Whether this mode executes such a step."""
        match self.mode:
            case "tools-live":
                return effect in READS and kind not in _NO_TOOLS
            case "model-live":
                return kind in ("llm", "timer")
            case "live":
                return kind == "timer" or any(fnmatchcase(name, pattern) for pattern in self.allow)
        return False
