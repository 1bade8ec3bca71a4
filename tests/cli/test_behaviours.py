"""`isotrace behaviours`: groups of runs, by path."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isotrace.compare import Rules
from isotrace.contracts import RunQuery
from isotrace.errors import UsageError
from isotrace.operations import Selection, behaviours, compare_behaviours, grouping, stored_behaviours
from isotrace.population import wilson
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
            {
                "key": "7",
                "runs": 2,
                "paths": 1,
                "first_divergence": None,
                "agreement": 1.0,
                "interval": wilson(2, 2).to_dict(),
                "variants": [["5" * 32, "4" * 32]],
            },
            {
                "key": "13",
                "runs": 2,
                "paths": 2,
                "first_divergence": 1,
                "agreement": 0.0,
                "interval": wilson(1, 2).to_dict(),
                "variants": [["a" * 32], ["b" * 32]],
            },
            {
                "key": "x",
                "runs": 3,
                "paths": 2,
                "first_divergence": 1,
                "agreement": 1 / 3,
                "interval": wilson(2, 3).to_dict(),
                "variants": [["2" * 32, "1" * 32], ["3" * 32]],
            },
        ],
        "level": "decisions",
        "identical": 1,
        "agreement": 4 / 9,
        "pass_k": {},
        "unread": 0,
        "words": ["TAR@2: all of 2 runs took the same path with probability 44 % (mean over 3 groups)"],
        "paths": {"1": 1, "2": 2},
        "first_divergence": {"1": 2},
        "median_first_divergence": 1,
        "left_out": {
            "without task": 1,
            "without a compared step": 1,
            "alone in a group": 1,
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
        "TASK  RUNS  PATHS  AGREE  MOST COMMON        FIRST DIVERGENCE\n"
        "7        2    ✓ 1   100%  2 of 2 (34%-100%)\n"
        "13       2      2     0%  1 of 2 (9%-91%)    at step 1\n"
        "x        3      2    33%  2 of 3 (21%-94%)   at step 1\n"
        "\n"
        "1 of 3 groups took one path in all their runs (tool steps)\n"
        "  paths in a group: 1 (1 group), 2 (2 groups)\n"
        "  first divergence at step: 1 (2 groups); median 1\n"
        "  TAR@2: all of 2 runs took the same path with probability 44 % (mean over 3 groups)\n"
        "  runs left out: 1 without task, 1 without a compared step, 1 alone in a group\n"
    )


def test_nothing_to_group_says_why(isotrace: Callable[..., Any], runs: None) -> None:
    for words, why in (
        (["agent=nobody"], "no run fits the query: nothing to compare\n"),
        (["task=13", "--limit", "1"], "no group of two or more runs to compare\n  runs left out: 1 alone\n"),
        (
            ["--by", "nothing"],
            "no group of two or more runs to compare\n  runs left out: 10 without nothing\n",
        ),
    ):
        said = isotrace("behaviours", *words)
        assert (said.code, said.out) == (0, why)


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


def test_one_group_is_drawn_as_a_tree(isotrace: Callable[..., Any], runs: None) -> None:
    said = isotrace("behaviours", "--task", "x", "--kind", "tool", columns=80)
    assert said.code == 0
    lines = said.out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("PATH"))
    assert lines[at : at + 6] == [
        "PATH          RUNS  SHARE  SUCCESS     TIME",
        "0 weather        3   100%     100%  33.3 ms",
        "├─ 1 weather     2    67%     100%  40.0 ms",
        "└─ end here      1    33%     100%  20.0 ms",
        "",
        "Where they part",
    ]
    assert said.out.startswith("3 runs took 2 paths (tool steps)\n  2 of 3 took the same path: 67 %")


def test_branches_say_which_params_differ(isotrace: Callable[..., Any], runs: None) -> None:
    found = isotrace(
        "behaviours", "skill=weather", "task=x", "task=7", "task=z", "--kind", "tool", "--json"
    ).json
    (group,) = found["groups"]
    assert [one["runs"] for one in group["behaviours"]] == [
        ["6" * 32, "5" * 32, "4" * 32],
        ["2" * 32, "1" * 32],
        ["3" * 32],
    ]
    first, second = group["branching"]
    assert (first["index"], second["index"], second["params"]) == (0, 1, [])
    values = {"0": "Bern", "1": "Rome"}
    assert first["params"] == [{"skill": "weather", "pointer": "/city", "values": values}]
    assert (
        isotrace("behaviours", "skill=weather", "task=x", "task=7", "--kind", "tool").out.count("/city") == 1
    )


@pytest.mark.parametrize("columns", [40, 60, 80, 140])
def test_tree_fits_the_terminal_in_unicode_and_in_ascii(
    terminal: Callable[..., Any], runs: None, columns: int
) -> None:
    drawn = terminal(columns, "behaviours", "--task", "x")
    assert max(map(len, drawn.lines)) <= columns
    assert any("└─ 0 chat" in line for line in drawn.lines)
    ascii_only = terminal(columns, "behaviours", "--task", "x", env={"PYTHONIOENCODING": "ascii"})
    assert any("`- 0 chat" in line for line in ascii_only.lines)
    assert "\n".join(ascii_only.lines).isascii()


LOOKS: list[dict[str, Any]] = [
    {},
    {"kinds": ["tool"]},
    {"kinds": ["llm"]},
    {"kinds": ["llm", "tool"], "level": "skeleton"},
    {"level": "skeleton"},
    {"level": "exact"},
    {"level": "outcome"},
    {"rules": Rules.parse(ignore=["chat:/about"])},
    {"rules": Rules.parse(normalize=["case"], kinds=["tool"])},
    {"rules": Rules.parse(ignore=["weather:/city"]), "level": "exact"},
]


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: "+".join(sorted(look)) or "plain")
@pytest.mark.parametrize("by", [None, "task", "status"])
def test_stored_runs_and_records_are_one_result_however_they_are_looked_at(
    runs: None, isotrace: Callable[..., Any], store_url: str, look: dict[str, Any], by: str | None
) -> None:
    isotrace("erase", "2" * 32, "--step", "1", "--reason", "x", "--yes")
    store = open_store(store_url)
    listed = store.query(RunQuery(limit=100)).runs
    records = [store.ledger(item.summary.run_id, tenant_id="default").record() for item in listed]
    stored = stored_behaviours(store, Selection(limit=None), by=by, **look)
    assert _comparable(behaviours(records, by=by, **look)) == _comparable(stored)
    assert sum(group.runs for group in stored.groups) + sum(stored.left_out.values()) == len(records)
    store.close()


def _comparable(found: Any) -> Any:
    """Examples of several stored paths that rules make one stand in no common order."""
    groups = [
        (group.key, {(one.signature, one.steps, one.tally, frozenset(one.runs)) for one in group.behaviours})
        for group in found.groups
    ]
    return groups, found.left_out, found.outcomes, found.pass_k


def test_skeleton_and_rules_make_one_path_of_several(runs: None, store_url: str) -> None:
    store = open_store(store_url)
    tasks = Selection(limit=None, metadata={"task": ["x"]})
    assert [
        stored_behaviours(store, tasks, level=level).groups[0].paths for level in ("decisions", "skeleton")
    ] == [
        3,
        2,
    ]
    rules = Rules.parse(ignore=["chat:/about"])
    assert stored_behaviours(store, tasks, rules=rules).groups[0].counts == [2, 1]
    store.close()


def test_tolerance_is_refused(runs: None) -> None:
    with pytest.raises(UsageError, match="can't be grouped with a tolerance"):
        behaviours(["1" * 32], rules=Rules.parse(tolerance=["5%"]))


def test_rare_paths_are_counted_though_not_read(
    runs: None, isotrace: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = isotrace("behaviours", "task=x", "task=7", "--kind", "tool", "--json").json
    monkeypatch.setattr(grouping, "READ_AT_MOST", 2)
    found = isotrace("behaviours", "task=x", "task=7", "--kind", "tool", "--json").json
    assert (whole["unread"], found["unread"]) == (0, 1)
    for name in ("behaviours", "measures", "runs", "paths", "variants"):
        assert found["groups"][0][name] == whole["groups"][0][name]
    assert found["groups"][0]["tree"]["paths"] == 2
    assert (
        "of 1 rare paths the steps are not read"
        in isotrace("behaviours", "task=x", "task=7", "--kind", "tool").out
    )


def test_runs_without_a_step_count_where_success_is_told(
    put: Callable[..., None], build: Callable[..., Any], isotrace: Callable[..., Any]
) -> None:
    for name, cities, reward in [("c", ["Rome"], 1.0), ("d", ["Rome"], 1), ("e", [], 0.0), ("f", [], True)]:
        put(run_of(build, name, cities, task="p", reward=reward))
    found = isotrace("behaviours", "task=p", "--by", "task", "--json").json
    assert found["left_out"] == {"without a compared step": 2}
    assert found["pass_k"] == {"1": 0.75, "2": 0.5, "3": 0.25, "4": 0.0}


@pytest.fixture
def two_prompts(put: Callable[..., None], build: Callable[..., Any]) -> None:
    """Twenty runs of each of two prompts, over two tasks; with the second most leave a step out."""
    for number in range(40):
        prompt = "old" if number < 20 else "new"
        shorter = number % 20 < (2 if prompt == "old" else 15)
        run = build(
            f"{number:032x}", metadata={"prompt": prompt, "on": number % 2, "reward": int(not shorter)}
        )
        for skill in ("get_order", "refund") if shorter else ("get_order", "check", "refund"):
            run.step(skill, {"order": 7})
        put(run.sealed())


def test_before_and_after_name_the_path_and_the_step_that_changed(
    isotrace: Callable[..., Any], two_prompts: None
) -> None:
    said = isotrace("behaviours", "--before", "prompt=old", "--after", "prompt=new", "--json")
    assert said.code == 1
    found = said.json
    assert (found["verdict"], found["before"], found["after"]) == ("changed", 20, 20)
    assert {path["move"]: (path["before"], path["after"]) for path in found["paths"]} == {
        "more": (2, 15),
        "less": (18, 5),
    }
    assert found["first_moved"]["index"] == 1
    drawn = isotrace("behaviours", "--before", "prompt=old", "--after", "prompt=new", columns=120)
    assert drawn.code == 1
    assert drawn.out.startswith("changed: the path get_order → ")
    assert "get_order → check → refund  18 (90 %)   5 (25 %)  less  <0.001" in drawn.out
    assert "Which step moved\n  1. at step 1: 15 of 20 go on with refund after, 2 of 20 before" in drawn.out


def test_paths_that_read_alike_come_with_the_command_that_tells_them_apart(
    put: Callable[..., None], build: Callable[..., Any], isotrace: Callable[..., Any], two_prompts: None
) -> None:
    words = ("behaviours", "--before", "prompt=old", "--after", "prompt=new")
    assert "read alike" not in isotrace(*words, columns=120).out
    other = build("f" * 32, metadata={"prompt": "new", "on": 0, "reward": 1})
    for skill in ("get_order", "refund"):
        other.step(skill, {"order": 8})
    put(other.sealed())
    said = isotrace(*words, columns=120).out
    (hint,) = [line for line in said.splitlines() if "read alike" in line]
    pair = hint.rpartition("isotrace diff ")[2].split()
    assert sorted(pair) == ["000000000000", "ffffffffffff"]


def test_before_and_after_of_runs_of_one_prompt_show_no_change(
    isotrace: Callable[..., Any], two_prompts: None
) -> None:
    def verdict(*words: str) -> tuple[int, str]:
        said = isotrace("behaviours", *words, "--json")
        return said.code, said.json["verdict"]

    assert verdict("prompt=old", "--before", "on=0", "--after", "on=1") == (125, "too few runs to say")
    assert verdict("--by", "on", "--before", "prompt=old", "--after", "prompt=new") == (1, "changed")
    assert verdict("--before", "prompt=old", "--after", "prompt=old limit=2") == (125, "too few runs to say")
    assert isotrace("behaviours", "--before", "prompt=old").code == 2
    assert isotrace("behaviours", "--before", "a=1", "--after", "b=1", "--runs", "2").code == 2


def test_comparison_of_queries_is_that_of_their_runs(two_prompts: None, store_url: str) -> None:
    store = open_store(store_url)
    sides = [
        [
            store.ledger(item.summary.run_id, tenant_id="default").record()
            for item in store.query(RunQuery(metadata={"prompt": prompt})).runs
        ]
        for prompt in ("old", "new")
    ]
    by_records = compare_behaviours(*sides, by="on")
    by_queries = compare_behaviours("prompt=old", "prompt=new", by="on", store=store)
    assert by_queries.to_dict() == by_records.to_dict()
    store.close()


def test_runs_are_held_against_a_golden(
    isotrace: Callable[..., Any],
    two_prompts: None,
    put: Callable[..., None],
    build: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(build("e" * 32, agent_id="other").step("get_order", {"order": 7}).sealed())
    elsewhere = build("f" * 32).step("get_order", {"order": 7})
    elsewhere.events[0].values["input"] = b'{"task": "another"}'
    put(elsewhere.sealed())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "goldens").mkdir()
    golden = "goldens/refund.golden"
    assert isotrace("export", f"{10:032x}", "--format", "golden", "-o", golden).code == 0
    said = isotrace("behaviours", "prompt=old", "prompt=new", "--golden", "refund", "--json")
    assert said.code == 1
    held = said.json["golden"]
    assert (held["name"], held["taken"]["part"], held["taken"]["whole"]) == ("refund", 23, 40)
    (parted,) = held["parted"]
    assert (parted["index"], parted["runs"]) == (1, 17)
    assert (parted["expected"]["skill"], parted["got"]["skill"]) == ("check", "refund")
    drawn = isotrace("behaviours", "prompt=old", "prompt=new", "--golden", golden)
    assert drawn.out.startswith("refund: 23 of 40 took the golden's path: ")
    assert "\n  17 at step 1: check → refund, for example " in drawn.out
    # The two stored before all these have the same agent and input, the two of this test have not.
    everything = isotrace("behaviours", "--golden", "refund", "--level", "skeleton", "--json").json["golden"]
    assert (everything["taken"]["part"], everything["taken"]["whole"]) == (23, 42)
    exact = isotrace("behaviours", "prompt=old", "--golden", "refund", "--level", "exact", "--json").json
    assert exact["golden"]["taken"]["part"] == 18
    taken = isotrace("behaviours", "reward=1", "--golden", "refund", "--json")
    assert (taken.code, taken.json["golden"]["parted"]) == (0, [])
    assert isotrace("behaviours", "prompt=none", "--golden", "refund", "--json").code == 125


def test_golden_that_is_not_there_says_where_it_was_looked_for(isotrace: Callable[..., Any]) -> None:
    said = isotrace("behaviours", "--golden", "nothing")
    assert said.code == 2
    assert (
        "there is no golden nothing; expected one of nothing, nothing.golden, goldens/nothing.golden"
        in said.err
    )
    assert isotrace("behaviours", "--golden", "x", "--by", "task").code == 2


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


def _pass_k(rewards: list[list[float]], k: int) -> float:
    """The mean over tasks of C(passed, k) / C(runs, k), by counting all choices of k runs."""
    shares = []
    for trials in rewards:
        choices = list(itertools.combinations(trials, k))
        shares.append(sum(min(choice) >= 1 for choice in choices) / len(choices))
    return sum(shares) / len(shares)


@needs_data
def test_pass_k_is_what_the_rewards_in_the_files_say(isotrace: Callable[..., Any]) -> None:
    file = DATA / "tau2/telecom_no-user_gpt-4.1_4trials_5tasks.json.gz"
    rewards: dict[str, list[float]] = {}
    for simulation in json.loads(gzip.decompress(file.read_bytes()))["simulations"]:
        rewards.setdefault(simulation["task_id"], []).append(simulation["reward_info"]["reward"])
    assert isotrace("import", "tau2", str(file)).code == 0
    for kinds in ([], ["--kind", "tool"]):
        found = isotrace("behaviours", "--by", "task", "source=tau2-bench", *kinds, "--json").json
        assert found["pass_k"] == {
            str(k): pytest.approx(_pass_k(list(rewards.values()), k)) for k in (1, 2, 3, 4)
        }


@needs_data
@pytest.mark.slow
def test_pass_k_counts_runs_that_crashed_before_their_first_call(isotrace: Callable[..., Any]) -> None:
    rewards: dict[int, list[float]] = {}
    for file in sorted((DATA / "tau_bench_retail").glob("tool-calling-*.json.gz")):
        for run in json.loads(gzip.decompress(file.read_bytes())):
            rewards.setdefault(run["task_id"], []).append(run["reward"])
    assert isotrace("import", "tau-bench", str(DATA / "tau_bench_retail")).code == 0
    found = isotrace("behaviours", "--by", "task", "source=tau-bench", "--kind", "tool", "--json").json
    assert found["left_out"]["without a compared step"] > 0
    fewest = min(map(len, rewards.values()))
    assert found["pass_k"] == {
        str(k): pytest.approx(_pass_k(list(rewards.values()), k)) for k in range(1, fewest + 1)
    }
