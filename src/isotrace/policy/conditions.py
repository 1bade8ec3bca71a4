"""Conditions in CEL (https://cel.dev), compiled and type-checked when a rule is made, bounded when they are
evaluated. The one home of the library `cel-expr-python`.

The library evaluates in linear time but for what is bounded here: it ends loops after 10,000 rounds, and
its patterns are RE2's; but values can be made larger within an expression, a search for one text in
another and a filter are quadratic, and each round of a loop can look at large values. So an expression
that could make values grow is refused when it is compiled, and before each evaluation the work is
estimated from above.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from isotrace.errors import PolicyError
from isotrace.policy.syntax import Node, tree_of

MAX_LENGTH: Final = 2000
"""Characters of an expression."""
MAX_NODES: Final = 250
"""Operands and operators of an expression."""
MAX_NESTING: Final = 2
"""Loops inside loops."""
MAX_SUMS: Final = 8
"""How often `+` may stand in an expression: each can make a text or list larger."""
MAX_WORK_NS: Final = 2_000_000_000
"""What one evaluation may take, estimated from above in nanoseconds."""
_ROUNDS: Final = 10_000
_NS_PER_BYTE: Final = 40  # comparing two lists of numbers, the slowest per byte that was measured
_NS_PER_FILTERED: Final = 300  # a filter copies what it has so far in each round

BEFORE: Final = {
    "params": "map",
    "skill": "string",
    "kind": "string",
    "effect": "string",
    "step": "int",
    "run": "map",
    "totals": "map",
}
AFTER: Final = BEFORE | {
    "outcome": "any",
    "status": "string",
    "category": "string",
    "code": "any",
    "error": "string",
    "cost_cents": "any",
    "tokens": "any",
    "duration_ms": "any",
    "retries": "any",
}
"""The variables of a condition. Numbers are `any`, so that `cost_cents > 1` and `> 1.5` are both good."""
FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "run": ("run_id", "correlation_id", "agent_id", "tenant_id", "input", "metadata"),
    "totals": ("cost_cents", "tokens", "steps", "duration_ms", "calls"),
}
"""What is known of these variables, so that a misspelt name is an error when it is compiled."""

_OPERATORS: Final = frozenset(
    {"_&&_", "_||_", "!_", "_?_:_", "_[_]", "@not_strictly_false", "-_", "_-_", "_*_", "_/_", "_%_"}
)
_PLACE: Final = re.compile(r"ERROR: [^:]*:(\d+):(\d+): (.*)")


class NotEvaluatedError(Exception):
    """A condition gave no answer, and why."""


class Condition:
    """One compiled expression. `names`: the variables that it looks at. Safe to use from several threads.

    Raises `PolicyError` with line and column in the expression for what is no expression, is of the wrong
    type or could take for ever, and where the library is not installed.
    """

    def __init__(self, text: str, *, after: bool, pointer: str) -> None:
        self.text = text
        self._pointer = pointer
        if len(text) > MAX_LENGTH:
            self._refuse("an expression is too long", expected=f"at most {MAX_LENGTH} characters")
        environment, answers = _environment(after)
        self._expression = self._compiled(environment)
        kind = self._kind()
        if kind not in answers:
            self._refuse("a condition is true or false", expected="bool", got=kind.lower())
        try:
            root, self._offsets = tree_of(self._expression.serialize())
            self._bounds = _Bounds(root, self)
        except (RecursionError, IndexError, KeyError) as error:
            self._refuse("an expression is nested too deeply", got=type(error).__name__)
        self.names = self._bounds.names
        self._try_patterns(environment)

    def _compiled(self, environment: Any) -> Any:
        try:
            return environment.compile(self.text)
        except Exception as error:  # noqa: BLE001  # the library raises RuntimeError for all
            found = _PLACE.search(str(error))
            if found is None:
                return self._refuse(_first_line(error))
            line, column, what = int(found[1]), int(found[2]), found[3].removesuffix(" (in container '')")
            known = re.match(r"undeclared reference to '([^']*)'", what)
            names = BEFORE if self._pointer == "/before" else AFTER
            near = None if known is None else _nearest(known[1].partition(".")[0], names)
            hint = None
            if known is not None and known[1] in AFTER and known[1] not in names:
                hint = f"{known[1]} is known after the call: put the condition under `after`"
            return self._refuse(what[:200], line=line, column=column, nearest=near, hint=hint)

    def _kind(self) -> str:
        """The name of the type that it has."""
        try:
            return str(self._expression.return_type().name())
        except Exception as error:  # noqa: BLE001  # of a type that the library can't name
            return _first_line(error)

    def _try_patterns(self, environment: Any) -> None:
        for node in self._bounds.patterns:
            answer = environment.compile(f"''.matches({_quoted(node.value)})").eval(data={}).value()
            if not isinstance(answer, bool):
                self.refuse_at(node, "a pattern is not one of RE2's", got=_plain(str(answer)))

    def refuse_at(self, node: Node, what: str, **data: Any) -> None:
        """Raises `PolicyError` for this part of the expression."""
        offset = self._offsets.get(node.id, 0)
        before = self.text[:offset]
        line, column = before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1
        self._refuse(what, line=line, column=column, **data)

    def _refuse(self, what: str, *, line: int = 1, column: int = 1, **data: Any) -> Any:
        place = f"line {line}, column {column} of the expression"
        raise PolicyError(what, where=place, pointer=self._pointer, **data)

    def holds(self, values: Mapping[str, Any], sizes: Mapping[str, tuple[int, int]]) -> bool:
        """Whether it is true of these values. `sizes`: of the variables that hold what was recorded, their
        bytes and how many elements they have at most. Raises `NotEvaluatedError`."""
        work = self._bounds.work_ns(sizes[name] for name in self.names if name in sizes)
        if work > MAX_WORK_NS:
            raise NotEvaluatedError("the values are too large for this expression")
        try:
            answer = self._expression.eval(data=dict(values)).value()
        except Exception as error:  # noqa: BLE001  # whatever it is, there is no answer
            raise NotEvaluatedError(_first_line(error)) from None
        if not isinstance(answer, bool):
            text = answer if isinstance(answer, str) else f"the expression gives no bool, but {answer!r}"
            raise NotEvaluatedError(_plain(text))
        return answer


class _Bounds:
    """What an expression may do, and what that can cost."""

    def __init__(self, root: Node, condition: Condition) -> None:
        self._condition = condition
        self.names: frozenset[str] = frozenset()
        self.patterns: list[Node] = []
        self._names: set[str] = set()
        self._sums = self._calls = self._heavy = self._searches = self._filters = 0
        if sum(1 for _ in root.walk()) > MAX_NODES * 3:  # a loop stands expanded
            condition.refuse_at(root, "an expression has too many parts", expected=f"at most {MAX_NODES}")
        self._visit(root, ())
        self.names = frozenset(self._names)
        if self._sums > MAX_SUMS:
            condition.refuse_at(root, "an expression has too many `+`", expected=f"at most {MAX_SUMS}")

    def work_ns(self, sizes: Iterable[tuple[int, int]]) -> float:
        """An upper bound of what evaluating takes, of values of these sizes."""
        size, elements = 0, 1
        for one, count in sizes:
            size, elements = size + one, max(elements, count)
        size *= 1 + self._sums
        rounds = min(elements, _ROUNDS)
        return (
            size * _NS_PER_BYTE * (1 + self._calls)
            + self._heavy * rounds * size * _NS_PER_BYTE
            + self._searches * size * size / 64
            + self._filters * rounds * rounds * _NS_PER_FILTERED
        )

    def _visit(self, node: Node, loops: tuple[str, ...]) -> None:
        check = getattr(self, f"_{node.what}", None)
        if check is None or check(node, loops) is not False:
            for part in node.parts:
                self._visit(part, loops)

    def _ident(self, node: Node, loops: tuple[str, ...]) -> None:
        if node.name not in loops:
            self._names.add(node.name)

    def _select(self, node: Node, loops: tuple[str, ...]) -> None:
        inner = node.parts[0]
        known = FIELDS.get(inner.name) if inner.what == "ident" and inner.name not in loops else None
        if known is not None and node.name not in known:
            self._condition.refuse_at(
                node,
                f"{inner.name} has no field {node.name!r}",
                expected=", ".join(known),
                nearest=_nearest(node.name, known),
            )

    def _struct(self, node: Node, loops: tuple[str, ...]) -> None:
        if node.name:
            self._condition.refuse_at(node, "messages can't be made in a condition", got=node.name)
        self._list(node, loops)

    def _list(self, node: Node, loops: tuple[str, ...]) -> None:
        if loops and any(part.what != "const" for part in node.parts):
            self._condition.refuse_at(node, "inside a loop, a list or map holds constants alone")

    def _call(self, node: Node, loops: tuple[str, ...]) -> None:
        if node.name == "_+_":
            self._sums += 1
            if loops:
                self._condition.refuse_at(node, "inside a loop there is no `+`: texts could grow")
            return
        if node.name == "matches":
            pattern = node.parts[-1]
            if pattern.what != "const" or not isinstance(pattern.value, str):
                self._condition.refuse_at(node, "the pattern of matches() is a text in quotes")
            self.patterns.append(pattern)
        elif node.name in _OPERATORS:
            return
        elif node.name == "contains" and node.parts[-1].what != "const":
            self._searches += 1
            if loops:
                self._condition.refuse_at(node, "inside a loop, contains() takes a text in quotes")
        elif node.name != "contains" and any(part.what == "const" for part in node.parts):
            return  # compared with a constant: at once
        self._calls += 1
        if loops:
            outer = {one.name for one in node.walk() if one.what == "ident"} - {loops[-1]}
            self._heavy += bool(outer) or len(loops) > 1

    def _comprehension(self, node: Node, loops: tuple[str, ...]) -> bool:
        """Looks at what the macro was given; what it is made of is the library's."""
        if len(loops) >= MAX_NESTING:
            self._condition.refuse_at(node, f"loops are nested more than {MAX_NESTING} deep")
        around, first, _, step, _ = node.parts
        self._visit(around, loops)
        if first.what == "list":
            predicate = self._of_filter(node, step)
        else:
            predicate = step.parts[1] if step.name in ("_&&_", "_||_") else step.parts[0]
        self._visit(predicate, (*loops, node.name))
        return False

    def _of_filter(self, node: Node, step: Node) -> Node:
        if step.name == "_?_:_":
            appended = step.parts[1].parts[1].parts[0]
            if appended.what == "ident" and appended.name == node.name:
                self._filters += 1
                return step.parts[0]
        self._condition.refuse_at(node, "there is no map(): use exists, all, exists_one or filter")
        raise AssertionError  # it has raised


