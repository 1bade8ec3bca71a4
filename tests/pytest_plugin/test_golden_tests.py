"""Golden tests as a project has them: recorded, replayed, failing for the right reason."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

KETTLE = """
@pytest.mark.isotrace
def test_kettle():
    assert "kettle" in support("Where is my kettle?")
"""


def test_a_golden_is_recorded_and_then_replayed_without_calling_anything(project):
    project.tests(KETTLE)
    result = project.run("--isotrace=record", passed=1)
    assert project.goldens() == ["goldens/test_it/test_kettle.golden"]
    assert not (project.path / ".isotrace").exists()
    result.stdout.fnmatch_lines(["=* golden runs =*", "recorded  goldens/test_it/test_kettle.golden"])

    project.change('return {"item": "kettle", "cents": 4990}', 'raise RuntimeError("called")')
    result = project.run(passed=1)
    assert "golden runs" not in result.stdout.str()


def test_replay_is_the_default_and_fails_where_there_is_no_golden(project):
    project.tests(KETTLE)
    result = project.run(failed=1)
    assert project.failure(result) == [
        "no golden run is on record for this test",
        "",
        "golden  goldens/test_it/test_kettle.golden",
        "  record it, live:  pytest --isotrace=record test_it.py::test_kettle",
    ]
    assert project.goldens() == []


def test_a_changed_prompt_fails_with_the_aligned_diff_and_what_to_do(project):
    project.tests(KETTLE)
    project.run("--isotrace=record", passed=1)
    project.change("one short sentence", "one sentence")
    result = project.run(failed=1)
    assert project.failure(result) == [
        'DIVERGED  PARAMS_CHANGED at step 0: params differ at /messages/0/content ("Answer in one short',
        'sentence." → "Answer in one sentence.")',
        "",
        "  golden                                         │ now",
        "  ─┼─",
        '≠ 0 ◆ chat  {messages: [{role: "system", conten… │ 0 ◆ chat  {messages: [{role: "system", conten…',
        '      /messages/0/content …n one short sentence… │     /messages/0/content …n one sentence."',
        "  … 2 more steps in the golden, not come to",
        "",
        "First divergence: PARAMS_CHANGED at step 0",
        "  The same skill was called with params that differ at these JSON Pointers.",
        "  /messages/0/content",
        '    - "Answer in one short sentence."',
        '    + "Answer in one sentence."',
        "  PROMPT: step 0 asks the model something else after the same observations",
        "",
        "golden  goldens/test_it/test_kettle.golden",
        "  if this is what it shall do now:  pytest --isotrace=record test_it.py::test_kettle",
        "  then look at it, and accept it:   isotrace accept goldens/test_it/test_kettle.golden",
    ]
    result.stdout.fnmatch_lines(["FAILED test_it.py::test_kettle - DIVERGED  PARAMS_CHANGED at step 0: *"])


def test_a_step_more_one_less_and_another_one_are_named(project):
    project.tests(KETTLE)
    project.run("--isotrace=record", passed=1)
    for before, after, line in (
        (
            '    return answer["',
            '    get_order("bob")\n    return answer["',
            "DIVERGED  LATE_END at step 3: *",
        ),
        (
            'str(get_order("ada"))',
            "\"{'item': 'kettle', 'cents': 4990}\"",
            "DIVERGED  MISSING_STEP at step 1: *",
        ),
        ('get_order("ada")', 'get_order("bob")', "DIVERGED  PARAMS_CHANGED at step 1: *"),
        ('return answer["content"]', 'return "kettle"', "DIVERGED  FINAL_RESULT_CHANGED at step 3: *"),
    ):
        text = (project.path / "agent.py").read_text()
        project.change(before, after)
        project.run(failed=1).stdout.fnmatch_lines([line])
        project.agent(text)
    project.run(passed=1)


def test_a_recording_that_says_the_same_leaves_the_file_byte_for_byte(project):
    project.tests(KETTLE)
    project.run("--isotrace=record", passed=1)
    path = project.path / "goldens/test_it/test_kettle.golden"
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert "golden runs" not in project.run("--isotrace=record", passed=1).stdout.str()
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert project.goldens() == ["goldens/test_it/test_kettle.golden"]


def test_a_recording_that_differs_waits_beside_its_golden(project):
    project.tests(KETTLE)
    project.run("--isotrace=record", passed=1)
    path = project.path / "goldens/test_it/test_kettle.golden"
    before = path.read_bytes()
    project.change("one short sentence", "one sentence")
    result = project.run("--isotrace=record", passed=1)
    assert path.read_bytes() == before
    assert project.goldens() == [
        "goldens/test_it/test_kettle.golden",
        "goldens/test_it/test_kettle.golden.new",
    ]
    result.stdout.fnmatch_lines(
        ["differs   goldens/test_it/test_kettle.golden", "`isotrace accept` shows each such recording*"]
    )
    # The agent is as it was: what waits there is of nothing any more.
    project.change("one sentence", "one short sentence")
    project.run("--isotrace=record", passed=1)
    assert project.goldens() == ["goldens/test_it/test_kettle.golden"]


def test_a_test_that_fails_is_not_recorded(project):
    project.tests(KETTLE.replace('"kettle" in', '"toaster" in'))
    project.run("--isotrace=record", failed=1)
    assert project.goldens() == []


def test_the_divergence_comes_before_the_tests_own_failure(project):
    project.tests(KETTLE)
    project.run("--isotrace=record", passed=1)
    project.change('return answer["content"]', 'return "toaster"')
    lines = project.failure(project.run(failed=1))
    assert lines[0].startswith("DIVERGED  FINAL_RESULT_CHANGED at step 3: ")
    at = lines.index("The test failed by itself too, after it:")
    assert lines[at + 1].startswith("  AssertionError: assert 'kettle' in 'toaster'")
    assert lines[-1] == "  test_it.py:7"


def test_a_tests_own_failure_stands_where_the_replay_matches(project):
    project.tests(KETTLE)
    project.run("--isotrace=record", passed=1)
    project.change('"kettle" in', '"toaster" in', "test_it.py")
    result = project.run(failed=1)
    result.stdout.fnmatch_lines(["E       AssertionError: assert 'toaster' in 'Your kettle is on its way.'"])
    assert "DIVERGED" not in result.stdout.str()


def test_an_agent_that_breaks_is_a_divergence_with_what_it_raised(project):
    project.tests(KETTLE)
    project.run("--isotrace=record", passed=1)
    project.change('return answer["content"]', 'return answer["text"]')
    lines = project.failure(project.run(failed=1))
    assert lines[0].startswith("DIVERGED  STATUS_CHANGED at step 3: ")
    assert "  note: the agent raised KeyError: 'text' (agent.py:23)" in lines
    assert "The test failed by itself too, after it:" not in lines


def test_a_broken_golden_is_named(project):
    project.tests(KETTLE)
    project.run("--isotrace=record", passed=1)
    path = project.path / "goldens/test_it/test_kettle.golden"
    path.write_text(path.read_text()[:200])
    result = project.run(failed=1)
    lines = project.failure(result)
    assert lines[0] == "INVALID_RECORD  the golden file can't be read"
    assert "test_kettle.golden:" in "".join(lines[1:4])
    assert lines[-1] == (
        "  restore the file, or record it anew:  pytest --isotrace=record test_it.py::test_kettle"
    )


def test_what_a_golden_cannot_vouch_for_is_inconclusive(project):
    project.agent(
        "import isotrace\n\n"
        "class Handle: pass\n\n"
        "@isotrace.skill(effect='read')\ndef use(handle) -> int:\n    return 1\n\n"
        "@isotrace.agent('one')\ndef support() -> int:\n    return use(Handle())\n"
    )
    project.tests("@pytest.mark.isotrace\ndef test_it():\n    assert support() == 1\n")
    project.run("--isotrace=record", passed=1)
    assert project.failure(project.run(failed=1))[0].startswith("INCONCLUSIVE")


@pytest.mark.parametrize("ended", ["pytest.skip('no')", "pytest.xfail('no')"])
def test_a_test_that_skips_or_xfails_inside_is_neither_recorded_nor_judged(project, ended):
    project.tests(f"@pytest.mark.isotrace\ndef test_it():\n    support('Where?')\n    {ended}\n")
    outcome = "skipped" if "skip" in ended else "xfailed"
    project.run("--isotrace=record", **{outcome: 1})
    assert project.goldens() == []
    project.tests("@pytest.mark.isotrace\ndef test_it():\n    support('Where?')\n")
    project.run("--isotrace=record", passed=1)
    project.tests(f"@pytest.mark.isotrace\ndef test_it():\n    support('Where?')\n    {ended}\n")
    project.run(**{outcome: 1})


def test_an_expected_failure_may_be_a_divergence(project):
    project.tests(f"@pytest.mark.xfail(strict=True){KETTLE.rstrip()}\n")
    project.run("--isotrace=record", failed=1)  # strict: it passed
    assert project.goldens() == ["goldens/test_it/test_kettle.golden"]
    project.change("one short sentence", "one sentence")
    project.run(xfailed=1)


def test_steps_without_an_agent_make_the_test_itself_the_run(project):
    project.tests(
        "@pytest.mark.isotrace\ndef test_it():\n"
        "    assert get_order('ada')['item'] == 'kettle'\n    assert get_order('bob')['cents'] == 4990\n"
    )
    project.run("--isotrace=record", passed=1)
    project.run(passed=1)
    project.change("'bob'", "'eve'", "test_it.py")
    project.run(failed=1).stdout.fnmatch_lines(["DIVERGED  PARAMS_CHANGED at step 1: *"])
    # Where the test breaks off by itself, its own failure says it all.
    project.change("== 'kettle'", "== 'toaster'", "test_it.py")
    result = project.run(failed=1)
    result.stdout.fnmatch_lines(["E       AssertionError: assert 'kettle' == 'toaster'*"])
    assert "EARLY_END" not in result.stdout.str()


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (
            "pass",
            "nothing was recorded: the code opened no run and took no step. call the agent inside, and*",
        ),
        (
            "support('a')\n    support('b')",
            "a golden holds one run, and here several were opened; got support, support*",
        ),
        (
            "get_order('ada')\n    support('a')",
            "a golden holds one run: beside the agent's, the test itself took steps; *",
        ),
    ],
)
def test_a_golden_holds_one_run(project, body, line):
    project.tests(f"@pytest.mark.isotrace\ndef test_it():\n    {body}\n")
    project.run("--isotrace=record", failed=1).stdout.fnmatch_lines([line])
    assert project.goldens() == []


def test_nothing_goes_out_in_a_replay(project):
    project.tests(KETTLE)
    project.run("--isotrace=record", passed=1)
    project.change(
        "    messages = [",
        "    import socket\n    socket.create_connection(('127.0.0.1', 9))\n    messages = [",
    )
    lines = project.failure(project.run(failed=1))
    assert lines[0].startswith("DIVERGED  UNCONTROLLED_SOURCE: the code tried to")
    assert "while its steps are served from the record" in " ".join(lines).replace("\n", " ")
    project.change(
        "socket.create_connection(('127.0.0.1', 9))", "__import__('os').posix_spawn('/bin/true', ['x'], {})"
    )
    assert project.failure(project.run(failed=1))[0] == (
        "DIVERGED  UNCONTROLLED_SOURCE: the code tried to start a process (/bin/true, ['x'])"
    )


def test_a_worker_that_was_there_before_reaches_nobody_for_the_agent(project):
    project.tests(KETTLE)
    project.run("--isotrace=record", passed=1)
    agent = project.path / "agent.py"
    worker = """
