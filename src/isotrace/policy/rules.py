"""What a rule can say. Everything is checked here, so that a rule which exists can be applied."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, Final, NoReturn, Self

from isotrace.errors import PolicyError
from isotrace.policy.conditions import Condition

ACTIONS: Final = ("flag", "stop")
SCOPES: Final = ("run", "correlation")
EFFECTS: Final = ("pure", "read", "idempotent_write", "write")
CHECKS: Final = ("deny", "allow", "limit", "loop", "before", "after")
"""A rule makes one of these checks."""

MAX_PATTERNS: Final = 200
MAX_TEXT: Final = 2000
MAX_COUNT: Final = 2**53 - 1
MAX_WINDOW: Final = 10_000
MAX_CYCLE: Final = 16


def _refuse(what: str, pointer: str, **data: Any) -> NoReturn:
    raise PolicyError(what, pointer=pointer, **data)


def nearest(name: object, known: Iterable[str]) -> str | None:
    """The known name that comes closest to this one."""
    return next(iter(get_close_matches(str(name), list(known), 1)), None)


def _text(value: Any, pointer: str, *, empty: bool = False) -> str:
    if not isinstance(value, str) or not (empty or value) or len(value) > MAX_TEXT:
        _refuse(f"a text of at most {MAX_TEXT} characters is expected", pointer, got=_shown(value))
    try:
        value.encode()
    except UnicodeEncodeError:
        _refuse("a text holds a lone surrogate", pointer, got=ascii(value)[:80])
    return value


def _shown(value: Any) -> str:
    return repr(value)[:80]


def _flag(value: Any, pointer: str) -> bool:
    if not isinstance(value, bool):
        _refuse("true or false is expected", pointer, got=_shown(value))
    return value


def _one_of(value: Any, known: tuple[str, ...], pointer: str) -> str:
    if not isinstance(value, str) or value not in known:
        expected = " or ".join(known)
        _refuse("unknown value", pointer, expected=expected, got=_shown(value), nearest=nearest(value, known))
    return value


def _texts(value: Any, pointer: str) -> tuple[str, ...]:
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, list | tuple) or not 0 < len(value) <= MAX_PATTERNS:
        _refuse(f"a list of 1 to {MAX_PATTERNS} texts is expected", pointer, got=_shown(value))
    return tuple(_text(one, f"{pointer}/{index}") for index, one in enumerate(value))


def _count(value: Any, pointer: str, least: int = 0, most: int = MAX_COUNT) -> int:
    if type(value) is not int or not least <= value <= most:
        _refuse(f"a whole number from {least} to {most} is expected", pointer, got=_shown(value))
    return value


def _amount(value: Any, pointer: str) -> float:
    if type(value) not in (int, float) or not (math.isfinite(value) and 0 <= value <= MAX_COUNT):
        _refuse("a number, not negative, is expected", pointer, got=_shown(value))
    return float(value)


def _known_keys(data: Mapping[Any, Any], known: tuple[str, ...], what: str, pointer: str) -> None:
    for key in data:
        if key not in known:
            _refuse(
                f"{what} has no such key",
                f"{pointer}/{key}",
                expected=", ".join(known),
                got=_shown(key),
                nearest=nearest(key, known),
            )


class _FromMapping:
    """A part of a rule that a file writes as a mapping."""

    @classmethod
    def of(cls, value: Any, pointer: str) -> Self:
        """This, or what the mapping says. Raises `PolicyError`."""
        if isinstance(value, cls):
            return value
        what = f"a {cls.__name__.lower()}"
        if not isinstance(value, Mapping):
            _refuse(f"{what} is a mapping", pointer, got=_shown(value))
        names = tuple(field.name for field in fields(cls))  # type: ignore[arg-type]  # of the dataclasses below
        _known_keys(value, names, what, pointer)
        return cls(**value)


@dataclass(frozen=True, slots=True)
class Limit(_FromMapping):
    """At most so much, summed up over the steps that the rule is about; more violates it.

    `cost_cents`, `tokens` (of models, sent and received), `steps`, `retries`, `duration_ms` (the run's time
    since it began); `step_duration_ms` holds for each step by itself.
    """

    cost_cents: float | None = None
    tokens: int | None = None
    steps: int | None = None
    duration_ms: float | None = None
    step_duration_ms: float | None = None
    retries: int | None = None

    def __post_init__(self) -> None:
        given = 0
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if value is None:
                continue
            given += 1
            check = _count if name in ("tokens", "steps", "retries") else _amount
            object.__setattr__(self, name, check(value, f"/limit/{name}"))
        if not given:
            names = ", ".join(field.name for field in fields(self))
            _refuse("a limit says of what", "/limit", expected=names)


@dataclass(frozen=True, slots=True)
class Loop(_FromMapping):
    """The same call (skill and params) at most `times` times: anywhere in the run, or among the last
    `window` calls.

    With `cycle` N it is about calls in succession: a row of 1 to N calls, repeated more than `times` times
    without anything between. `cycle=1` is the same call again and again, 2 also A, B, A, B.
    """

    times: int
    window: int | None = None
    cycle: int | None = None

    def __post_init__(self) -> None:
        _count(self.times, "/loop/times", 1, MAX_WINDOW)
        if self.window is not None:
            _count(self.window, "/loop/window", 2, MAX_WINDOW)
            if self.window <= self.times:
                _refuse("a window must be longer than the times", "/loop/window", got=self.window)
        if self.cycle is not None:
            _count(self.cycle, "/loop/cycle", 1, MAX_CYCLE)
            if self.window is not None:
                _refuse("a loop has a window or a cycle, not both", "/loop/window")

    @classmethod
    def of(cls, value: Any, pointer: str) -> Loop:
        if isinstance(value, Mapping) and "times" not in value:
            _refuse("a loop says how many times are allowed", f"{pointer}/times")
        return super(Loop, cls).of(value, pointer)


@dataclass(frozen=True, kw_only=True)
class PolicyRule:
    """One rule: which steps it is about, the check, and what happens to a step that violates it.

    - `action`: `flag` (the run goes on, the violation is on record) or `stop`.
    - `skills`, `kinds`, `effects`, `agents`: which steps, by shell patterns, kinds and effects; all unless
      given. Timers are no steps for a rule.
    - one check: `deny` (every such step violates), `allow` (those whose skill fits none of these patterns),
      `limit`, `loop`, `before` (a CEL condition on the call: true violates), `after` (one on the outcome).
    - `scope`: limits and loops count over a `run`, or over all runs of its `correlation` in this process.
    - `fail_closed`: a condition that can't be evaluated stops the step; else that is flagged.

    Raises `PolicyError` for what can't be applied.
    """

    id: str
    action: str
    reason: str = ""
    skills: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    effects: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    deny: bool = False
    allow: tuple[str, ...] = ()
    limit: Limit | None = None
    loop: Loop | None = None
    before: str | None = None
    after: str | None = None
    scope: str = "run"
    fail_closed: bool = False

    def __post_init__(self) -> None:
        _text(self.id, "/id")
        _one_of(self.action, ACTIONS, "/action")
        _text(self.reason, "/reason", empty=True)
        for name in ("skills", "kinds", "effects", "agents", "allow"):
            if getattr(self, name) != ():
                self._put(name, _texts(getattr(self, name), f"/{name}"))
        for index, effect in enumerate(self.effects):
            _one_of(effect, EFFECTS, f"/effects/{index}")
        _flag(self.deny, "/deny")
        _flag(self.fail_closed, "/fail_closed")
        _one_of(self.scope, SCOPES, "/scope")
        if self.limit is not None:
            self._put("limit", Limit.of(self.limit, "/limit"))
        if self.loop is not None:
            self._put("loop", Loop.of(self.loop, "/loop"))
        self._check_one()
        self._put("_condition", self._compiled())

    def _put(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check_one(self) -> None:
        made = [name for name in CHECKS if getattr(self, name) not in (None, False, ())]
        if len(made) != 1:
            known = ", ".join(CHECKS)
            got = " and ".join(made) or "none"
            _refuse(
                "a rule makes one check", f"/{made[1]}" if made else "", expected=f"one of {known}", got=got
            )
        counts = self.limit is not None or self.loop is not None
        if self.scope != "run" and not counts:
            _refuse("a scope belongs to a limit or a loop", "/scope", got=self.scope)
        if self.fail_closed and self.before is None and self.after is None:
            _refuse("fail_closed belongs to a condition", "/fail_closed", expected="before or after")

    def _compiled(self) -> Condition | None:
        for name in ("before", "after"):
            text = getattr(self, name)
            if text is not None:
                return Condition(_text(text, f"/{name}"), after=name == "after", pointer=f"/{name}")
        return None

    @property
    def condition(self) -> Condition | None:
        """The compiled `before` or `after`."""
        found: Condition | None = self.__dict__["_condition"]
        return found

    @property
    def stops(self) -> bool:
        """Whether a step that violates it is stopped."""
        return self.action == "stop"

    def is_about(self, kind: str, skill: str, effect: str) -> bool:
        """Whether a step of this kind, skill and effect is one that the rule looks at."""
        return (
            (not self.skills or fits(skill, self.skills))
            and (not self.kinds or kind in self.kinds)
            and (not self.effects or effect in self.effects)
        )

    def concerns(self, agent_id: str | None) -> bool:
        """Whether the rule looks at runs of this agent."""
        return not self.agents or fits(agent_id or "", self.agents)

    @classmethod
    def of(cls, data: Any) -> PolicyRule:
        """The rule that a mapping says. Raises `PolicyError`."""
        if not isinstance(data, Mapping):
            _refuse("a rule is a mapping", "", got=_shown(data))
        names = tuple(field.name for field in fields(cls))
        _known_keys(data, names, "a rule", "")
        for name in ("id", "action"):
            if name not in data:
                _refuse(
                    f"a rule has an {name}", "", expected="flag or stop" if name == "action" else "a text"
                )
        for name in ("skills", "kinds", "effects", "agents", "allow", "deny"):
            if name in data and data[name] in ((), [], False, None):
                _refuse("an empty choice says nothing: leave it out", f"/{name}", got=_shown(data[name]))
        return cls(**data)


def fits(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a name fits one of these shell patterns, upper and lower case apart."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