def _quoted(text: str) -> str:
    """A text as a CEL literal."""
    return '"' + "".join(f"\\U{ord(char):08x}" for char in text) + '"'


def _first_line(error: object) -> str:
    return _plain(str(error).strip().partition("\n")[0])


def _plain(text: str) -> str:
    """The library's message without its status codes."""
    text = re.sub(r"^[A-Z_]+: |'?UNKNOWN: | \[[A-Z_]+\]$", "", text.strip())
    return text.encode(errors="backslashreplace").decode()[:300]


def _nearest(name: str, known: Iterable[str]) -> str | None:
    from difflib import get_close_matches  # noqa: PLC0415 - start-up time: only errors need it

    return next(iter(get_close_matches(name, list(known), 1)), None)


@lru_cache(maxsize=2)
def _environment(after: bool) -> tuple[Any, tuple[str, ...]]:
    """The environment that conditions are compiled in, and the names of the types that they may have."""
    try:
        from cel_expr_python import cel  # noqa: PLC0415 - an optional extra, loaded where a rule needs it
    except ImportError as error:
        raise PolicyError(
            "conditions need the library cel-expr-python",
            hint="pip install 'isotrace[policy]'",
            got=str(error),
        ) from error
    types = {
        "map": cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
        "string": cel.Type.STRING,
        "int": cel.Type.INT,
        "any": cel.Type.DYN,
    }
    variables = {name: types[kind] for name, kind in (AFTER if after else BEFORE).items()}
    answers = (cel.Type.BOOL.name(), cel.Type.DYN.name())
    return cel.NewEnv(variables=variables), answers