import contextvars, queue, socket, threading

jobs, heard = queue.Queue(), []
server = socket.create_server(("127.0.0.1", 0))


def hear():
    while True:
        heard.append(server.accept())


def work():
    while True:
        place, done = jobs.get()
        try:
            socket.create_connection(place).close()
        except Exception:
            pass
        done.set()


for loop in (hear, work):
    threading.Thread(target=loop, daemon=True).start()


def by_worker():
    jobs.put((server.getsockname(), done := threading.Event()))
    done.wait(10)
    assert not heard


def by_context():
    try:
        contextvars.Context().run(socket.create_connection, server.getsockname())
    except Exception:
        pass
    assert not heard
"""
    plain = agent.read_text()
    for way in ("by_worker", "by_context"):
        changed = plain.replace("    messages = [", f"    {way}()\n    messages = [", 1)
        agent.write_text(worker + changed)
        assert project.failure(project.run(failed=1))[0].startswith(
            "DIVERGED  UNCONTROLLED_SOURCE: the code tried to"
        )


def test_clock_ids_and_random_numbers_are_those_of_the_recording(project):
    project.agent(
        "import datetime, random, uuid, isotrace\n\n"
        "@isotrace.skill(effect='read')\ndef tell(*what) -> int:\n    random.random()\n    return 1\n\n"
        "@isotrace.agent('one')\ndef support() -> list:\n"
        "    tell(str(datetime.datetime.now()), str(uuid.uuid4()))\n"
        "    tell(random.random(), random.Random().random())\n"
        "    return [random.random()]\n"
    )
    project.tests(
        "import random\n\n@pytest.mark.isotrace\ndef test_it():\n    support()\n\n"
        "def test_the_state_comes_back():\n    random.seed(7)\n    state = random.getstate()\n"
        "    assert random.getstate() == state\n"
    )
    project.run("--isotrace=record", passed=2)
    project.run(passed=2)


def test_what_rules_stop_does_not_happen_while_a_golden_is_recorded(project):
    project.agent(
        """
