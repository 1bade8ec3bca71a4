"""Fresh UUIDs of `uuid_utils`, which makes them in Rust: langchain and langsmith take theirs from it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from isotrace.record.capture.about import About
from isotrace.record.patches import patch
from isotrace.record.sources.noted import UUID, noted

ABOUT = About(
    libraries="`uuid_utils`",
    versions="0.10 to 0.19",
    steps=(("`uuid1`, `uuid4`, `uuid6`, `uuid7`, also of `uuid_utils.compat`", "noted", "the recorded ids"),),
    not_captured=("Functions that were imported by name before isotrace was.",),
)

_NAMES = ("uuid1", "uuid4", "uuid6", "uuid7")


def install(module: Any) -> list[Callable[[], None]]:
    """Puts itself in place on `uuid_utils`, or on its `compat`; gives the ways back."""
    return [patch(module, name, partial(_noting, module.UUID)) for name in _NAMES]


def _noting(kind: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    def fresh(*args: Any, **kwargs: Any) -> Any:
        made: list[Any] = []

        def make() -> str:
            made.append(plain(*args, **kwargs))
            return str(made[0].hex)

        hex_digits: str = noted(UUID, make)
        return made[0] if made else kind(hex=hex_digits)

    return fresh
