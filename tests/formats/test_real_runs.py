"""The real runs: everything in them is imported, and the known figures of their behaviour come out."""

from __future__ import annotations

import gzip
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from isotrace.contracts import ImportedRun
from isotrace.formats.jsonl import JsonlExporter, JsonlImporter
from isotrace.formats.mini_swe_agent import MiniSweAgentImporter
from isotrace.formats.source import detect_format
from isotrace.formats.tau2 import Tau2Importer
from isotrace.formats.tau_bench import TauBenchImporter
from isotrace.ledger import seal, verify

IMPORTERS: list[Any] = [JsonlImporter(), TauBenchImporter(), Tau2Importer(), MiniSweAgentImporter()]
TRIALS = "tau2/telecom_no-user_gpt-4.1_4trials_5tasks.json.gz"
CALLS = tuple[tuple[str, bytes], ...]


def load(path: Path) -> Any:
    data = path.read_bytes()
    return json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)


@dataclass(frozen=True)
class Seen:
    """What these tests look at in an imported run; the rest is let go, it is large."""

    task: str
    label: str
    trial: Any
    status: str
    steps: Counter[str]
    calls: CALLS


def seen(run: ImportedRun) -> Seen:
    started = sorted(
        (event for event in run.events if event.type == "step_started"), key=lambda event: event.lineage
    )
    metadata = run.events[0].value("metadata")
    last = run.events[-1]
    return Seen(
        task=metadata.get("task", ""),
        label=metadata.get("label", ""),
        trial=metadata.get("trial"),
        status=last.facts.get("status", "aborted"),
        steps=Counter(event.facts["kind"] for event in started),
        calls=tuple(
            (event.facts["skill_name"], bytes_of(event.values["params"]))
            for event in started
            if event.facts["kind"] == "tool"
        ),
    )


def bytes_of(value: Any) -> bytes:
    # Arguments are equal as JSON objects are: the order of their keys says nothing.
    return json.dumps(json.loads(value), sort_keys=True).encode()


@pytest.fixture
def imported(data, read_file):
    """All runs of the files that a pattern names; there must be no error among them."""

    def runs(pattern: str) -> Iterator[ImportedRun]:
        paths = sorted(data.glob(pattern))
        assert paths, pattern
        for path in paths:
            importer = detect_format(path, IMPORTERS)
            assert importer is not None, path
            for item in read_file(importer, path):
                assert isinstance(item, ImportedRun), item
                yield item

    return runs


def spread(groups: Iterable[list[CALLS]]) -> dict[str, Any]:
    """How many distinct sequences each group has, and at which call all of it first part."""
    distinct, first = Counter[int](), Counter[int]()
    for group in groups:
        distinct[len(set(group))] += 1
        longest = max(map(len, group))
        parting = (
            index for index in range(longest) if len({calls[index : index + 1] for calls in group}) > 1
        )
        if (index := next(parting, None)) is not None:
            first[index] += 1
    return {
        "tasks": distinct.total(),
        "identical": distinct[1],
        "distinct": dict(sorted(distinct.items())),
        "first": dict(sorted(first.items())),
        "median": median(first.elements()) if first else None,
    }


def by_task(runs: Iterable[Seen], size: int) -> list[list[CALLS]]:
    groups: dict[str, list[CALLS]] = {}
    for run in runs:
        # A crashed run has no messages at all, so it says nothing.
        if run.steps:
            groups.setdefault(run.task, []).append(run.calls)
    return [group for group in groups.values() if len(group) == size]


# --- counts, each held against the source files themselves ---------------------------


def openai_counts(messages: list[Any]) -> tuple[int, int]:
    answers = [message for message in messages if message["role"] == "assistant"]
    return len(answers), sum(len(answer.get("tool_calls") or []) for answer in answers)


