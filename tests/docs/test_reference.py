"""docs/reference is what the code says, and all of it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import click
import pytest

import isotrace
from isotrace import errors
from isotrace.cli.app import COMMANDS, app
from isotrace.compare import Code

ROOT = Path(__file__).parents[2]


def load_script():
    spec = importlib.util.spec_from_file_location("reference_script", ROOT / "scripts/reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = load_script()


@pytest.mark.parametrize("name", reference.PAGES)
def test_page_is_what_the_code_gives(name: str) -> None:
    written = (ROOT / "docs/reference" / name).read_text("utf-8")
    assert written == reference.PAGES[name](), "run `make reference`"


@pytest.mark.parametrize("name", reference.PAGES)
def test_page_is_the_same_each_time_and_on_every_machine(name: str) -> None:
    text = reference.PAGES[name]()
    assert text == reference.PAGES[name]()
    assert not re.search(r"0x[0-9a-f]{6,}", text)
    assert str(ROOT) not in text


def test_every_command_and_option_is_documented() -> None:
    page = (ROOT / "docs/reference/cli.md").read_text("utf-8")
    for name in COMMANDS:
        command = app.get_command(click.Context(app), name)
        assert command is not None
        section = page.split(f"\n## isotrace {name}\n")[1].split("\n## ")[0]
        missing = [
            option
            for one in command.params
            if isinstance(one, click.Option)
            for option in one.opts
            if f"`{option}`" not in section
        ]
        assert missing == [], name


def test_every_code_error_and_public_name_is_documented() -> None:
    pages = {name: (ROOT / "docs/reference" / name).read_text("utf-8") for name in reference.PAGES}
    assert [code for code in Code if f"| `{code}` |" not in pages["divergences.md"]] == []
    kinds = [
        name for name, thing in vars(errors).items() if isinstance(thing, type) and name.endswith("Error")
    ]
    assert [name for name in kinds if f"| `{name}` |" not in pages["errors.md"]] == []
    names = [name for name in isotrace.__all__ if not name.startswith("_") and name != "errors"]
    assert [name for name in names if f"### `{name}`" not in pages["python-api.md"]] == []


def test_every_capture_and_source_says_what_it_captures_and_what_not() -> None:
    told = [name for names in reference.CAPTURED.values() for name in names]
    assert sorted(told) == sorted(reference.modules_with_captures()), "put it into CAPTURED"
    page = (ROOT / "docs/reference/captured.md").read_text("utf-8")
    for name in told:
        about = reference._about(name)
        rows = [row for steps in about.steps for row in steps]
        texts = [about.libraries, about.versions, *rows, *about.not_captured]
        assert [text for text in texts if reference._escaped(text) not in page] == [], name
        assert about.not_captured, f"{name} says of nothing that it is not captured"
        assert [text for text in about.not_captured if not text.endswith(".")] == []


def test_a_capture_that_does_not_say_so_fails_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    from isotrace.record.capture import httpx

    monkeypatch.delattr(httpx, "ABOUT")
    with pytest.raises(TypeError, match=r"isotrace\.record\.capture\.httpx has no ABOUT"):
        reference.captured_page()
