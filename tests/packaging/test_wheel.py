"""What is in the wheel and in the source distribution: the package, whole, and nothing stray."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="the build back-end is not installed here")

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/isotrace"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a freshly built wheel and sdist."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return folder


def test_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    inside = {name for name in names if name.startswith("isotrace/")}
    source = {
        f"isotrace/{path.relative_to(PACKAGE)}"
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == source
    assert {Path(name).suffix for name in inside} <= {
        ".py",
        ".typed",
        ".sql",
        ".json",
        ".html",
        ".css",
        ".js",
    }
    outside = {name.split("/", 1)[1] for name in names if not name.startswith("isotrace/")}
    assert outside == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}


def test_sdist_holds_tests_and_docs_but_no_environment(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        tops = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert {"src", "tests", "docs", "README.md", "LICENSE", "pyproject.toml"} <= tops
    assert not tops & {".venv", "site", ".isotrace", "dist", ".git"}
