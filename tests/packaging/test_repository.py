"""What is committed: nothing of the machine it was made on."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Spelled in pieces, so that this file does not hold what it looks for.
FORBIDDEN = re.compile(
    "|".join(
        [
            r"/wo" + r"rk/(main|shared|\.)",
            r"/ro" + r"ot/",
            r"/ho" + r"me/(?!me/)\w",  # that of an example is nobody's
            r"py" + r"pi\.org",
            r"pythonhos" + r"ted\.org",
            r"regis" + r"try\.npmjs",
            r"--(extra-)?index" + r"-url",
        ]
    )
)


def committed_files() -> list[Path]:
    """The files that git tracks. Skips outside a checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_no_committed_file_names_a_machine_path_or_a_registry_host() -> None:
    found = []
    for path in committed_files():
        if not path.is_file():
            continue
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
            if FORBIDDEN.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_the_search_finds_what_it_looks_for() -> None:
    for text in ("/ro" + "ot/x", "https://py" + "pi.org/simple", "/wo" + "rk/main/src"):
        assert FORBIDDEN.search(text)
