"""With pytest-xdist: workers replay and record, the controller judges."""

from __future__ import annotations

import pytest
import xdist

pytest_plugins = ["pytester"]

MANY = """
@pytest.mark.isotrace
@pytest.mark.parametrize("n", range(4))
def test_it(n):
    support(f"Where is {n}?")

def test_named(golden):
    golden("one").check(support, "a")
"""


@pytest.mark.slow
def test_workers_replay_and_record_and_the_controller_judges(project):
    assert xdist.is_xdist_worker is not None
    project.tests(MANY)
    result = project.run("-n2", "--isotrace=record", apart=True, passed=5)
    assert result.stdout.str().count("recorded  goldens/test_it/") == 5
    gone = project.path / "goldens/test_it/test_gone.golden"
    gone.write_bytes((project.path / "goldens/test_it/test_it[0].golden").read_bytes())
    result = project.run("-n2", apart=True, passed=5)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["goldens/test_it/test_gone.golden is a golden that no test uses*"])
    gone.unlink()

    project.change("one short", "one")
    result = project.run("-n2", "--color=yes", apart=True, failed=5)
    assert "\x1b[1;31mDIVERGED\x1b[0m" in result.stdout.str()
    assert "- DIVERGED  PARAMS_CHANGED at step 0: params differ" in result.stdout.str()
