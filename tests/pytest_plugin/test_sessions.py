"""What a whole session says of golden files: unused ones, and what a narrowed session can't know."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

TWO = """
@pytest.mark.isotrace
def test_a():
    support("a")

@pytest.mark.isotrace
def test_b(request):
    support("b")
"""


def unused(result: pytest.RunResult) -> list[str]:
    lines = result.stdout.str().splitlines()
    return [line.split(" ")[0] for line in lines if "is a golden that no test uses" in line]


@pytest.fixture
def two(project):
    """Two golden tests, and a golden whose test is gone."""
    project.tests(TWO)
    project.tests(TWO, "test_other.py")
    project.run("--isotrace=record", passed=4)
    gone = project.path / "goldens/test_it/test_gone.golden"
    gone.write_bytes((project.path / "goldens/test_it/test_a.golden").read_bytes())
    return project


def test_a_golden_that_no_test_uses_fails_the_session(two):
    result = two.run(passed=4)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "=* golden runs =*",
            "goldens/test_it/test_gone.golden is a golden that no test uses: delete it, bring its test*",
        ]
    )
    (two.path / "goldens/test_it/test_gone.golden").unlink()
    assert two.run(passed=4).ret == 0


def test_goldens_of_a_test_file_that_is_gone_are_unused(two):
    (two.path / "goldens/test_it/test_gone.golden").unlink()
    (two.path / "test_other.py").unlink()
    assert unused(two.run(passed=2)) == [
        "goldens/test_other/test_a.golden",
        "goldens/test_other/test_b.golden",
    ]


def test_a_narrowed_session_judges_nothing(two):
    for args, passed in (
        (["-k", "test_a"], 2),
        (["-k", "test_a or test_b", "--deselect", "test_it.py::test_b"], 3),
        (["test_it.py::test_a"], 1),
        (["test_it.py::test_a", "test_it.py::test_b"], 2),
        (["test_other.py"], 2),
        (["--collect-only"], 0),
        (["--lf"], 4),
    ):
        result = two.run(*args)
        assert (args, unused(result), result.ret) == (args, [], 0)
        assert result.parseoutcomes().get("passed", 0) == passed


def test_the_whole_of_one_file_judges_its_own_goldens(two):
    assert unused(two.run("test_it.py", passed=2)) == ["goldens/test_it/test_gone.golden"]


def test_a_session_that_is_cut_short_judges_nothing(two):
    two.change('support("a")', 'support("x")', "test_it.py")
    result = two.run("-x", failed=1)
    assert unused(result) == []
    two.tests("def test_(:", "test_broken.py")
    assert unused(two.run()) == []


def test_a_golden_of_a_test_that_is_skipped_is_not_unused(project):
    project.tests("def test_it(golden):\n    golden('one').check(support, 'a')\n")
    project.run("--isotrace=record", passed=1)
    project.tests("@pytest.mark.skip\ndef test_it(golden):\n    golden('one').check(support, 'a')\n")
    assert project.run(skipped=1).ret == 0
    project.tests("def test_it(golden):\n    pass\n")
    assert unused(project.run(passed=1)) == ["goldens/test_it/test_it@one.golden"]


def test_files_of_others_are_none_of_its_business(project):
    project.tests("def test_it():\n    pass\n")
    for name in ("goldens/page.golden", "goldens/test_it/test_old.golden"):
        path = project.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("<html>")
    assert project.run(passed=1).ret == 0


def test_a_project_without_golden_tests_loads_nothing_of_it(project):
    (project.path / "test_it.py").write_text(
        "import sys\n\ndef test_it():\n"
        "    loaded = sorted(name for name in sys.modules if name.startswith('isotrace'))\n"
        "    plugin = ['isotrace.pytest_plugin', 'isotrace.pytest_plugin.session']\n"
        "    assert loaded == ['isotrace', *plugin], loaded\n"
        "    assert 'rich.console' not in sys.modules and 'orjson' not in sys.modules\n"
    )
    project.run(apart=True, passed=1)


# --- extend -----------------------------------------------------------------------------------


def test_extend_records_what_is_missing_and_replays_the_rest(project):
    project.tests(TWO)
    project.run("--isotrace=record", "-k", "test_a", passed=1)
    project.change('return {"item": "kettle", "cents": 4990}', 'print("called"); return {"item": "kettle"}')
    result = project.run("--isotrace=extend", "-s", passed=2)
    assert result.stdout.str().count("called") == 1
    result.stdout.fnmatch_lines(["recorded  goldens/test_it/test_b.golden"])
    project.change("one short", "one")
    project.run("--isotrace=extend", failed=2).stdout.fnmatch_lines(["DIVERGED  PARAMS_CHANGED at step 0*"])


def test_extend_goes_on_live_where_the_golden_ends(project):
    project.tests("@pytest.mark.isotrace\ndef test_it():\n    support('a')\n")
    project.run("--isotrace=record", passed=1)
    path = project.path / "goldens/test_it/test_it.golden"
    before = path.read_bytes()
    project.change('    return {"item"', '    print("called", customer)\n    return {"item"')
    project.change('    return answer["', '    get_order("bob")\n    return answer["')
    project.run(failed=1).stdout.fnmatch_lines(["*pytest --isotrace=extend test_it.py::test_it"])
    result = project.run("--isotrace=extend", "-s", passed=1)
    assert "called bob" in result.stdout.str()
    assert "called ada" not in result.stdout.str()
    result.stdout.fnmatch_lines(["differs   goldens/test_it/test_it.golden"])
    assert path.read_bytes() == before

    (path.with_name("test_it.golden.new")).replace(path)
    assert "called" not in project.run("-s", passed=1).stdout.str()
    project.change('get_order("ada")', 'get_order("eve")')
    for mode in ("replay", "extend"):
        result = project.run(f"--isotrace={mode}", "-s", failed=1)
        result.stdout.fnmatch_lines(["DIVERGED  PARAMS_CHANGED at step 1*"])
        assert "called ada" not in result.stdout.str()
        assert "called eve" not in result.stdout.str()


def test_extend_fails_where_the_run_ends_earlier_or_otherwise(project):
    project.tests("@pytest.mark.isotrace\ndef test_it():\n    support('a')\n")
    project.run("--isotrace=record", passed=1)
    project.change('return answer["content"]', 'return "kettle"')
    project.run("--isotrace=extend", failed=1).stdout.fnmatch_lines(["DIVERGED  FINAL_RESULT_CHANGED*"])
    project.change("    return answered(task)", "    return chat([{'role': 'user'}])")
    project.run("--isotrace=extend", failed=1)
    assert project.goldens() == ["goldens/test_it/test_it.golden"]


# --- what is printed --------------------------------------------------------------------------


def test_a_failure_is_coloured_where_pytest_is_and_as_wide_as_the_terminal(project, monkeypatch):
    project.tests(TWO)
    project.run("--isotrace=record", passed=2)
    project.change("one short", "one")
    text = project.run("--color=yes", "-k", "test_a", failed=1).stdout.str()
    assert "\x1b[1;31mDIVERGED\x1b[0m" in text
    monkeypatch.setenv("COLUMNS", "60")
    lines = project.run("-k", "test_a", failed=1).stdout.str().splitlines()
    first = next(at for at, one in enumerate(lines) if one.startswith("DIVERGED"))
    # The line that pytest itself writes of a failure is as long as it is, in continuous integration.
    drawn = lines[first : next(at for at, one in enumerate(lines) if "short test summary" in one)]
    assert "+ 0 ◆ chat" in "\n".join(drawn)
    assert max(len(one) for one in drawn if "pytest" not in one and "accept" not in one) <= 60


def test_reports_have_the_text_without_colours(project):
    project.tests(TWO)
    project.run("--isotrace=record", passed=2)
    project.change("one short", "one")
    project.run("--junitxml=out.xml", "--color=yes", "-k", "test_a", failed=1)
    xml = (project.path / "out.xml").read_text()
    assert 'message="DIVERGED  PARAMS_CHANGED at step 0' in xml
    assert "First divergence: PARAMS_CHANGED" in xml
    assert "#x1B" not in xml


def test_a_rerun_of_the_same_test_has_the_same_golden(project):
    (project.path / "conftest.py").write_text(
        "import pytest\nfrom _pytest.runner import runtestprotocol\n\n"
        "@pytest.hookimpl(tryfirst=True)\ndef pytest_runtest_protocol(item, nextitem):\n"
        "    for _ in range(2):\n        for report in runtestprotocol(item, nextitem=nextitem, log=False):\n"
        "            item.ihook.pytest_runtest_logreport(report=report)\n    return True\n"
    )
    project.tests("def test_it(golden):\n    golden.check(support, 'a')\n" + TWO)
    project.run("--isotrace=record", passed=6)
    assert project.run(passed=6).ret == 0


def test_importing_the_plugin_costs_next_to_nothing():
    script = (
        "import pytest, sys; old = set(sys.modules); import isotrace.pytest_plugin;"
        "print(*sorted(set(sys.modules) - old))"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["isotrace", "isotrace.pytest_plugin", "isotrace.pytest_plugin.session"]


def test_goldens_of_isotrace_check_may_stand_beside(two):
    (two.path / "goldens/test_it/test_gone.golden").unlink()
    data = (two.path / "goldens/test_it/test_a.golden").read_bytes()
    for name in ("refund.golden", "agents/refund.golden"):
        path = two.path / "goldens" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    assert two.run(passed=4).ret == 0
    # With a test's own file beside it, a folder is one of tests.
    two.tests("@pytest.mark.isotrace(file='mine')\ndef test_mine():\n    support('a')\n", "test_mine.py")
    assert unused(two.run("--isotrace=record", passed=5)) == ["goldens/refund.golden"]


def test_extend_executes_nothing_that_the_golden_has_not_in_its_middle(project):
    project.agent(
        "import asyncio, isotrace\n\n"
        "@isotrace.skill\ndef book(what: str) -> str:\n    print('called', what)\n    return what\n\n"
        "async def part():\n    book('a')\n\n"
        "@isotrace.agent('trip')\nasync def support():\n    await asyncio.gather(part())\n    book('b')\n"
    )
    project.tests("import asyncio\n\n@pytest.mark.isotrace\ndef test_it():\n    asyncio.run(support())\n")
    project.run("--isotrace=record", passed=1)
    project.change("    book('a')", "    book('a')\n    book('more')")
    result = project.run("--isotrace=extend", "-s", failed=1)
    result.stdout.fnmatch_lines(["DIVERGED  EXTRA_STEP at step 1*"])
    assert "called more" not in result.stdout.str()
