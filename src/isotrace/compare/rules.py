"""What a comparison looks at: its level, and rules for single fields.

A *target* says where a rule applies: a JSON Pointer (RFC 6901) whose segments may be `*` for any key
or index, with a skill in front of it if it is meant for one skill only: `/ts`, `/messages/*/id`,
`search:/query`. It leads into whatever is compared: a step's params, and at level `exact` its
outcome; for the run as a whole it begins with `/input`, `/plan` or `/result`. A rule covers
its target and everything below it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, Final, NamedTuple

from isotrace.canonical import MAX_DEPTH
from isotrace.compare.text import NORMALIZERS, normalize_text
from isotrace.errors import FieldError, LimitError, UsageError
from isotrace.hashing import normalize
from isotrace.jsondiff import Change, diff_values, pointer_get, pointer_split

LISTED_CHANGES: Final = 64
"""How many pointers one divergence names at most."""

_LOOKED_AT = 10_000
"""How many changes are looked at for some that are within a tolerance."""

KINDS: Final = ("llm", "tool", "retrieval", "code", "agent", "timer", "http", "mcp", "process")
"""The kinds of step that isotrace itself records."""

BUDGETS: Final = ("cost", "duration", "tokens")


class Level(StrEnum):
    """How closely two runs are held against each other.

    `EXACT`: the path, every outcome, the input and the result. `DECISIONS`: what the contract
    compares: skill, params, status, category, code and retries of each step. `SKELETON`: the
    order of skills, and their statuses. `OUTCOME`: the run's final status and result only.
    """

    EXACT = "exact"
    DECISIONS = "decisions"
    SKELETON = "skeleton"
    OUTCOME = "outcome"

    @classmethod
    def of(cls, name: str) -> Level:
        """The level of this name. Raises `UsageError` with the good ones."""
        try:
            return cls(name)
        except ValueError:
            raise _unknown("level", name, [level.value for level in cls]) from None


def _unknown(what: str, name: object, known: Sequence[str]) -> UsageError:
    close = get_close_matches(str(name), known, 1)
    return UsageError(
        f"unknown {what}", got=name, expected=", ".join(known), nearest=close[0] if close else None
    )


class Target(NamedTuple):
    """Where a rule applies; no segments: everywhere. `skill` None: in every skill."""

    skill: str | None
    segments: tuple[str, ...]


class Tolerance(NamedTuple):
    """Two numbers count as equal if they are within either of these; `relative` is a share of the larger."""

    absolute: float = 0.0
    relative: float = 0.0

    def covers(self, one: Any, other: Any) -> bool:
        """Whether both are numbers and near enough."""
        if isinstance(one, bool) or isinstance(other, bool):
            return False
        if not isinstance(one, int | float) or not isinstance(other, int | float):
            return False
        allowed = max(self.absolute, self.relative * max(abs(one), abs(other)))
        return abs(one - other) <= allowed

    def __str__(self) -> str:
        return f"{self.relative * 100:g} %" if self.relative else f"{self.absolute:g}"


class Rules:
    """Rules for single fields. Without any, values are compared as hashes see them.

    `ignore`: what is left out. `tolerance`: where numbers may differ a little. `normalize`: where
    texts are brought into a common form first. `budget`: how far cost, duration or tokens
    of the compared steps may be apart before `BUDGET_CHANGED` warns. `kinds`: the kinds of step to compare.
    """

    def __init__(
        self,
        *,
        ignore: Iterable[Target] = (),
        tolerance: Iterable[tuple[Target, Tolerance]] = (),
        normalize: Iterable[tuple[Target, str]] = (),
        budget: Iterable[tuple[str, Tolerance]] = (),
        kinds: Iterable[str] | None = None,
    ) -> None:
        self.ignore = tuple(ignore)
        self.tolerance = tuple(tolerance)
        self.normalize = tuple(normalize)
        self.budget = dict(budget)
        self.kinds = None if kinds is None else tuple(kinds)
        self._lenses: dict[str | None, Lens | None] = {}

    @classmethod
    def parse(
        cls,
        *,
        ignore: Iterable[str] = (),
        tolerance: Iterable[str] = (),
        normalize: Iterable[str] = (),
        budget: Iterable[str] = (),
        kinds: Iterable[str] | None = None,
    ) -> Rules:
        """Rules from the texts that a command line passes.

        `ignore`: `TARGET`. `tolerance`: `TARGET=0.01` (absolute), `TARGET=5%` (relative), or
        either without target, for every number. `normalize`: `TARGET=NAME` or `NAME`, where
        the names are those of `text.NORMALIZERS`. `budget`: `cost=5%`, `duration=250` (ms),
        `tokens=10%`. Raises `UsageError` for anything else, with what would be right.
        """
        return cls(
            ignore=[_target(text) for text in ignore],
            tolerance=[_tolerance_rule(text) for text in tolerance],
            normalize=[_text_rule(text) for text in normalize],
            budget=[_budget_rule(text) for text in budget],
            kinds=kinds,
        )

    def lens(self, skill: str | None) -> Lens | None:
        """How values of this skill are looked at (None: of the run as a whole); None if as they are."""
        if skill not in self._lenses:
            ops: list[tuple[Target, _Op]] = [(one, "ignore") for one in self.ignore]
            ops += [*self.tolerance, *self.normalize]
            chosen = [(target.segments, op) for target, op in ops if target.skill in (None, skill)]
            self._lenses[skill] = Lens(chosen) if chosen else None
        return self._lenses[skill]


_Op = str | Tolerance
_Pending = list[tuple[tuple[str, ...], _Op]]


class Lens:
    """The rules that concern one skill's values."""

    def __init__(self, rules: _Pending) -> None:
        self._rules = rules
        self.tolerant = any(isinstance(op, Tolerance) for _, op in rules)

    def key(self, value: Any) -> Any:
        """The value as far as an equal hash can say that it is equal: without ignored parts, texts
        normalised, numbers that have a tolerance left out."""
        return self._seen(value, blank=True)

    def changes(self, expected: Any, actual: Any) -> list[Change]:
        """Where the two differ under the rules, at most `LISTED_CHANGES` places, with their own values."""
        one, other = self._seen(expected, blank=False), self._seen(actual, blank=False)
        found = diff_values(one, other, limit=_LOOKED_AT if self.tolerant else LISTED_CHANGES)
        return [
            Change(change.pointer, pointer_get(expected, change.pointer), pointer_get(actual, change.pointer))
            for change in found
            if not self._tolerated(change)
        ][:LISTED_CHANGES]

    def _seen(self, value: Any, *, blank: bool) -> Any:
        everywhere, pending = _arrived(self._rules, 0)
        return _walk(value, pending, everywhere, 0, blank)

    def _tolerated(self, change: Change) -> bool:
        path = pointer_split(change.pointer)
        return any(
            isinstance(op, Tolerance)
            and len(segments) <= len(path)
            and all(segment in ("*", part) for segment, part in zip(segments, path, strict=False))
            and op.covers(change.expected, change.actual)
            for segments, op in self._rules
        )


