"""`isotrace behaviours`: groups of runs, by path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isotrace.contracts import RunQuery
from isotrace.operations import Selection, behaviours, stored_behaviours
from isotrace.registry import open_store

DATA = Path(__file__).parents[2] / "../shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real runs of ../shared/data are not here")


def run_of(build: Callable[..., Any], name: str, cities: list[str], **metadata: Any) -> Any:
    run = build(name * 32, metadata=metadata)
    for city in cities:
        run.step("chat", {"about": name}, kind="llm")
        run.step("weather", {"city": city})
    return run.sealed()


@pytest.fixture
def runs(put: Callable[..., None], build: Callable[..., Any]) -> None:
    """Task x: three runs on two tool paths; task y: two on one; one alone; one without the key."""
    put(run_of(build, "1", ["Rome", "Oslo"], task="x"))
    put(run_of(build, "2", ["Rome", "Oslo"], task="x"))
    put(run_of(build, "3", ["Rome"], task="x"))
    put(run_of(build, "4", ["Bern"], task=7, model="a"))
    put(run_of(build, "5", ["Bern"], task="7", model="b"))
    put(run_of(build, "6", ["Bern"], task="z"))
    put(run_of(build, "7", [], task="z"))
    put(run_of(build, "8", ["Bern"]))


def test_groups_by_task_and_kind(isotrace: Callable[..., Any], runs: None) -> None:
    assert isotrace("behaviours", "--by", "task", "--kind", "tool", "--json").json == {
        "by": "task",
        "kinds": ["tool"],
        "groups": [
            {"key": "7", "runs": 2, "paths": 1, "first_divergence": None, "variants": [["5" * 32, "4" * 32]]},
            {"key": "13", "runs": 2, "paths": 2, "first_divergence": 1, "variants": [["a" * 32], ["b" * 32]]},
            {
                "key": "x",
                "runs": 3,
                "paths": 2,
                "first_divergence": 1,
                "variants": [["2" * 32, "1" * 32], ["3" * 32]],
            },
        ],
        "identical": 1,
        "paths": {"1": 1, "2": 2},
        "first_divergence": {"1": 2},
        "median_first_divergence": 1,
        "left_out": {
            "without task": 1,
            "without a compared step": 1,
            "in groups of another size": 1,
        },
    }


def test_without_kinds_every_step_counts(isotrace: Callable[..., Any], runs: None) -> None:
    groups = isotrace("behaviours", "--by", "task", "--json").json["groups"]
    assert [(group["key"], group["paths"], group["first_divergence"]) for group in groups] == [
        ("7", 2, 0),
        ("13", 2, 2),
        ("x", 3, 0),
    ]


def test_selection_restricts_and_groups_have_a_size(isotrace: Callable[..., Any], runs: None) -> None:
    def keys(*options: str) -> list[str]:
        found = isotrace("behaviours", "--by", "task", "--json", *options).json
        return [group["key"] for group in found["groups"]]

    assert keys("--runs", "3") == ["x"]
    assert keys("--meta", "task=7") == ["7"]
    assert keys("--meta", "model=a", "--meta", "model=b") == ["7"]
    assert keys("--meta", "model=a") == []


def test_table_for_people(isotrace: Callable[..., Any], runs: None) -> None:
    said = isotrace("behaviours", "--by", "task", "--kind", "tool", columns=70)
    assert said.code == 0
    assert said.out == (
        "TASK  RUNS  PATHS  FIRST DIVERGENCE\n"
        "7        2    ✓ 1\n"
        "13       2      2  at step 1\n"
        "x        3      2  at step 1\n"
        "\n"
        "1 of 3 groups took one path in all their runs (tool steps)\n"
        "  paths in a group: 1 (1 group), 2 (2 groups)\n"
        "  first divergence at step: 1 (2 groups); median 1\n"
        "  runs left out: 1 without task, 1 without a compared step, 1 in groups of another size\n"
    )


def test_nothing_to_group_says_so(isotrace: Callable[..., Any]) -> None:
    said = isotrace("behaviours", "--by", "nothing")
    assert said.code == 0
    assert said.out.startswith("no group of two or more runs to compare\n")


def test_records_and_names_give_what_the_store_gives(runs: None, store_url: str) -> None:
    store = open_store(store_url)
    listed = store.query(RunQuery(limit=100)).runs
    names = [item.summary.run_id for item in listed]
    records = [store.ledger(name, tenant_id="default").record() for name in names]
    stored = stored_behaviours(store, Selection(limit=None), by="task", kinds=["tool"])
    assert behaviours(records, by="task", kinds=["tool"]) == stored
    assert behaviours(names, by="task", kinds=["tool"], store=store) == stored
    assert behaviours([*names[:3], *records[3:]], by="task", kinds=["tool"], store=store_url) == stored
    store.close()


def test_all_runs_together(runs: None) -> None:
    found = behaviours(["1" * 32, "2" * 32, "3" * 32], kinds=["tool"])
    assert [(group.key, group.paths, group.first_divergence) for group in found.groups] == [
        ("all runs", 2, 1)
    ]
    assert found.identical == 0


def test_erased_steps_are_no_equal_steps(runs: None, isotrace: Callable[..., Any]) -> None:
    for name in "45":
        assert isotrace("erase", name * 32, "--step", "1", "--reason", "x", "--yes").code == 0
    found = isotrace("behaviours", "--by", "task", "--meta", "task=7", "--json").json
    assert (found["groups"], found["left_out"]) == ([], {"with erased steps": 2})


@needs_data
def test_trials_of_telecom_tasks(isotrace: Callable[..., Any]) -> None:
    file = DATA / "tau2/telecom_no-user_gpt-4.1_4trials_5tasks.json.gz"
    imported = isotrace("import", "tau2", str(file), "--json").json
    assert (imported["runs"], imported["errors"]) == (20, [])
    found = isotrace(
        "behaviours", "--by", "task", "--kind", "tool", "--meta", "source=tau2-bench", "--json"
    ).json
    assert found["identical"] == 4
    assert len(found["groups"]) == 5
    assert found["paths"] == {"1": 4, "2": 1}
    assert found["first_divergence"] == {"4": 1}


@needs_data
@pytest.mark.slow
def test_measured_behaviour_of_tau_bench(isotrace: Callable[..., Any]) -> None:
    assert isotrace("import", "tau-bench", str(DATA / "tau_bench_retail")).code == 0

    def compared(labels: list[str]) -> Any:
        chosen = [word for label in labels for word in ("--meta", f"label=tool-calling-{label}")]
        size = str(len(labels))
        return isotrace(
            "behaviours", "--by", "task", "--kind", "tool", "--runs", size, *chosen, "--json"
        ).json

    two = compared(["l0-4o", "l0-4.1"])
    assert (len(two["groups"]), two["identical"], two["median_first_divergence"]) == (114, 14, 3)
    six = compared([f"l{level}-{model}" for level in "012" for model in ("4o", "4.1")])
    assert (len(six["groups"]), six["identical"], six["median_first_divergence"]) == (110, 0, 1)
    assert six["paths"] == {"2": 4, "3": 5, "4": 9, "5": 28, "6": 64}


@needs_data
@pytest.mark.slow
def test_measured_behaviour_of_mini_swe_agent(isotrace: Callable[..., Any]) -> None:
    assert isotrace("import", "mini-swe-agent", str(DATA / "mini_swe_agent")).code == 0

    def compared(*trials: str) -> Any:
        chosen = [word for trial in trials for word in ("--meta", f"trial={trial}")]
        size = str(len(trials))
        return isotrace(
            "behaviours", "--by", "task", "--kind", "tool", "--runs", size, *chosen, "--json"
        ).json

    two = compared("deepseek_chat_dev_rerun", "deepseek_lite_dev")
    assert (len(two["groups"]), two["identical"]) == (12, 0)
    assert two["first_divergence"] == {"0": 4, "1": 3, "2": 4, "3": 1}
    three = compared("deepseek_chat_dev", "deepseek_chat_dev_rerun", "deepseek_lite_dev")
    assert (len(three["groups"]), three["identical"]) == (12, 0)
    assert three["first_divergence"] == {"0": 5, "1": 2, "2": 4, "3": 1}
