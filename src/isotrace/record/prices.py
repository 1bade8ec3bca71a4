"""What an answer cost, by the price list of genai-prices, where that is installed.

The list is the one that came with the package: nothing is asked of the network, and updates of it that the
program itself may have set up are not looked at, so that the list's version says which prices these are.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

from isotrace.models.usage import Usage

_LIBRARY: Final = "genai-prices"
_MAX_CENTS: Final = 1e12


class Price(NamedTuple):
    """`cents` by the list `source`; None, and `problem` says why."""

    cents: float | None
    source: str
    problem: str | None = None


class _List(NamedTuple):
    """A price list at hand."""

    source: str
    snapshot: Any
    usage: Any


@lru_cache(maxsize=1)
def _prices() -> _List | None:
    """The price list, None where there is none."""
    # An optional extra, and slow to load: only where there is something to be priced.
    try:
        import genai_prices  # noqa: PLC0415  # as said
        from genai_prices.data import providers  # noqa: PLC0415  # as said
        from genai_prices.data_snapshot import DataSnapshot  # noqa: PLC0415  # as said
    except Exception:  # noqa: BLE001  # absent, or of a version that is built otherwise: there are no prices
        return None
    snapshot = DataSnapshot(providers=providers, from_auto_update=False)
    return _List(f"{_LIBRARY} {genai_prices.__version__}", snapshot, genai_prices.Usage)


def price_of(usage: Usage, when: datetime, url: str | None = None) -> Price | None:
    """What this usage cost at that time, at the provider whose `url` it is, or else the one that has a model
    of this name. None where no list is installed, or no token was counted. Never raises."""
    if usage.model is None or (usage.input_tokens is None and usage.output_tokens is None):
        return None
    prices = _prices()
    if prices is None:
        return None
    counted = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cached_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
    }
    try:
        tokens = prices.usage(**{name: count for name, count in counted.items() if count})
        found = _calculated(prices.snapshot, tokens, usage.model, when, url)
        cents = round(float(found.total_price) * 100, 9)
    except LookupError:
        return Price(None, prices.source, "the list has no model of this name")
    except Exception as error:  # noqa: BLE001  # whatever it raises, the run must be sealed
        return Price(None, prices.source, f"the list can't be applied: {type(error).__name__}")
    if not 0 <= cents <= _MAX_CENTS:
        return Price(None, prices.source, "the list gives no amount that can be")
    return Price(cents, prices.source)


def _calculated(snapshot: Any, tokens: Any, model: str, when: datetime, url: str | None) -> Any:
    if url is not None:
        try:
            return snapshot.calc(tokens, model, None, url, when)
        except LookupError:
            pass  # a proxy, or a server of one's own: the name has to do
    return snapshot.calc(tokens, model, None, None, when)