class _Active(NamedTuple):
    """What applies to a value and to everything in it."""

    names: frozenset[str] = frozenset()
    tolerant: bool = False
    ignored: bool = False


_NOTHING = _Active()


def _arrived(rules: _Pending, depth: int) -> tuple[_Active, _Pending]:
    """The rules that have come to their target at this depth, as one; and those still on their way."""
    rest = [rule for rule in rules if len(rule[0]) > depth]
    if len(rest) == len(rules):
        return _NOTHING, rest
    ops = [op for segments, op in rules if len(segments) == depth]
    names = frozenset(op for op in ops if isinstance(op, str))
    tolerant = any(isinstance(op, Tolerance) for op in ops)
    return _Active(names - {"ignore"}, tolerant, "ignore" in names), rest


def _walk(value: Any, pending: _Pending, active: _Active, depth: int, blank: bool) -> Any:
    """The value under the rules that are still on their way and those that apply from here down."""
    if depth > MAX_DEPTH:
        raise LimitError("a value is nested too deeply to apply rules to it", expected=f"{MAX_DEPTH} levels")
    if not pending and active == _NOTHING:
        return value
    if isinstance(value, dict):
        seen = {}
        for key, child in value.items():
            here, rest = _step(pending, active, key, depth)
            if not here.ignored:
                seen[key] = _walk(child, rest, here, depth + 1, blank)
        return seen
    if isinstance(value, list | tuple):
        items = []
        for index, child in enumerate(value):
            here, rest = _step(pending, active, str(index), depth)
            # An ignored element keeps its place, or the pointers of those behind it would shift.
            items.append(None if here.ignored else _walk(child, rest, here, depth + 1, blank))
        return items
    if isinstance(value, str):
        return normalize_text(value, active.names) if active.names else value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return "number" if blank and number and active.tolerant else value


