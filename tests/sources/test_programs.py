"""Whole programs that put what they read by themselves into a prompt: recorded, replayed, a match."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.sources.conftest import Programs

NEEDED = (httpx, np)  # by the programs

PROMPT = """
import random, uuid
from datetime import datetime

print(ask(f"{datetime.now()} {uuid.uuid4()} {random.choice(range(10**9))}"))
print(ask(f"{datetime.now()} {uuid.uuid4()} {random.choice(range(10**9))}"))
"""

EVERYTHING = """
import asyncio, random, tempfile, time, uuid
from random import Random
import numpy as np
from numpy.random import PCG64, RandomState, SeedSequence

ask([random.random(), random.gauss(0, 1), random.sample(range(99), 9)])
deck = list(range(50))
random.shuffle(deck)
ask(deck)
ask([Random().random(), random.Random().random()])
random.seed()
ask(random.random())
ask([np.random.rand(3), np.random.default_rng().random()])
ask(SeedSequence().entropy)
ask([RandomState().rand(), PCG64().random_raw()])
ask(list({f"name {n}" for n in range(40)}))
ask([hash("a"), hash(b"b")])
with tempfile.NamedTemporaryFile() as file, tempfile.TemporaryDirectory() as folder:
    ask([file.name, folder])
ask([time.strftime("%c %Z"), time.localtime(), time.ctime(), time.asctime()])
async def main():
    for n in range(3):
        await asyncio.to_thread(lambda: ask([n, time.time(), random.random(), uuid.uuid4()]))
asyncio.run(main())
"""

SETS = "ask(list({f'name {n}' for n in range(40)}))"


def test_a_prompt_with_time_id_and_choice_is_a_match(programs: Programs) -> None:
    asked = programs.assert_match(PROMPT)
    assert len(set(asked)) == 2
    assert programs.grade == "replayable"


def test_everything_random_is_the_same_in_a_replay(programs: Programs) -> None:
    asked = programs.assert_match(EVERYTHING)
    assert len(set(asked)) == len(asked) == 14


DRAWING_TOOLS = """
import asyncio, random
import isotrace
import numpy as np

np.random.rand()

@isotrace.skill
def dice() -> int:
    np.random.rand(3)
    return random.randint(1, 6)

@isotrace.skill
def noise() -> float:
    return random.gauss(0, 1)

@isotrace.skill
async def later() -> float:
    await asyncio.sleep(0.01)
    return random.random()

@isotrace.skill
def stream():
    for _ in range(3):
        yield random.random()

for tool in (dice, noise, noise, lambda: (noise(), noise()), lambda: list(stream())):
    tool()
    ask([random.random(), random.gauss(0, 1), float(np.random.rand())])

async def part(name):
    for _ in range(3):
        await later()
        await asyncio.to_thread(ask, [name, random.random()])

async def main():
    await asyncio.gather(part("a"), part("b"))

asyncio.run(main())
ask(random.random())
"""


def test_what_tools_draw_does_not_move_the_agent_s_numbers(programs: Programs) -> None:
    programs.record(DRAWING_TOOLS)
    result = programs.replay()
    assert (result.verdict, result.data["divergences"]) == ("MATCH", []), result.data


def test_a_fork_goes_on_with_the_numbers_that_its_served_part_had(programs: Programs) -> None:
    asked = programs.record(DRAWING_TOOLS)
    steps = json.loads(programs.call("show", "@last", "--json").stdout)["steps"]
    before = len(programs.asked)
    said = programs.call("fork", "@last", "--at", str(len(steps) - 1), "--allow", "*", "--json")
    assert (said.returncode, json.loads(said.stdout)["verdict"]) == (0, "MATCH"), said.stdout + said.stderr
    assert programs.asked[before:] == asked[-1:]


MARKED = """
import random, time, uuid
from datetime import datetime
import isotrace

STARTED, SESSION, SALT = datetime.now(), uuid.uuid4(), random.Random().random()

@isotrace.agent("marked")
def marked():
    ask([str(STARTED), str(SESSION), SALT, time.time(), str(uuid.uuid4())])

marked()
marked()
"""


def test_what_is_read_before_the_first_run_is_the_same_too(programs: Programs) -> None:
    first, second = programs.record(MARKED)
    assert first[:80] == second[:80]
    assert programs.replay(run="@last~1").verdict == "MATCH"


def test_every_recording_reads_anew(programs: Programs) -> None:
    """The seeds are fresh ones: recording makes no program deterministic."""
    code = "import random\nask([random.random(), list({f'name {n}' for n in range(40)})])"
    first, second = programs.record(code)[0], programs.record(code)[0]
    assert first != second


def test_a_program_that_seeds_by_itself_is_left_alone(programs: Programs) -> None:
    code = "import random\nimport numpy as np\nrandom.seed(7)\nnp.random.seed(7)\n"
    code += "ask([random.random(), float(np.random.rand())])"
    (asked,) = programs.record(code)
    random.seed(7)
    np.random.seed(7)
    assert asked == str([random.random(), float(np.random.rand())])


def test_the_hash_seed_is_the_program_s_alone(programs: Programs) -> None:
    """What it starts chooses its own, unless the user had set one."""
    code = "import os\nask(1)\n"
    code += "print(os.environ.get('PYTHONHASHSEED'), 'ISOTRACE_HASH_SEED_BEFORE' in os.environ)"
    programs.record(code)
    assert programs.out == "None False\n"
    programs.record(code, env={"PYTHONHASHSEED": "random"})
    assert programs.out == "random False\n"
    programs.record(code, env={"PYTHONHASHSEED": "5"})
    assert programs.out == "5 False\n"


def test_a_hash_seed_of_the_user_s_is_that_of_the_replay(programs: Programs) -> None:
    programs.record(SETS, env={"PYTHONHASHSEED": "5"})
    assert programs.replay(env={"PYTHONHASHSEED": "6"}).data["divergences"] == []


def test_starting_over_changes_nothing_that_a_program_sees(programs: Programs) -> None:
    code = "import os, sys\nask(1)\nprint(sys.argv, sys.stdin.read(), os.getppid())"
    programs.record(code, "a", "b c")
    argv, rest = programs.out.rsplit("]", 1)
    assert argv == "['program.py', 'a', 'b c'"
    assert rest == f" hello {os.getpid()}\n"


@pytest.mark.parametrize(
    ("code", "expected"), [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", -9)]
)
def test_exit_code_and_signal_are_the_program_s(programs: Programs, code: str, expected: int) -> None:
    (programs.folder / "program.py").write_text(code)
    assert programs.call("run", "program.py").returncode == expected


def test_an_isolated_interpreter_is_not_started_over(programs: Programs) -> None:
    """It would not look at the variable."""
    (programs.folder / "program.py").write_text("print('ran')")
    said = subprocess.run(
        [sys.executable, "-E", "-m", "isotrace.cli", "run", "program.py"],
        cwd=programs.folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert said.stdout == "ran\n"
