"""What a call of a model used."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from isotrace.models.fields import Fields


@dataclass(frozen=True, slots=True)
class Usage:
    """The model that answered, and the tokens that its provider counted; None where it says nothing.

    `input_tokens` are all that it was sent, with `cached_tokens` (read from a cache) and
    `cache_write_tokens` among them; `output_tokens` are all that it gave, with `reasoning_tokens` among
    them. `prices` is the list that the step's cost was computed by, `unpriced` says why that list gave
    none; both are None where the cost was stated by the provider, or by nobody.
    """

    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    prices: str | None = None
    unpriced: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data; the fields that are known."""
        pairs = ((one.name, getattr(self, one.name)) for one in fields(self))
        return {name: value for name, value in pairs if value is not None}

    @classmethod
    def from_dict(cls, data: Any, *, pointer: str = "") -> Usage:
        """The inverse of `to_dict`. Raises `FieldError`."""
        known = Fields(data, pointer)
        return cls(
            model=known.text_or_none("model"),
            input_tokens=known.whole_or_none("input_tokens"),
            output_tokens=known.whole_or_none("output_tokens"),
            cached_tokens=known.whole_or_none("cached_tokens"),
            cache_write_tokens=known.whole_or_none("cache_write_tokens"),
            reasoning_tokens=known.whole_or_none("reasoning_tokens"),
            prices=known.text_or_none("prices"),
            unpriced=known.text_or_none("unpriced"),
        )
