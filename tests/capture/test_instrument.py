"""Captures are put on when their library is imported, and taken off without a trace."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import httpx

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


def test_a_version_that_is_built_otherwise_is_named_and_the_program_goes_on(tmp_path: Path) -> None:
    (tmp_path / "httpx.py").write_text("__version__ = '9.0'\nanswer = 42\n")
    done = run("import isotrace; isotrace.instrument(); import httpx; print(httpx.answer)", path=tmp_path)
    assert (done.returncode, done.stdout) == (0, "42\n")
    assert "RecordingWarning: httpx 9.0 is not captured, its calls are none of the run's steps" in done.stderr


def test_a_library_that_fails_to_import_fails_as_ever(tmp_path: Path) -> None:
    (tmp_path / "httpx.py").write_text("raise OSError('no such thing')\n")
    done = run("import isotrace; isotrace.instrument(); import httpx", path=tmp_path)
    assert done.stderr.splitlines()[-1] == "OSError: no such thing"
