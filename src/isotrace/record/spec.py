"""What `@skill` knows of a function: its name and effect, how to bind a call, what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal, get_args

import orjson

from isotrace.errors import UsageError
from isotrace.record.binding import make_binder
from isotrace.record.annotations import return_annotation

Effect = Literal["pure", "read", "idempotent_write", "write"]
EFFECTS: tuple[str, ...] = get_args(Effect)

Shape = Literal["call", "acall", "stream", "astream"]


def shape_of(function: Callable[..., Any]) -> Shape:
    """How calls of this function behave: plain, awaited, iterated, or asynchronously iterated."""
    if inspect.isasyncgenfunction(function):
        return "astream"
    if inspect.isgeneratorfunction(function):
        return "stream"
    if inspect.iscoroutinefunction(function):
        return "acall"
    return "call"


class SkillSpec:
    """One skill. Shared by all its calls, so everything that can be prepared is prepared here."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        kind: str = "tool",
        effect: str = "write",
        raises: tuple[type[BaseException], ...] = (),
        retries: int = 0,
        retry_on: tuple[type[BaseException], ...] = (Exception,),
        backoff_s: float = 0.0,
        method: bool = False,
    ) -> None:
        if effect not in EFFECTS:
            raise UsageError("unknown effect of a skill", expected=", ".join(EFFECTS), got=effect)
        if retries < 0:
            raise UsageError("retries of a skill", expected="0 or more", got=retries)
        self.function = function
        self.name = name or function.__name__
        self.kind = kind
        self.effect = effect
        self.raises = raises
        self.retries = retries
        self.retry_on = retry_on
        self.backoff_s = backoff_s
        self.shape = shape_of(function)
        self.bind = make_binder(function, method=method)
        facts = {"kind": kind, "skill_name": self.name, "effect": effect}
        # Precomputed for the journal: `"kind":…,"skill_name":…,"effect":…` without the braces.
        self.facts_json = orjson.dumps(facts)[1:-1]
        self.restore_checks = 0

    @cached_property
    def annotation(self) -> Any:
        """The return annotation (a stream's item type), or None where there is none to go by."""
        return return_annotation(self.function)
