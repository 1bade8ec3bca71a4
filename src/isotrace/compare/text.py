"""Common forms of texts, for comparing what differs only in ways that one does not mind.

Every pattern takes time linear in the text: no repetition inside another one, and none whose end is
looked for more than once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Final

_TIME = re.compile(
    r"\b\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?(?: ?(?:Z|UTC|[+-]\d{2}:?\d{2}))?)?"
    r"|\b\d{1,2}:\d{2}:\d{2}(?:[.,]\d{1,9})?",
    re.ASCII,
)
_UUID = re.compile(
    r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b|\b[0-9a-f]{32}\b",
    re.ASCII | re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?", re.ASCII)

NORMALIZERS: Final[dict[str, Callable[[str], str]]] = {
    "uuids": lambda text: _UUID.sub("<uuid>", text),
    "timestamps": lambda text: _TIME.sub("<time>", text),
    "numbers": lambda text: _NUMBER.sub("<number>", text),
    "case": str.casefold,
    "whitespace": lambda text: " ".join(text.split()),
}
"""`uuids`: UUIDs and runs of 32 hex digits. `timestamps`: ISO 8601 dates and times of day with
seconds. `numbers`: unsigned decimal numbers. `case`: upper and lower case alike. `whitespace`: runs of it
count as one space, none at the ends. Those that are asked for apply in this order."""


def normalize_text(text: str, names: Collection[str]) -> str:
    """The text in the common form that these normalisers give, whatever the order of their names."""
    for name, change in NORMALIZERS.items():
        if name in names:
            text = change(text)
    return text
