"""Values that must not stand in a record, known by what they are: those of variables with secret names.

A program puts them wherever it likes: into a path, a parameter of any name, a command's words. So they are
looked for by their value, whatever the place is called.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any, Final
from urllib.parse import quote, quote_plus

from isotrace.record.capture.urls import HIDDEN, is_secret_name
from isotrace.redact.forms import SECRET_TEXT

PLACEHOLDER: Final = "isotrace-placeholder"
"""The value that a replay gives to a variable whose value was withheld, where it is not set."""

_LEAST = 8
_MOST = 4096


@cache
def _values() -> tuple[str, ...]:
    """The secrets in this process's environment as it was when this was first asked, longest first."""
    found = {PLACEHOLDER}
    for name, value in os.environ.items():
        if _LEAST <= len(value) <= _MOST and (is_secret_name(name) or SECRET_TEXT.fullmatch(value)):
            found |= {value, quote(value, safe=""), quote_plus(value)}
    return tuple(sorted(found, key=lambda value: (-len(value), value)))


def forget() -> None:
    """The environment has changed."""
    _values.cache_clear()


def hidden(text: str) -> str:
    """The text with `***` in place of each known secret."""
    for value in _values():
        if value in text:
            text = text.replace(value, HIDDEN)
    return text


def hidden_value(value: Any, depth: int = 32) -> Any:
    """Plain JSON with `***` in place of known secrets, and of what stands under a secret's name."""
    match value:
        case str():
            return hidden(value)
        case dict() if depth:
            return {
                name: HIDDEN
                if isinstance(one, str) and one and isinstance(name, str) and is_secret_name(name)
                else hidden_value(one, depth - 1)
                for name, one in value.items()
            }
        case list() if depth:
            return [hidden_value(one, depth - 1) for one in value]
    return value