@pytest.mark.slow
def test_every_tau_bench_run_is_imported_with_all_its_steps(data, imported):
    sources = [run for path in sorted(data.glob("tau_bench_retail/*")) for run in load(path)]
    runs = [seen(run) for run in imported("tau_bench_retail/*")]
    assert len(runs) == len(sources) == 890
    assert [(run.steps["llm"], run.steps["tool"]) for run in runs] == [
        openai_counts(source["traj"]) for source in sources
    ]
    assert sum((run.steps for run in runs), Counter()) == {"llm": 13443, "tool": 7645}
    assert Counter(run.status for run in runs) == {"completed": 885, "failed": 5}
    assert [run.task for run in runs] == [str(source["task_id"]) for source in sources]
    raw = sum(
        b'{"arguments":' in params[:14] for run in runs for name, params in run.calls if name == "think"
    )
    assert raw == 99


@pytest.mark.slow
def test_every_tau2_run_is_imported_with_all_its_steps(data, imported):
    sources = [run for path in sorted(data.glob("tau2/*")) for run in load(path)["simulations"]]
    runs = [seen(run) for run in imported("tau2/*")]
    assert len(runs) == len(sources) == 200
    assert [(run.steps["llm"], run.steps["tool"]) for run in runs] == [
        (
            sum(message["role"] == "assistant" for message in source["messages"]),
            sum(len(message.get("tool_calls") or []) for message in source["messages"]),
        )
        for source in sources
    ]
    assert sum((run.steps for run in runs), Counter()) == {"llm": 2771, "tool": 2213}
    assert {run.status for run in runs} == {"completed"}


@pytest.mark.slow
def test_every_mini_swe_agent_run_is_imported_with_all_its_steps(data, imported):
    sources = [load(path) for path in sorted(data.glob("mini_swe_agent/deepseek*/*.traj.json.gz"))]
    runs = [seen(run) for run in imported("mini_swe_agent/deepseek*/*.traj.json.gz")]
    assert len(runs) == len(sources) == 55
    assert [(run.steps["llm"], run.steps["tool"]) for run in runs] == [
        openai_counts(source["messages"]) for source in sources
    ]
    assert sum((run.steps for run in runs), Counter()) == {"llm": 4005, "tool": 4005}
    assert Counter(run.status for run in runs) == {"completed": 50, "failed": 5}
    assert Counter(run.trial for run in runs) == {
        "deepseek_chat_dev": 12,
        "deepseek_chat_dev_rerun": 12,
        "deepseek_lite_dev": 12,
        "deepseek_lite_dev_noparallel": 12,
        "deepseek_reasoner_dev": 7,
    }


def test_the_older_mini_swe_agent_layouts_are_imported(imported):
    runs = [seen(run) for run in imported("mini_swe_agent/format_versions/*")]
    assert [(run.label, dict(run.steps), run.status) for run in runs] == [
        ("github_issue.HEAD", {"llm": 10, "tool": 10}, "completed"),
        ("local.HEAD", {"llm": 2, "tool": 2}, "completed"),
    ]


def test_a_folder_with_a_report_is_graded_by_it(data, imported):
    report = load(data / "mini_swe_agent/swebench_report.deepseek_chat_dev.json")
    for run in imported("mini_swe_agent/deepseek_chat_dev/pydicom*"):
        metadata = run.events[0].value("metadata") | run.events[-1].value("metadata")
        assert metadata["reward"] == float(metadata["task"] in report["resolved_ids"])
    (run,) = imported("mini_swe_agent/deepseek_reasoner_dev/pvlib__pvlib-python-1154*")
    assert "reward" not in run.events[-1].value("metadata")
    assert run.events[-1].value("error").startswith("litellm.Timeout")


# --- the known figures ----------------------------------------------------------------


def test_four_trials_of_five_telecom_tasks(data, imported):
    runs = list(imported(TRIALS))
    assert spread(by_task(map(seen, runs), 4)) == {
        "tasks": 5,
        "identical": 4,
        "distinct": {1: 4, 2: 1},
        "first": {4: 1},
        "median": 4,
    }
    paths: dict[str, set[str | None]] = {}
    for run in runs:
        assert run.seed is not None
        projection = seal(run.events, run.seed).projection
        paths.setdefault(projection.metadata["task"], set()).add(projection.tool_signature)
    assert sorted(map(len, paths.values())) == [1, 1, 1, 1, 2]


