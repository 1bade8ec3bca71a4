"""The step that is measured: a search for orders, with about 1 KB of params and outcome together.

Built of what agents pass around: ids, short texts, numbers, a list of small objects. The more
values a kilobyte holds, the more there is to do for everybody who writes it down.
"""

# ruff: noqa: ARG001  # what is called takes arguments and answers at once

from __future__ import annotations

import asyncio
import json
from typing import Any

PARAMS: dict[str, Any] = {
    "query": "orders of customer 4711 that were returned since March, newest first",
    "filters": {"region": "eu-central", "status": ["open", "returned"], "total": {"min": 12.5, "max": 900.0}},
    "page": {"size": 20, "number": 3},
    "fields": ["id", "total", "currency", "items", "created"],
}

OUTCOME: dict[str, Any] = {
    "orders": [
        {
            "id": f"ord-{number:05d}",
            "total": 49.9 + number,
            "currency": "EUR",
            "items": number % 4 + 1,
            "note": "left with the neighbour",
        }
        for number in range(6)
    ],
    "next": None,
    "took_ms": 17.25,
    "cached": False,
}

SIZE = len(json.dumps(PARAMS)) + len(json.dumps(OUTCOME))


def search(query: str, filters: dict[str, Any], page: dict[str, Any], fields: list[str]) -> dict[str, Any]:
    """Answers at once: what is measured is what comes around it."""
    return OUTCOME


async def search_async(
    query: str, filters: dict[str, Any], page: dict[str, Any], fields: list[str]
) -> dict[str, Any]:
    """The same as a coroutine, which does not wait for anything either."""
    return OUTCOME


async def search_waiting(
    query: str, filters: dict[str, Any], page: dict[str, Any], fields: list[str]
) -> dict[str, Any]:
    """The same as a coroutine that waits for one turn of the event loop, as for an answer."""
    loop = asyncio.get_running_loop()
    answered = loop.create_future()
    loop.call_soon(answered.set_result, None)
    await answered
    return OUTCOME