def _step(pending: _Pending, active: _Active, part: str, depth: int) -> tuple[_Active, _Pending]:
    """What applies one segment further down."""
    if not pending:
        return active, pending
    matching = [rule for rule in pending if rule[0][depth] in ("*", part)]
    if not matching:
        return active, matching
    more, rest = _arrived(matching, depth + 1)
    both = _Active(active.names | more.names, active.tolerant or more.tolerant, more.ignored)
    return both, rest


def changes_between(expected: Any, actual: Any, lens: Lens | None) -> list[Change]:
    """Where two values differ: floats rounded as hashes have them, then under the rules."""
    if lens is not None:
        return lens.changes(normalize(expected), normalize(actual))
    found = diff_values(expected, actual, limit=LISTED_CHANGES)
    kept = [change for change in found if not _rounds_alike(change)]
    if len(found) == LISTED_CHANGES and len(kept) < len(found):
        # Noise has used up the places of real changes.
        return diff_values(normalize(expected), normalize(actual), limit=LISTED_CHANGES)
    return kept


def _rounds_alike(change: Change) -> bool:
    one, other = change.expected, change.actual
    if isinstance(one, float) or isinstance(other, float):
        return not diff_values(normalize(one), normalize(other))
    return False


# --- parsing ------------------------------------------------------------------------

_TARGET_FORMS = "/pointer, /messages/*/id or skill:/pointer"


def _target(text: str) -> Target:
    at = text.find(":/")
    while at >= 0 and text.startswith("://", at):
        # A skill may be named like a URL.
        at = text.find(":/", at + 1)
    skill, pointer = (None, text) if text.startswith("/") or at < 0 else (text[:at], text[at + 1 :])
    try:
        segments = pointer_split(pointer)
    except FieldError:
        segments = []
    if not segments or skill == "":
        raise UsageError("this is no target of a rule", got=text, expected=_TARGET_FORMS, nearest=f"/{text}")
    return Target(skill, tuple(segments))


_EVERYWHERE = Target(None, ())


def _tolerance_rule(text: str) -> tuple[Target, Tolerance]:
    where, _, amount = text.rpartition("=")
    target = _target(where) if where else _EVERYWHERE
    return target, _tolerance(amount, text, f"0.01, 5%, or one of them for a target: {_TARGET_FORMS}=0.01")


def _tolerance(amount: str, text: str, forms: str) -> Tolerance:
    relative = amount.endswith("%")
    try:
        number = float(amount[:-1] if relative else amount)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise UsageError("this is no tolerance", got=text, expected=forms)
    return Tolerance(relative=number / 100) if relative else Tolerance(absolute=number)


def _text_rule(text: str) -> tuple[Target, str]:
    where, _, name = text.rpartition("=")
    if name not in NORMALIZERS:
        raise _unknown("text normaliser", name, list(NORMALIZERS))
    return (_target(where) if where else _EVERYWHERE), name


def _budget_rule(text: str) -> tuple[str, Tolerance]:
    name, _, amount = text.partition("=")
    if name not in BUDGETS:
        raise _unknown("budget", name, BUDGETS)
    return name, _tolerance(amount, text, f"{name}=10% or {name}=250")


def check_kinds(kinds: Iterable[str], present: set[str]) -> frozenset[str]:
    """The kinds to compare. Raises `UsageError` for one that is neither known nor in these runs:
    it would compare nothing with nothing."""
    chosen = frozenset(kinds)
    for kind in sorted(chosen):
        if kind not in KINDS and kind not in present:
            raise _unknown("kind of step", kind, sorted({*KINDS, *present}))
    return chosen