@pytest.mark.slow
def test_tau_bench_with_two_models_and_with_six_configurations(imported):
    runs = [seen(run) for run in imported("tau_bench_retail/tool-calling-l*")]
    two = spread(by_task((run for run in runs if run.label.startswith("tool-calling-l0-")), 2))
    assert (two["tasks"], two["identical"], two["median"]) == (114, 14, 3)
    six = spread(by_task(runs, 6))
    assert (six["tasks"], six["identical"], six["median"]) == (110, 0, 1)
    assert six["distinct"] == {2: 4, 3: 5, 4: 9, 5: 28, 6: 64}


@pytest.mark.slow
def test_mini_swe_agent_repeated_two_and_three_times(imported):
    runs = [seen(run) for name in ("chat_dev", "chat_dev_rerun", "lite_dev") for run in imported(mini(name))]
    two = spread(by_task((run for run in runs if run.trial != "deepseek_chat_dev"), 2))
    assert (two["tasks"], two["identical"]) == (12, 0)
    assert two["first"] == {0: 4, 1: 3, 2: 4, 3: 1}
    three = spread(by_task(runs, 3))
    assert (three["tasks"], three["identical"]) == (12, 0)
    assert three["first"] == {0: 5, 1: 2, 2: 4, 3: 1}


def mini(name: str) -> str:
    return f"mini_swe_agent/deepseek_{name}/*"


# --- roots ----------------------------------------------------------------------------


def sealed(runs: Iterable[ImportedRun]) -> list[Any]:
    return [seal(run.events, run.seed or b"") for run in runs]


def test_importing_twice_gives_the_same_runs_and_roots(imported):
    for pattern in (TRIALS, "mini_swe_agent/deepseek_reasoner_dev/pvlib__pvlib-python-1[158]*"):
        once, again = sealed(imported(pattern)), sealed(imported(pattern))
        assert [(run.run_id, run.ledger.root_hash) for run in once] == [
            (run.run_id, run.ledger.root_hash) for run in again
        ]
        assert len({run.run_id for run in once}) == len(once)


def test_real_runs_survive_export_and_import_byte_for_byte(imported):
    ledgers = [run.ledger for run in sealed(imported(TRIALS))]
    ledgers += [run.ledger for run in sealed(imported("mini_swe_agent/deepseek_reasoner_dev/pvlib__*-1606*"))]
    out = io.BytesIO()
    assert JsonlExporter().write(ledgers, out) == 21
    back = []
    for item in JsonlImporter().read(io.BytesIO(out.getvalue()), where="x", tenant_id="default"):
        assert isinstance(item, ImportedRun), item
        assert item.sealed is not None
        verify(item.sealed.ledger)
        back.append(item.sealed.ledger)
    assert [ledger.root_hash for ledger in back] == [ledger.root_hash for ledger in ledgers]
    assert [ledger.record() for ledger in back] == [ledger.record() for ledger in ledgers]
    again = io.BytesIO()
    JsonlExporter().write(back, again)
    assert again.getvalue() == out.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    "pattern",
    ["tau_bench_retail/tool-calling-l0-4.1*", "tau2/retail_gpt*", "mini_swe_agent/deepseek_reasoner_dev/*"],
)
def test_cut_at_any_place_real_files_give_good_runs_and_named_errors(data, pattern, read):
    path = min(data.glob(pattern))
    importer = detect_format(path, IMPORTERS)
    whole = gzip.decompress(path.read_bytes())
    for part in range(1, 12):
        cut = whole[: len(whole) * part // 12]
        try:
            *runs, error = read(importer, cut, str(path))
        except Exception as raised:
            runs, error = [], raised
        assert error.what in ("the file is cut off", "not JSON") or error.what.startswith("not JSON")
        assert all(isinstance(run, ImportedRun) for run in runs)
