"""`--html FILE`"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import pytest

RUN_A, RUN_B = "a" * 32, "b" * 32


def test_show_writes_a_page_and_says_so(isotrace: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "run.html"
    said = isotrace("show", RUN_A, "--html", str(file))
    assert (said.code, said.out) == (0, f"wrote {file}\n")
    page = file.read_text("utf-8")
    assert page.startswith("<!doctype html>")
    assert "gateway timed out" in page
    assert [one.name for one in tmp_path.iterdir() if one.suffix in (".html", ".part")] == ["run.html"]


def test_page_goes_to_stdout(isotrace: Callable[..., Any]) -> None:
    said = isotrace("show", RUN_A, "--html", "-")
    assert said.out.startswith("<!doctype html>")
    assert said.out.endswith("</html>\n")


def test_json_comes_beside_the_page(isotrace: Callable[..., Any], tmp_path: Path) -> None:
    said = isotrace("show", RUN_A, "--json", "--html", str(tmp_path / "run.html"))
    assert said.json["run_id"] == RUN_A
    assert (tmp_path / "run.html").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--html", "-", "--json"], "both write to stdout"),
        (["--html", "x.html", "--step", "1"], "shows the whole run"),
        (["--html", "no/such/folder/x.html"], "the file can't be written"),
    ],
)
def test_what_does_not_go_is_named(isotrace: Callable[..., Any], options: list[str], words: str) -> None:
    said = isotrace("show", RUN_A, *options)
    assert said.code == 2
    assert words in said.err


def test_without_jinja_the_extra_is_named(
    isotrace: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from isotrace.report.html import environment

    environment._environment.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, jinja2.__name__, None)
    said = isotrace("show", RUN_A, "--html", "-")
    assert said.code == 2
    assert "pip install 'isotrace[html]'" in said.err


def test_diff_writes_a_page_and_says_the_verdict(isotrace: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "diff.html"
    said = isotrace("diff", RUN_A, RUN_B, "--level", "exact", "--html", str(file))
    assert said.code == 1
    verdict, wrote = said.out.splitlines()
    assert verdict.startswith("DIVERGED  ")
    assert wrote == f"wrote {file}"
    assert "Compared at level exact" in file.read_text("utf-8")


def test_diff_page_keeps_exit_code_and_json(isotrace: Callable[..., Any], tmp_path: Path) -> None:
    said = isotrace("diff", RUN_A, RUN_A, "--json", "--html", str(tmp_path / "diff.html"))
    assert (said.code, said.json["verdict"]) == (0, "MATCH")
    assert isotrace("diff", RUN_A, RUN_B, "--html", "-").out.startswith("<!doctype html>")


def test_behaviours_writes_a_page(isotrace: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "many.html"
    said = isotrace("behaviours", "--html", str(file))
    assert (said.code, said.out) == (0, f"wrote {file}\n")
    assert "runs took" in file.read_text("utf-8")
    assert isotrace("behaviours", "--json", "--html", str(file)).json["groups"][0]["runs"] == 2
    assert isotrace("behaviours", "--by", "status", "--html", "-").out.startswith("<!doctype html>")
