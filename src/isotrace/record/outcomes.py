"""What an exception becomes in a record: a category, a code, and enough to raise it again.

The categories are a closed vocabulary, because the step's hash sees them. The code is the class's
`__qualname__` or the HTTP status; never a module path or a message, which differ between versions.
"""

from __future__ import annotations

import asyncio
import builtins
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from isotrace.errors import PolicyViolation, RecordedError, RestoreError
from isotrace.plain import from_plain
from isotrace.plain.conversion import OBJECT_TAG
from isotrace.record.snapshot import snapshot

SUCCESS = "SUCCESS"
CANCELLED = "CANCELLED"

_BY_STATUS = {
    400: "VALIDATION",
    401: "PERMISSION",
    403: "PERMISSION",
    408: "TRANSIENT",
    409: "TRANSIENT",
    413: "RESOURCE",
    422: "VALIDATION",
    429: "TRANSIENT",
    499: CANCELLED,
}

_BY_NAME: tuple[tuple[str, re.Pattern[str]], ...] = (
    (CANCELLED, re.compile(r"Cancel|AbortError|KeyboardInterrupt|GeneratorExit")),
    (
        "TRANSIENT",
        re.compile(r"Timeout|DeadlineExceeded|RateLimit|Overloaded|Connect|Unavailable|BrokenPipe"),
    ),
    ("VALIDATION", re.compile(r"Validation|BadRequest|Unprocessable|Invalid")),
    ("PERMISSION", re.compile(r"Authentication|Unauthorized|Permission|Forbidden")),
    ("RESOURCE", re.compile(r"Quota|Budget|UsageLimit|ContextLength|MemoryError|ResourceExhausted")),
    ("POLICY", re.compile(r"Guardrail|ContentFilter|Moderation|PolicyViolation")),
)

_MESSAGE_LIMIT = 10_000

_GROUP_SIZE = 16
_GROUP_DEPTH = 4


def _as_it_is(text: str) -> str:
    return text


def http_status(error: BaseException) -> int | None:
    """The HTTP status that an error of a client library carries, if it carries one."""
    for holder in (error, _read(error, "response")):
        status = _read(holder, "status_code") or _read(holder, "status")
        if type(status) is int and 100 <= status <= 599:
            return status
    return None


def _read(holder: Any, name: str) -> Any:
    """An attribute of somebody's error, which may be a property that raises."""
    try:
        return getattr(holder, name, None)
    except Exception:  # noqa: BLE001  # whatever it raises, the agent must see the error itself
        return None


def classify(error: BaseException) -> tuple[str, str]:
    """`(outcome_category, outcome_code)` of an exception."""
    name = type(error).__qualname__.encode(errors="replace").decode()
    if isinstance(error, RecordedError) and error.code:
        name = error.code
    status = http_status(error)
    if status is not None and status >= 400:
        return status_outcome(status)
    for category, pattern in _BY_NAME:
        if pattern.search(name):
            return category, name
    return "PERMANENT", name


def status_outcome(status: int) -> tuple[str, str]:
    """`(outcome_category, outcome_code)` of a call that failed with this HTTP status."""
    return _BY_STATUS.get(status, "TRANSIENT" if status >= 500 else "PERMANENT"), str(status)


def error_value(error: BaseException | None, redacted: Callable[[str], str] = _as_it_is) -> dict[str, Any]:
    """An exception as a value to snapshot: its type, its message (texts that UTF-8 can hold, lone surrogates
    as `\\udXXX`), and its arguments as they are where they are few; of a group, its exceptions where they are
    few and not nested deeply. Messages are `redacted` before they are cut: half a secret is not found any
    more."""
    return _error_value(error, _GROUP_DEPTH, redacted)


def _error_value(error: BaseException | None, depth: int, redacted: Callable[[str], str]) -> dict[str, Any]:
    message = _message(error)
    value: dict[str, Any] = {
        "type": _unicode(type(error).__qualname__),
        "message": redacted(_unicode(message))[:_MESSAGE_LIMIT],
    }
    if isinstance(error, BaseExceptionGroup):
        if depth and len(error.exceptions) <= _GROUP_SIZE:
            value["message"] = redacted(_unicode(error.message))[:_MESSAGE_LIMIT]
            value["exceptions"] = [_error_value(one, depth - 1, redacted) for one in error.exceptions]
        return value
    args = _read(error, "args")
    if isinstance(args, tuple) and len(message) <= _MESSAGE_LIMIT and len(args) <= 8:
        value["args"] = list(args)
    return value


def _message(error: BaseException | None) -> str:
    try:
        if _is_too_large(_read(error, "args")):
            return "<the error's arguments are too large to be written here>"
        return str.__str__(str(error))
    except Exception:  # noqa: BLE001  # its own code can raise anything
        return "<the error's text could not be read>"


def _is_too_large(args: Any) -> bool:
    """Whether Python's text of these arguments could be too long to ever be written: values that share
    parts are written once for each place."""
    if not isinstance(args, tuple) or all(type(arg) in _SCALARS for arg in args):
        return False
    kept = snapshot(list(args))
    return len(kept.data) > _MESSAGE_LIMIT or any(not loss.startswith("object") for loss in kept.losses)


_SCALARS = (str, int, float, bool, bytes, type(None))


def _unicode(text: str) -> str:
    """A text that people read, and that every reader of JSON takes."""
    return text.encode(errors="backslashreplace").decode()


def rebuild_error(value: Any, code: str | None, raises: tuple[type[BaseException], ...]) -> BaseException:
    """The exception to raise where a step failed on record.

    A builtin by its own class, a class listed in `@skill(raises=…)` likewise, anything else as
    `RecordedError` with the recorded code. No class is looked up in any module. A group holds what its
    exceptions come back as.
    """
    value = value if isinstance(value, dict) else {}
    name = value.get("type") or code or "Exception"
    message = str(value.get("message", ""))
    inner = value.get("exceptions")
    if name in ("ExceptionGroup", "BaseExceptionGroup") and isinstance(inner, list) and inner:
        return BaseExceptionGroup(message, [rebuild_error(one, None, raises) for one in inner])
    if name == "PolicyViolation":
        return PolicyViolation(message)
    known = next((cls for cls in raises if cls.__qualname__ == name), None) or _builtin(name)
    error = _made(known, _args(value, message)) if known is not None else None
    return error or RecordedError(message or name, code=code or name)


def _args(value: dict[str, Any], message: str) -> tuple[Any, ...]:
    """The error's arguments; its message where one of them could not be kept."""
    args = value.get("args")
    if not isinstance(args, list) or OBJECT_TAG in str(args):
        return (message,)
    try:
        return tuple(from_plain(args))
    except RestoreError:
        return (message,)


def _made(cls: type[BaseException], args: tuple[Any, ...]) -> BaseException | None:
    for make in (cls, partial(cls.__new__, cls)):
        # A constructor may want more than it keeps in `args`.
        with suppress(Exception):
            error: BaseException = make(*args)
            error.args = args
            return error
    return None


def _builtin(name: str) -> type[BaseException] | None:
    if name == "CancelledError":
        return asyncio.CancelledError
    found = getattr(builtins, name, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None
