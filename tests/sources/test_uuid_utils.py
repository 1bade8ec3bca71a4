"""Ids that langchain makes: by `uuid_utils`, past the standard library."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import uuid_utils
import uuid_utils.compat

from isotrace.record import instrument, skill

if TYPE_CHECKING:
    from tests.record.lab import Lab


@pytest.fixture(autouse=True)
def controlled() -> Iterator[None]:
    restore = instrument()
    yield
    restore()


@skill(effect="read")
def say(what: Any) -> None:
    """Asked with what was made."""


def test_ids_of_both_kinds_are_the_recorded_ones(lab: Lab) -> None:
    def agent() -> list[Any]:
        made = [uuid_utils.uuid7(), uuid_utils.uuid4(), uuid_utils.compat.uuid7(), uuid_utils.compat.uuid1()]
        say([str(one) for one in made])
        return made

    taken, result = lab.again(agent)
    assert (result.verdict, result.value) == ("MATCH", taken.value)
    kinds = [uuid_utils.UUID, uuid_utils.UUID, uuid.UUID, uuid.UUID]
    assert [type(one) for one in taken.value] == [type(one) for one in result.value] == kinds
