"""What `@skill` knows of a function: its name and effect, how to bind a call, what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from types import CodeType
from typing import Any, Literal, get_args

from isotrace.errors import UsageError
from isotrace.record.annotations import return_annotation
from isotrace.record.binding import make_binder

Effect = Literal["pure", "read", "idempotent_write", "write"]
EFFECTS: tuple[str, ...] = get_args(Effect)

OPTIONS = ("name", "kind", "effect", "raises", "retries", "retry_on", "backoff_s")
"""The keywords of `@skill`."""

Shape = Literal["call", "acall", "stream", "astream"]


def shape_of(function: Callable[..., Any]) -> Shape:
    """How calls of this function behave: plain, awaited, iterated, or asynchronously iterated."""
    # An object with `__call__` behaves as that does.
    called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004  # to look into it
    for probe in (function, called):
        if inspect.isasyncgenfunction(probe):
            return "astream"
        if inspect.iscoroutinefunction(probe) or _is_old_coroutine(probe):
            return "acall"
        if inspect.isgeneratorfunction(probe):
            return "stream"
    return "call"


def _is_old_coroutine(function: Any) -> bool:
    """Whether this is a generator function that `types.coroutine` has made a coroutine function."""
    code = getattr(function, "__code__", None)
    return isinstance(code, CodeType) and bool(code.co_flags & inspect.CO_ITERABLE_COROUTINE)


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
        where = place_of(function)
        if effect not in EFFECTS:
            raise UsageError(
                "unknown effect of a skill",
                where=where,
                expected=", ".join(EFFECTS),
                got=effect,
                nearest=_nearest(effect, EFFECTS),
            )
        if not isinstance(retries, int) or retries < 0:
            raise UsageError("retries of a skill", where=where, expected="0 or more", got=retries)
        if not backoff_s >= 0:
            raise UsageError("backoff_s of a skill", where=where, expected="0 or more seconds", got=backoff_s)
        self.function = function
        self.name = checked_text("name of a skill", name or _name_of(function), where=where)
        self.kind = checked_text("kind of a skill", kind, where=where)
        self.effect = effect
        self.raises = raises
        self.retries = retries
        self.retry_on = retry_on
        self.backoff_s = backoff_s
        self.shape = shape_of(function)
        self.bind = make_binder(function, method=method)
        self._first = 1 if method else 0
        self.facts = {"kind": self.kind, "skill_name": self.name, "effect": effect}

    def params(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The call's arguments by name. As they are, where the signature does not take them: the call
        is made all the same, and the function says so itself."""
        try:
            return self.bind(*args, **kwargs)
        except TypeError:
            return {"args": list(args[self._first :]), "kwargs": kwargs}

    @property
    def streams(self) -> bool:
        """Whether calls give a generator."""
        return self.shape in ("stream", "astream")

    @cached_property
    def annotation(self) -> Any:
        """The return annotation (a stream's item type), or None where there is none to go by."""
        return return_annotation(self.function)

    @cached_property
    def annotated(self) -> bool:
        """Whether the annotation names a type that plain JSON does not have."""
        return self.annotation is not None and self.annotation not in _PLAIN


_PLAIN = (dict, list, str, int, float, bool, type(None), object, Any)


def _name_of(function: Callable[..., Any]) -> str:
    """The function's own name; that of what a partial wraps; the class's of an object that is called."""
    inner = getattr(function, "func", function)
    return getattr(inner, "__name__", None) or type(inner).__name__


def place_of(function: Any) -> str:
    """Where a function is defined, for errors: module and qualified name."""
    # A `staticmethod` is no function, and what a partial wraps has the names.
    inner = getattr(function, "func", function)
    names = getattr(inner, "__module__", None), getattr(inner, "__qualname__", type(inner).__qualname__)
    return ".".join(str(name) for name in names if name)


def check_options(function: Any, options: Iterable[str]) -> None:
    """Raises `UsageError` for an option that `@skill` does not have."""
    for name in options:
        if name not in OPTIONS:
            raise UsageError(
                "a skill has no such option",
                where=place_of(function),
                expected=", ".join(OPTIONS),
                got=name,
                nearest=_nearest(name, OPTIONS),
            )


def _nearest(name: Any, known: Sequence[str]) -> str | None:
    from difflib import get_close_matches  # noqa: PLC0415 - start-up time: only errors need it

    return next(iter(get_close_matches(str(name), known, 1)), None)


def checked_text(what: str, text: str, *, where: str | None = None) -> str:
    """A name as it can stand in a record. Raises `UsageError` for what is no text, or none in Unicode."""
    if not isinstance(text, str) or not text:
        raise UsageError(f"{what} is a text", where=where, got=repr(text))
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{what} holds a lone surrogate", where=where, got=ascii(text)) from error
    return str.__str__(text)
