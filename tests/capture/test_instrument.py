"""Captures are put on when their library is imported, and taken off without a trace."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import httpx
import pytest

from isotrace.record import instrument


def run(code: str, *, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a program in a process of its own."""
    start = f"import sys; sys.path.insert(0, {str(path)!r})\n" if path is not None else ""
    return subprocess.run(
        [sys.executable, "-c", start + textwrap.dedent(code)], capture_output=True, text=True, timeout=60
    )


def test_what_was_there_comes_back_when_the_last_has_gone() -> None:
    before = httpx.Client._send_single_request
    first, second = instrument(), instrument()
    assert httpx.Client._send_single_request is not before
    first()
    first()
    assert httpx.Client._send_single_request is not before
    second()
    assert httpx.Client._send_single_request is before


def test_a_library_that_is_imported_later_is_captured_then() -> None:
    done = run("""
        import isotrace
        restore = isotrace.instrument()
        import httpx
        assert httpx.Client._send_single_request.__module__.startswith("isotrace.")
        assert httpx.__spec__.loader.__class__.__module__ == "_frozen_importlib_external"
        restore()
        assert httpx.Client._send_single_request.__module__ == "httpx._client"
        import sys
        assert not [finder for finder in sys.meta_path if "isotrace" in type(finder).__module__]
    """)
    assert (done.returncode, done.stderr) == (0, "")


OLD_POOLS = """
class HTTPConnectionPool:
    def _make_request(self, conn, method, url, timeout=None, chunked=False, **httplib_request_kw): ...
class HTTPSConnectionPool(HTTPConnectionPool):
    def _prepare_proxy(self, conn): ...
"""


@pytest.mark.parametrize(
    ("library", "files"),
    [
        ("aiohttp", {"__init__.py": "from aiohttp import connector\n", "connector.py": ""}),
        ("httpx", {"__init__.py": ""}),
        ("httpx2", {"__init__.py": "class Client: ...\nclass AsyncClient: ...\n"}),
        ("urllib3", {"__init__.py": "from urllib3 import connectionpool\n", "connectionpool.py": OLD_POOLS}),
    ],
)
def test_a_version_that_is_built_otherwise_is_named_and_the_program_goes_on(
    tmp_path: Path, library: str, files: dict[str, str]
) -> None:
    for name, text in {
        **files,
        "__init__.py": files["__init__.py"] + "__version__, answer = '0.9', 42\n",
    }.items():
        (tmp_path / library / name).parent.mkdir(exist_ok=True)
        (tmp_path / library / name).write_text(text)
    done = run(
        f"import isotrace; isotrace.instrument(); import {library} as it; print(it.answer)", path=tmp_path
    )
    assert (done.returncode, done.stdout) == (0, "42\n")
    assert (
        f"RecordingWarning: {library} 0.9 is not captured, its calls are none of the run's steps"
        in done.stderr
    )


def test_of_a_version_that_is_half_known_nothing_is_changed(tmp_path: Path) -> None:
    code = """
    class Client:
        def _send_single_request(self): ...
    class AsyncClient: ...
    class RequestError(Exception): ...
    """
    (tmp_path / "httpx.py").write_text(textwrap.dedent(code))
    done = run(
        "import isotrace; isotrace.instrument(); import httpx\n"
        "print(httpx.Client._send_single_request.__module__)",
        path=tmp_path,
    )
    assert (done.returncode, done.stdout) == (0, "httpx\n")
    assert "RecordingWarning: httpx of an unknown version is not captured" in done.stderr


def test_a_library_that_fails_to_import_fails_as_ever(tmp_path: Path) -> None:
    (tmp_path / "httpx.py").write_text("raise OSError('no such thing')\n")
    done = run("import isotrace; isotrace.instrument(); import httpx", path=tmp_path)
    assert done.stderr.splitlines()[-1] == "OSError: no such thing"
