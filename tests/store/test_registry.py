"""Stores and formats by name."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from isotrace import registry
from isotrace.errors import PluginError, StoreUnavailableError, UsageError
from isotrace.registry import exporter, importer, importers, open_store
from isotrace.stores.memory import MemoryStore
from isotrace.stores.sqlite import SqliteStore


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (None, "{cwd}/.isotrace/traces.db"),
        ("runs.db", "{cwd}/runs.db"),
        ("sqlite:///runs.db", "{cwd}/runs.db"),
        ("SQLITE:///a/runs.db", "{cwd}/a/runs.db"),
        ("sqlite:///{cwd}/runs.db", "{cwd}/runs.db"),
        ("{cwd}/runs.db", "{cwd}/runs.db"),
        ("./odd:name.db", "{cwd}/odd:name.db"),
        ("c:runs.db", "{cwd}/c:runs.db"),
    ],
)
def test_a_file_is_named_by_path_or_url(
    url: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(None if url is None else url.format(cwd=tmp_path))
    assert isinstance(store, SqliteStore)
    assert store.path == Path(expected.format(cwd=tmp_path))
    store.close()


def test_a_path_object_is_a_file_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(Path("memory:"))
    assert isinstance(store, SqliteStore)
    store.close()


def test_a_store_opens_again_by_its_own_url(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "traces.db") as store:
        again = open_store(store.url, create=False)
        assert again.url == store.url
        again.close()


def test_memory_is_a_new_store_each_time() -> None:
    first, second = open_store("memory:"), open_store("memory:")
    assert isinstance(first, MemoryStore)
    assert first is not second


def test_a_store_is_created_only_if_that_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError):
        open_store(tmp_path / "traces.db", create=False)


@pytest.mark.parametrize("url", ["sqlite:", "sqlite://", "sqlite:///", "sqlite:runs.db", "sqlite://runs.db"])
def test_a_malformed_url_says_how_it_should_look(url: str) -> None:
    with pytest.raises(UsageError, match="sqlite:///"):
        open_store(url)


def test_an_unknown_scheme_lists_the_known_ones() -> None:
    with pytest.raises(PluginError) as caught:
        open_store("postgres://localhost/runs")
    assert (caught.value.expected, caught.value.got) == ("memory, sqlite", "postgres")


def test_every_built_in_format_has_its_own_name() -> None:
    assert {name: one.name for name, one in importers().items()} == {
        "claude-code": "claude-code",
        "golden": "golden",
        "inspect": "inspect",
        "jsonl": "jsonl",
        "langfuse": "langfuse",
        "mini-swe-agent": "mini-swe-agent",
        "openai-agents": "openai-agents",
        "swe-agent": "swe-agent",
        "tau-bench": "tau-bench",
        "tau2-bench": "tau2-bench",
        "temporal": "temporal",
        "vcr": "vcr",
    }
    assert importer("tau2").name == importer("tau2-bench").name == "tau2-bench"
    assert exporter("jsonl").name == "jsonl"
    assert exporter("vcr").name == "vcr"


def test_an_unknown_format_lists_the_known_ones() -> None:
    with pytest.raises(
        PluginError, match="openai-agents, swe-agent, tau-bench, tau2-bench, temporal, vcr; got csv"
    ):
        importer("csv")
    with pytest.raises(PluginError, match="jsonl, vcr; got parquet"):
        exporter("parquet")


class Plugin:
    """Stands for what an installed extension brings."""

    name = "csv"

    def __init__(self, url: str = "") -> None:
        self.url = url


def _install(monkeypatch: pytest.MonkeyPatch, group: str, name: str, value: str) -> None:
    def entry_points(*, group: str) -> list[EntryPoint]:
        return [point] if point.group == group else []

    point = EntryPoint(name, value, group)
    monkeypatch.setattr(registry, "entry_points", entry_points)


def test_an_installed_store_is_found_by_its_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, "isotrace.stores", "cloud", f"{__name__}:Plugin")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    assert open_store("cloud://bucket/runs").url == "cloud://bucket/runs"


def test_an_installed_importer_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, "isotrace.importers", "csv", f"{__name__}:Plugin")
    assert importer("csv").name == "csv"
    assert list(importers())[-1] == "csv"


def test_an_extension_that_can_not_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, "isotrace.exporters", "broken", "no_such_module:Exporter")
    with pytest.raises(PluginError, match=r"exporter can't be loaded.*broken.*no_such_module"):
        exporter("broken")


def test_built_in_names_are_found_without_looking_at_installed_packages(tmp_path: Path) -> None:
    script = f"""
import sys
from isotrace.registry import open_store
import isotrace.registry as registry
def refuse(**_):
    raise AssertionError("the metadata of installed packages was read")
registry.entry_points = refuse
open_store({str(tmp_path / "traces.db")!r}).close()
registry.importer("jsonl")
assert "pytest" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
