"""With anyio's own plugin."""

from __future__ import annotations

import anyio
import pytest

pytest_plugins = ["pytester"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_golden_test_runs_on_asyncio_and_says_so_on_trio(project, backend):
    assert anyio.sleep is not None
    project.tests(
        f"import anyio\n\n@pytest.fixture\ndef anyio_backend():\n    return '{backend}'\n\n"
        "@pytest.mark.anyio\n@pytest.mark.isotrace\nasync def test_marked():\n"
        "    await anyio.sleep(0.01)\n    assert 'kettle' in await asupport('Where?')\n\n"
        "@pytest.mark.anyio\nasync def test_fixture(golden):\n"
        "    assert 'kettle' in await golden.check(asupport, 'Where?')\n"
    )
    if backend == "trio":
        result = project.run("--isotrace=record", failed=2)
        assert (
            result.stdout.str().count("a golden test runs on asyncio, and this one on another loop (trio)")
            >= 2
        )
        return
    project.run("--isotrace=record", passed=2)
    project.run(passed=2)
    project.change("one short", "one")
    project.run(failed=2)
