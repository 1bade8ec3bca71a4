"""Plain values as bytes: RFC 8785 canonical form, value bytes, and the strict reader of JSON.

A *plain value* is `None`, a bool, an int within ±(2^53 − 1), a finite float, a str without lone
surrogates, or a list, exact tuple or dict (str keys) of plain values. Subclasses of int, float,
str, list and dict count by their content; everything else is refused by name, with a JSON Pointer.

Each writer has two ways to the same bytes. The fast way (`fast`) is for what agents pass around;
whatever it is not sure of goes the exact way (`exact`), which is slower and bounded in every respect.
"""

from __future__ import annotations

from isotrace.canonical.exact import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_INT,
    MAX_NODES,
    canonical_bytes_exact,
    pointer_to,
)
from isotrace.canonical.fast import canonical_bytes, check, value_bytes
from isotrace.canonical.reader import parse_json

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_INT",
    "MAX_NODES",
    "canonical_bytes",
    "canonical_bytes_exact",
    "check",
    "parse_json",
    "pointer_to",
    "value_bytes",
]
