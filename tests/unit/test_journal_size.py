"""A message history that is sent again with every step is written once."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

from isotrace.canonical import value_bytes
from isotrace.record.journal import Journal

MEGABYTE = 1_000_000
RUNS = Path(__file__).parents[2] / "../shared/data/mini_swe_agent"


def journal_of(folder: Path, steps: list[tuple[list[dict], dict]]) -> tuple[Journal, int]:
    """The journal of a run of LLM steps (all messages so far, the answer), and the size of its values."""
    journal = Journal.create(folder, "r1", "t", bytes(32))
    raw = 0
    for number, (messages, answer) in enumerate(steps):
        params, outcome = value_bytes({"model": "m", "messages": messages, "tools": []}), value_bytes(answer)
        raw += len(params) + len(outcome)
        journal.append("step_started", number, b'"lineage":[%d]' % number, {"params": params}, "llm")
        journal.append("step_finished", number, b'"lineage":[%d]' % number, {"outcome_data": outcome}, "llm")
    events = journal.content().events
    assert json.loads(events[-2].values["params"])["messages"] == steps[-1][0]  # type: ignore[arg-type]  # not erased
    assert json.loads(events[-1].values["outcome_data"]) == steps[-1][1]  # type: ignore[arg-type]  # not erased
    return journal, raw


def test_a_207_step_run_of_growing_history_keeps_its_journal_under_a_megabyte(tmp_path):
    words = random.Random(207)
    history: list[dict] = [{"role": "system", "content": "Fix the issue. " * 300}]
    steps = []
    for number in range(207):
        text = " ".join(f"word{words.randrange(10_000)}" for _ in range(60))
        answer = {
            "id": f"chatcmpl-{words.getrandbits(96):x}",
            "choices": [{"message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": number * 900},
        }
        steps.append((list(history), answer))
        history.append(answer["choices"][0]["message"])  # type: ignore[index]  # as built above
        output = " ".join(f"line{words.randrange(10_000)}" for _ in range(250))
        history.append({"role": "tool", "tool_call_id": f"call_{number}", "content": output})
    journal, raw = journal_of(tmp_path, steps)
    assert raw > 40_000 * 207
    assert journal.path.stat().st_size < MEGABYTE


def test_the_longest_recorded_coding_run_keeps_its_journal_under_a_megabyte(tmp_path):
    path = RUNS / "deepseek_lite_dev/marshmallow-code__marshmallow-1343.traj.json.gz"
    if not path.exists():
        pytest.skip(f"the recorded runs are not here: {path}")
    messages = json.loads(gzip.decompress(path.read_bytes()))["messages"]
    steps = [
        ([{key: m[key] for key in m if key != "extra"} for m in messages[:at]], message["extra"]["response"])
        for at, message in enumerate(messages)
        if message["role"] == "assistant"
    ]
    assert len(steps) == 189
    journal, raw = journal_of(tmp_path, steps)
    assert raw > 10 * MEGABYTE
    assert journal.path.stat().st_size < MEGABYTE


def test_histories_of_branches_side_by_side_are_each_written_once(tmp_path):
    words = random.Random(4)
    histories: list[list[dict]] = [[{"role": "system", "content": f"Branch {n}. " * 300}] for n in range(4)]
    steps = []
    for number in range(120):
        history = histories[words.randrange(4)]
        steps.append((list(history), {"answer": number}))
        history.append({"role": "tool", "content": " ".join(str(words.random()) for _ in range(50))})
    journal, raw = journal_of(tmp_path, steps)
    assert raw > 2 * MEGABYTE
    assert journal.path.stat().st_size < raw / 10
