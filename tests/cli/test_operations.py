"""What the commands are made of, called directly."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import isotrace
from isotrace.contracts import RunQuery
from isotrace.errors import QueryError, StoreUnavailableError, UsageError
from isotrace.operations import Selection, key_values, list_runs, moment, open_store
from isotrace.operations.opening import store_file
from isotrace.record.home import journal_folder

NOW = datetime(2026, 11, 22, 13, 0, tzinfo=UTC)
RUN_A, RUN_B = "a" * 32, "b" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-21", datetime(2026, 11, 21, tzinfo=UTC)),
        ("2026-11-21T10:30", datetime(2026, 11, 21, 10, 30, tzinfo=UTC)),
        ("2026-11-21T10:30:00+02:00", datetime(2026, 11, 21, 8, 30, tzinfo=UTC)),
        ("90s", datetime(2026, 11, 22, 12, 58, 30, tzinfo=UTC)),
        ("2h", datetime(2026, 11, 22, 11, 0, tzinfo=UTC)),
        ("7d", datetime(2026, 11, 15, 13, 0, tzinfo=UTC)),
        ("1w", datetime(2026, 11, 15, 13, 0, tzinfo=UTC)),
    ],
)
def test_moment(text: str, expected: datetime) -> None:
    assert moment(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "7", "d", "-1d", "2026-13-01", "9" * 30 + "d"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a time"):
        moment(text, NOW)


def test_key_values_keep_every_value_of_a_key() -> None:
    assert key_values(["a=1", "b=", "a=x=y"]) == {"a": ["1", "x=y"], "b": [""]}
    with pytest.raises(UsageError):
        key_values(["=1"])


def test_selection_of_several_values_is_one_query_each() -> None:
    selection = Selection(RunQuery(agent_id="x"), {"task": ["1", "2", "1"], "model": ["a"]})
    assert [dict(query.metadata) for query in selection.queries()] == [
        {"task": "1", "model": "a"},
        {"task": "2", "model": "a"},
    ]


def test_limits_beyond_a_page_are_paged(
    put: Callable[..., None], build: Callable[..., Any], store_url: str
) -> None:
    store = open_store(store_url)
    for number in range(1005):
        store.put(build(f"{number:032x}").sealed())
    runs = list_runs(store, Selection(limit=None))
    assert len({item.summary.run_id for item in runs}) == 1007
    assert runs[0].summary.run_id == f"{1004:032x}"
    assert len(list_runs(store, Selection(limit=1003))) == 1003
    with pytest.raises(QueryError):
        list_runs(store, Selection(limit=0))
    store.close()


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("runs/traces.db", Path("runs/traces.db")),
        ("sqlite:///runs/traces.db", Path("runs/traces.db")),
        ("sqlite:////srv/traces.db", Path("/srv/traces.db")),
        ("memory:", None),
        ("postgresql://host/db", None),
    ],
)
def test_file_of_a_store(url: str, file: Path | None) -> None:
    assert store_file(url) == file


def test_journals_stand_beside_the_file_however_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = tmp_path / "runs/journals"
    assert journal_folder("runs/traces.db") == expected
    assert journal_folder("sqlite:///runs/traces.db") == expected
    assert journal_folder(f"sqlite:///{tmp_path}/runs/traces.db") == expected


def test_store_is_made_only_where_that_was_asked_for(tmp_path: Path) -> None:
    url = str(tmp_path / "new.db")
    with pytest.raises(StoreUnavailableError):
        open_store(url)
    assert not Path(url).exists()
    open_store(url, create=True).close()
    assert Path(url).exists()


def test_public_diff_takes_names_and_records(store_url: str) -> None:
    store = open_store(store_url)
    record = store.ledger(RUN_A, tenant_id="default").record()
    found = isotrace.diff(record, "bbb")
    assert str(found.verdict) == "DIVERGED"
    assert found.to_dict() == isotrace.diff("aaa", "@last", store=store).to_dict()
    assert str(isotrace.diff("aaa", "bbb", level="skeleton", store=store_url).verdict) == "MATCH"
    store.close()
