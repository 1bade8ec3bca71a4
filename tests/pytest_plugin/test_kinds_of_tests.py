"""Every kind of test that pytest runs can be a golden test."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]


def recorded_then_broken(project, *args: str, tests: int = 1) -> pytest.RunResult:
    """Records all tests, replays them, and breaks the agent: each fails for that."""
    project.run("--isotrace=record", *args, passed=tests)
    project.run(*args, passed=tests)
    project.change("one short sentence", "one sentence")
    result = project.run(*args, failed=tests)
    assert result.stdout.str().count("\nDIVERGED  PARAMS_CHANGED at step 0") == tests
    project.change("one sentence", "one short sentence")
    return result


def test_classes_and_parameters_have_goldens_of_their_own(project):
    project.tests(
        "class TestSupport:\n"
        "    class TestInner:\n"
        "        @pytest.mark.isotrace\n"
        "        @pytest.mark.parametrize('what', ['kettle', 'a/b', '..', 'süß', 'x' * 300, ''])\n"
        "        def test_it(self, what):\n            assert support(f'Where is my {what}?')\n"
    )
    recorded_then_broken(project, tests=6)
    names = project.goldens()
    assert len(names) == 6
    assert "goldens/test_it/TestSupport.TestInner.test_it[kettle].golden" in names
    assert all(name.startswith("goldens/test_it/TestSupport.TestInner.test_it[") for name in names)
    assert all(len(name.split("/")) == 3 and len(name.split("/")[2].encode()) < 140 for name in names)


def test_a_mark_on_a_class_or_a_module_holds_for_its_tests(project):
    project.tests(
        "pytestmark = pytest.mark.isotrace(level='skeleton')\n\n"
        "class TestOne:\n    def test_a(self):\n        support('a')\n"
        "    @pytest.mark.isotrace('other')\n    def test_b(self):\n        support('b')\n"
    )
    project.run("--isotrace=record", passed=2)
    assert project.goldens() == ["goldens/test_it/TestOne.test_a.golden", "goldens/test_it/other.golden"]
    project.change("one short sentence", "one sentence")
    project.run(passed=2)


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_coroutines_with_pytest_asyncio(project, mode):
    mark = "@pytest.mark.asyncio\n" if mode == "strict" else ""
    project.tests(
        f"import asyncio\n\n{mark}@pytest.mark.isotrace\nasync def test_marked():\n"
        "    await asyncio.sleep(0.01)\n    assert 'kettle' in await asupport('Where?')\n\n"
        f"{mark}async def test_fixture(golden):\n"
        "    assert 'kettle' in await golden.check(asupport, 'Where?')\n"
        "    async with golden('two'):\n        await asyncio.gather(asyncio.to_thread(support, 'Two?'))\n"
    )
    recorded_then_broken(project, f"--asyncio-mode={mode}", tests=2)
    assert project.goldens() == [
        "goldens/test_it/test_fixture.golden",
        "goldens/test_it/test_fixture@two.golden",
        "goldens/test_it/test_marked.golden",
    ]


def test_a_plain_test_may_run_a_loop_of_its_own(project):
    project.tests(
        "import asyncio\n\n@pytest.mark.isotrace\ndef test_it():\n"
        "    assert 'kettle' in asyncio.run(asupport('Where?'))\n"
    )
    recorded_then_broken(project)


def test_coroutines_of_a_replay_that_stops_are_ended(project):
    project.tests(
        "import asyncio\n\n@pytest.mark.isotrace\nasync def test_it():\n"
        "    async def later():\n        await asyncio.sleep(30)\n"
        "    waiting = asyncio.create_task(later())\n"
        "    await asyncio.gather(asupport('Where?'))\n    waiting.cancel()\n"
    )
    recorded_then_broken(project, "--asyncio-mode=auto")


def test_methods_of_unittest_cases(project):
    project.tests(
        "import unittest\n\n"
        "class TestPlain(unittest.TestCase):\n    def setUp(self):\n        self.task = 'Where?'\n"
        "    @pytest.mark.isotrace\n    def test_it(self):\n"
        "        self.assertIn('kettle', support(self.task))\n\n"
        "class TestAsync(unittest.IsolatedAsyncioTestCase):\n"
        "    @pytest.mark.isotrace\n    async def test_it(self):\n"
        "        self.assertIn('kettle', await asupport('Where?'))\n"
    )
    recorded_then_broken(project, tests=2)
    assert project.goldens() == [
        "goldens/test_it/TestAsync.test_it.golden",
        "goldens/test_it/TestPlain.test_it.golden",
    ]


def test_fixtures_of_any_scope_run_outside_of_the_golden(project):
    project.tests(
        "import os, socket\n\n"
        "@pytest.fixture(scope='session', autouse=True)\ndef server():\n"
        "    with socket.create_server(('127.0.0.1', 0)) as made:\n        yield made\n\n"
        "@pytest.fixture\ndef order():\n    return get_order('fixture')\n\n"
        "@pytest.mark.isotrace\ndef test_it(order, server, tmp_path, monkeypatch, capsys):\n"
        "    assert 'kettle' in support(order['item'])\n"
    )
    recorded_then_broken(project)


def test_several_goldens_of_one_test_are_told_apart_by_name(project):
    project.tests(
        "def test_it(golden):\n    assert 'kettle' in golden.check(support, 'a')\n"
        "    with golden('se/cond'):\n        support('b')\n    golden('third').check(support, task='c')\n"
    )
    recorded_then_broken(project)
    assert len(project.goldens()) == 3
    project.change("golden('third')", "golden()", "test_it.py")
    project.run(failed=1).stdout.fnmatch_lines(["the test holds two runs against one golden: *"])


def test_scopes_inside_each_other_are_refused(project):
    project.tests(
        "@pytest.mark.isotrace\ndef test_it(golden):\n    with golden('in'):\n        support('a')\n"
    )
    project.run("--isotrace=record", failed=1).stdout.fnmatch_lines(
        ["a golden's scope can't be inside another golden's", "around it: test_it.golden"]
    )


def test_a_golden_may_be_a_file_of_a_name(project):
    project.tests(
        "@pytest.mark.isotrace(file='shared/kettle')\ndef test_it():\n    support('a')\n\n"
        "@pytest.mark.isotrace(name='b', file='b')\ndef test_both():\n    support('a')\n\n"
        "@pytest.mark.isotrace(file='../b')\ndef test_outside():\n    support('a')\n\n"
        "@pytest.mark.isotrace(nome='b')\ndef test_unknown():\n    support('a')\n\n"
        "@pytest.mark.isotrace(level='close')\ndef test_level():\n    support('a')\n"
    )
    result = project.run("--isotrace=record", passed=1, failed=4)
    assert project.goldens() == ["goldens/shared/kettle.golden"]
    text = result.stdout.str()
    for sentence in (
        "a golden has a name or a file; got both",
        "a golden file stands in the folder of goldens; expected NAME.golden; got ../b",
        "unknown argument of @pytest.mark.isotrace; expected name, file, level, ignore, normalize,",
        "unknown level; expected exact, decisions, skeleton, outcome; got close",
    ):
        assert text.count(sentence) in (1, 2)  # the failure; the summary has its beginning
    assert "During handling" not in text


def test_rules_let_pass_what_they_name(project):
    project.tests(
        "@pytest.mark.isotrace(ignore='chat:/messages/0/content', metadata={'task': 'kettle'})\n"
        "def test_ignored():\n    support('a')\n\n"
        "@pytest.mark.isotrace(kinds=['tool'])\ndef test_kinds():\n    support('a')\n\n"
        "@pytest.mark.isotrace(normalize='case')\ndef test_case():\n    support('a')\n"
    )
    project.run("--isotrace=record", passed=3)
    project.change("one short sentence", "one sentence")
    project.run(passed=2, failed=1).stdout.fnmatch_lines(["FAILED test_it.py::test_case - DIVERGED *"])
    assert project.run("--isotrace=record", passed=3).stdout.str().count("differs  ") == 1
    project.change("one sentence", "ONE SHORT sentence")
    project.run(passed=3)
    project.change('get_order("ada")', 'get_order("bob")')
    project.run(failed=3)


def test_two_tests_can_not_have_one_golden(project):
    project.tests(
        "@pytest.mark.isotrace('same')\n@pytest.mark.parametrize('n', [1, 2])\n"
        "def test_it(n):\n    support('a')\n"
    )
    result = project.run("--isotrace=record")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "two tests have one golden: it is that of test_it.py::test_it[[]1] too",
            "Give each its own: @pytest.mark.isotrace(name=…), or golden('NAME').",
            "=* golden runs =*",
            "goldens/test_it/same.golden is the golden of two tests: *::test_it[[]1] and *::test_it[[]2]",
        ]
    )
    assert result.ret == 1


def test_hypothesis_makes_many_runs(project):
    project.tests(
        "from hypothesis import given, strategies\n\n@pytest.mark.isotrace\n@given(strategies.integers())\n"
        "def test_it(n):\n    support('a')\n"
    )
    project.run(failed=1).stdout.fnmatch_lines(["a golden holds one run, and Hypothesis makes many*"])


def test_without_the_plugin_marked_tests_are_plain_tests(project):
    project.tests("@pytest.mark.isotrace\ndef test_it():\n    assert 'kettle' in support('Where?')\n")
    result = project.run("-p", "no:isotrace", "-W", "ignore", apart=True, passed=1)
    assert result.ret == 0


def test_the_mode_and_the_folder_may_stand_in_the_settings(project):
    (project.path / "pytest.ini").write_text(
        "[pytest]\naddopts = -p no:langsmith_plugin -p no:cacheprovider\nisotrace_mode = record\n"
        "isotrace_goldens = runs/of\nasyncio_default_fixture_loop_scope = function\n"
    )
    project.tests("@pytest.mark.isotrace\ndef test_it():\n    support('a')\n", "deep/test_it.py")
    project.run(passed=1)
    assert (project.path / "deep/runs/of/test_it/test_it.golden").is_file()
    project.run("--isotrace=replay", passed=1)
    project.change("runs/of", "../runs", "pytest.ini")
    project.run(failed=1).stdout.fnmatch_lines(["the folder of goldens stands beside the test file*"])
    project.change("record", "live", "pytest.ini")
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: isotrace_mode: expected replay, record, extend; got live"])


def test_what_is_redacted_is_not_in_the_golden_and_matches_all_the_same(project):
    project.tests(
        "@pytest.mark.isotrace(redact=['email'])\ndef test_it():\n    support('I am ada@example.org')\n\n"
        "@pytest.mark.isotrace(redact=['nothing-like-it'])\ndef test_wrong():\n    support('a')\n"
    )
    project.run("--isotrace=record", passed=1, failed=1)
    assert "example.org" not in (project.path / "goldens/test_it/test_it.golden").read_text()
    project.run("-k", "not wrong", passed=1)
    project.change("I am", "We are", "test_it.py")
    project.run("-k", "not wrong", failed=1)


def test_what_a_test_does_to_clock_and_folder_is_its_own(project):
    project.tests(
        "import datetime, time_machine\n\n"
        "@isotrace.agent('clocked')\ndef clocked():\n"
        "    return [str(datetime.date.today()), chat([{'role': 'user'}])]\n\n"
        "@pytest.mark.isotrace\n@time_machine.travel('2020-01-01')\ndef test_around():\n"
        "    assert clocked()[0] == '2020-01-01'\n\n"
        "@time_machine.travel('2021-01-01')\ndef test_fixture(golden):\n"
        "    assert golden.check(clocked)[0] == '2021-01-01'\n\n"
        "@pytest.mark.isotrace\ndef test_folder(monkeypatch, tmp_path):\n"
        "    monkeypatch.chdir(tmp_path)\n    support('a')\n"
    )
    project.run("--isotrace=record", passed=3)
    project.run(passed=3)
    project.change("one short", "one")
    result = project.run("-k", "folder", failed=1)
    result.stdout.fnmatch_lines(["golden  goldens/test_it/test_folder.golden"])
