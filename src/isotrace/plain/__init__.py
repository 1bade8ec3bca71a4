"""Any Python value as plain JSON data, and back.

Recording must not fail because a param is a `datetime`, and must not call code that a caller put
in a `__repr__`. `to_plain` therefore never raises for what a value holds. What JSON has no form
for becomes an object with one reserved key:

| tag | stands for | its text |
|---|---|---|
| `$iso:int` | an int beyond ±(2^53 − 1) | decimal digits; hexadecimal with `0x` beyond 4,000 digits |
| `$iso:float` | a float | `nan`, `inf`, `-inf` |
| `$iso:str` | a str with lone surrogates | those as `\\udXXX`, a backslash doubled |
| `$iso:bytes` | bytes, bytearray, memoryview | base64 |
| `$iso:decimal` | Decimal | as `str` gives it |
| `$iso:datetime` | datetime | ISO 8601 with six digits; aware in UTC with `Z`, naive without |
| `$iso:date`, `$iso:time` | date, time | ISO 8601, a time with six digits and its offset if it has one |
| `$iso:timedelta` | timedelta | whole microseconds, decimal digits |
| `$iso:set` | set, frozenset | a list, sorted by canonical bytes |
| `$iso:dict` | a dict with keys that are no str, or that begin with `$iso:` | a list of [key, value] |
| `$iso:object` | anything else | the qualified name of its type, all that is kept of it |

Projected without a tag, so that only a type annotation brings them back: tuple and NamedTuple
(list), dataclass, attrs, msgspec and pydantic models and other mappings (dict), Enum (its value),
UUID and paths (str), subclasses of builtins, numpy and pandas scalars and arrays.
"""

from __future__ import annotations

from typing import Any

from isotrace.plain.conversion import Conversion, Loss
from isotrace.plain.reading import from_plain

__all__ = ["Conversion", "Loss", "from_plain", "to_plain", "to_plain_report"]


def to_plain(value: Any) -> Any:
    """The value as plain data that `canonical.value_bytes` accepts. Never raises for what it holds."""
    return Conversion().run(value)


def to_plain_report(value: Any) -> tuple[Any, list[Loss]]:
    """The plain value, and each part of it that could not be kept."""
    conversion = Conversion()
    return conversion.run(value), conversion.losses
