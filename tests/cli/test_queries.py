"""The terms of a query: what people write to say which runs they mean."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from isotrace.contracts import RunQuery
from isotrace.errors import UsageError
from isotrace.operations import Selection, select

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


def test_each_term_means_what_its_option_means() -> None:
    text = (
        "agent=support status=failed skill=refund correlation=c signature=aa root=bb since=2d"
        " until=2026-03-04 min-cost=0.5 max-cost=9 violations=yes limit=7 task=13 model='gpt 4'"
    )
    assert select(text, tenant_id="acme", now=NOW) == Selection(
        RunQuery(
            tenant_id="acme",
            since=datetime(2026, 3, 2, 12, tzinfo=UTC),
            until=datetime(2026, 3, 4, tzinfo=UTC),
            min_cost_cents=0.5,
            max_cost_cents=9.0,
            violation=True,
        ),
        {"task": ["13"], "model": ["gpt 4"]},
        7,
        {
            "agent_id": ["support"],
            "status": ["failed"],
            "skill": ["refund"],
            "correlation_id": ["c"],
            "signature": ["aa"],
            "root_hash": ["bb"],
        },
    )


def test_same_key_again_means_any_of_them_and_other_keys_all() -> None:
    queries = select("agent=a agent=b task=1 task=2 task=1 policy=p").queries()
    assert [(one.agent_id, dict(one.metadata), one.violation) for one in queries] == [
        ("a", {"task": "1"}, "p"),
        ("a", {"task": "2"}, "p"),
        ("b", {"task": "1"}, "p"),
        ("b", {"task": "2"}, "p"),
    ]


def test_no_term_means_all_runs_and_a_value_may_hold_an_equals_sign() -> None:
    assert select("") == Selection(RunQuery(), {}, None)
    assert select(["note=a=b"]).metadata == {"note": ["a=b"]}


def test_metadata_beside_the_terms_may_be_named_like_a_field() -> None:
    found = select("agent=x task=2", metadata={"agent": ["y"], "task": ["1"]})
    assert (found.fields, found.metadata) == ({"agent_id": ["x"]}, {"agent": ["y"], "task": ["1", "2"]})


@pytest.mark.parametrize(
    ("text", "said", "expected"),
    [
        ("support", "'support' is not a term of a query", "KEY is one of agent, status, skill"),
        ("=x", "'=x' is not a term", "or a metadata key such as task"),
        ("task='x", "can't be taken apart", "KEY=VALUE"),
        ("status=done", "'done' is no status", "running, completed, failed, aborted"),
        ("since=soon", "'soon' is not a time", "2h, 7d"),
        ("since=1d since=2d", "since can be given once", ""),
        ("min-cost=nan", "is no cost", "a number of cents"),
        ("violations=some", "neither yes nor no", "yes or no"),
        ("limit=0", "is no number of runs", "from 1 on"),
        ("limit=²", "is no number of runs", "from 1 on"),
        ("violations=no policy=p", "has violated no policy", ""),
    ],
)
def test_wrong_term_is_an_error_that_lists_the_good_ones(text: str, said: str, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        select(text, now=NOW)
    assert said in str(caught.value)
    assert expected in str(caught.value)


def test_too_many_combinations_are_refused() -> None:
    terms = [f"{key}={value}" for key in "abc" for value in range(11)]
    with pytest.raises(UsageError, match="too many combinations"):
        select(terms).queries()


def test_run_that_two_values_fit_is_listed_once(isotrace: Any) -> None:
    listed = isotrace("ls", "skill=chat", "skill=refund", "task=13", "task=13.0", "--json").json
    assert [run["run_id"] for run in listed] == ["b" * 32, "a" * 32]


@pytest.mark.parametrize("words", [["agent=support"], ["--agent", "support"], ["skill=chat", "--limit", "2"]])
def test_terms_stand_beside_options(isotrace: Any, words: list[str]) -> None:
    assert len(isotrace("ls", *words, "--json").json) == 2
    assert isotrace("ls", *words, "task=14", "--json").json == []


def test_wrong_term_on_the_command_line_exits_2(isotrace: Any) -> None:
    said = isotrace("ls", "support")
    assert said.code == 2
    assert "expected KEY=VALUE, where KEY is one of agent, status" in said.err