import isotrace
from isotrace.errors import PolicyViolation

NO = isotrace.Policy([isotrace.PolicyRule(id="no", action="stop", skills=["pay"], deny=True)])

@isotrace.skill
def pay(cents: int) -> int:
    open("paid", "a").write(f"{cents} ")
    return cents

@isotrace.agent("inner")
def inner(cents: int) -> int:
    return pay(cents)

@isotrace.agent("shop", policy=NO)
def shop(inside: bool) -> str:
    try:
        inner(2) if inside else pay(1)
    except PolicyViolation:
        return "stopped"
    return "paid"
"""
    )
    project.tests(
        """
@pytest.mark.isotrace
@pytest.mark.parametrize("inside", [False, True])
def test_shop(inside):
    assert shop(inside) == "stopped"
"""
    )
    project.run("--isotrace=record", passed=2)
    assert not (project.path / "paid").exists()
    project.run(passed=2)
    assert not (project.path / "paid").exists()


def test_a_golden_that_is_asked_for_and_never_opened_fails_the_test(project):
    project.tests(
        """
def test_loose(golden):
    golden.check(asupport, "Where is my kettle?")
"""
    )
    for mode in ("record", "replay"):
        result = project.run(
            "-W", "ignore", f"--isotrace={mode}", "test_it.py::test_loose", passed=1, errors=1
        )
        result.stdout.fnmatch_lines(["the test passed without holding anything against test_loose.golden:*"])
    project.change("golden.check(", "if golden.check(", "test_it.py")
    project.change('kettle?")', 'kettle?"): pytest.skip("not today")', "test_it.py")
    project.run("-W", "ignore", skipped=1)
