"""The first difference of two stored runs, without reading their steps."""

from __future__ import annotations

from collections.abc import Callable

from isotrace.errors import SchemeMismatchError


def first_path_difference(
    length_a: int,
    length_b: int,
    path_a: Callable[[int], bytes | None],
    path_b: Callable[[int], bytes | None],
    *,
    schemes: tuple[str, str] | None = None,
) -> int | None:
    """The smallest k at which the steps k differ, or the shorter length; None for equal paths.

    `path_a(k)` is the path after the run's first k steps, 0 <= k <= `length_a`; None, where erased
    content breaks it, equals nothing. A path covers all steps before it, so equality can't come
    back once it is lost, and about log2(length) pairs of paths are looked at. `schemes` are the
    hash schemes of both runs, where they are known.

    Raises `SchemeMismatchError` for two different schemes.
    """
    if schemes is not None and schemes[0] != schemes[1]:
        raise SchemeMismatchError(
            "paths of two hash schemes can't be compared", expected=schemes[0], got=schemes[1]
        )

    def alike(k: int) -> bool:
        path = path_a(k)
        return path is not None and path == path_b(k)

    shorter = min(length_a, length_b)
    if alike(shorter):
        return None if length_a == length_b else shorter
    # Invariant: the paths after `same` steps are equal, those after `other` steps are not.
    same, other = 0, shorter
    while other - same > 1:
        middle = (same + other) // 2
        if alike(middle):
            same = middle
        else:
            other = middle
    return same
