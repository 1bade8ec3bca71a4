"""A project's own rules: where they stand, and what is said of those that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from isotrace.errors import PluginError, UsageError
from isotrace.redact.config import Config, config_of, project_config
from isotrace.redact.redaction import Redaction
from isotrace.redact.wanted import redactors_wanted


def test_the_nearest_file_that_speaks_of_redaction_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "isotrace.toml").write_text('[redact]\nuse = ["email"]\n')
    project = tmp_path / "a" / "pyproject.toml"
    project.write_text('[project]\nname = "x"\n')
    monkeypatch.chdir(inner)
    assert project_config().use == ("email",)
    project.write_text('[tool.isotrace.redact]\nuse = ["card", "pattern:a"]\npatterns.a = "x+"\n')
    assert project_config().use == ("card", "pattern:a")
    monkeypatch.setenv("ISOTRACE_REDACT", "iban, card")
    assert redactors_wanted(["ip"], ["phone"]) == ["phone", "ip", "iban", "card", "pattern:a"]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"patterns": {"a": "(?<=x)y"}}, "isotrace.toml, redact.patterns.a"),
        ({"patterns": {"a": "("}}, "isotrace.toml, redact.patterns.a"),
        ({"patterns": {"a": "x" * 20_000}}, "a pattern is too long"),
        ({"patterns": {"a": ["x", "y"]}}, "a pattern is one text"),
        ({"patterns": {"Big Name": "x"}}, "lower-case letters"),
        ({"patterns": "x"}, "a table of names"),
        ({"keys": {"a": [1]}}, "a text, or a list of texts"),
        ({"places": {"a": "query"}}, "a JSON Pointer"),
        ({"places": {"a": ":/query"}}, "a JSON Pointer"),
        ({"use": "email"}, "a list of names"),
        ({"rules": {}}, "use, patterns, keys, places"),
        ([], "redact is a table"),
    ],
)
def test_a_rule_that_is_none_is_an_error_with_its_place(table: Any, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        config_of(table, "isotrace.toml")
    assert says in str(caught.value)
    assert "isotrace.toml" in str(caught.value)


def test_a_file_that_is_no_toml_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "isotrace.toml").write_text("[redact\n")
    with pytest.raises(UsageError, match="no TOML"):
        project_config(str(tmp_path))


def test_a_redactor_that_there_is_not_is_an_error_that_lists_the_good_ones() -> None:
    with pytest.raises(PluginError, match="card, email, iban"):
        Redaction(["emial"], Config(), None)
    rules = config_of({"patterns": {"order": "x"}}, "isotrace.toml")
    with pytest.raises(UsageError, match="pattern:order"):
        Redaction(["pattern:ordre"], rules, None)


def test_two_redactors_of_one_name_are_an_error() -> None:
    rules = config_of({"patterns": {"email": "x"}}, "isotrace.toml")
    with pytest.raises(UsageError, match="email, pattern:email"):
        Redaction(["email", "pattern:email"], rules, None)


def test_a_redactor_of_an_installed_package_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "staff-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: staff\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[isotrace.redactors]\nstaff = staff_redactor:Staff\nodd = staff_redactor:Odd\n"
    )
    (tmp_path / "staff_redactor.py").write_text(
        "class Staff:\n"
        "    name, version = 'staff', '7'\n"
        "    def find(self, text):\n"
        "        at = text.find('Ada')\n"
        "        return [(at, at + 3)] if at >= 0 else []\n"
        "class Odd(Staff):\n"
        "    name = 'Not A Name'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    redaction = Redaction(["staff", "email"], Config(), None)
    assert redaction.text("Ada and Ada, ada@x.org") == "[staff] and [staff], [email]"
    assert redaction.facts() == {"use": [["staff", "7"], ["email", "1"]]}
    with pytest.raises(PluginError, match="email, iban, ip, odd, phone, secrets, ssn, staff"):
        Redaction(["nobody"], Config(), None)
    with pytest.raises(UsageError, match="lower-case letters"):
        Redaction(["odd"], Config(), None)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("isotrace.toml", '[redcat]\nuse = ["secrets"]\n'),
        ("isotrace.toml", '[redaction]\nuse = ["secrets"]\n'),
        ("isotrace.toml", '[entries]\na = "a.py"\n[Redcat.keys]\nlogin = "pin"\n'),
        ("pyproject.toml", '[tool.isotrace.redcat]\nuse = ["secrets"]\n'),
    ],
)
def test_a_table_whose_name_is_a_slip_is_an_error_and_not_a_project_without_redactors(
    tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=r"no such table.*expected entries, redact; got \w*edc?a"):
        project_config(str(tmp_path))


def test_entries_alone_say_nothing_of_redaction(tmp_path: Path) -> None:
    (tmp_path / "isotrace.toml").write_text('[redact]\nuse = ["email"]\n')
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "isotrace.toml").write_text('[entries]\na = "a.py"\n')
    (inner / "pyproject.toml").write_text('[tool.isotrace.entries]\na = "a.py"\n')
    assert project_config(str(inner)).use == ("email",)
