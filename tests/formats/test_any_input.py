"""Whatever stands in a file, an importer gives good runs and named errors, and nothing else."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isotrace.contracts import ImportedRun
from isotrace.errors import ImportFormatError
from isotrace.formats.inspect_logs import InspectImporter
from isotrace.formats.mini_swe_agent import MiniSweAgentImporter
from isotrace.formats.swe_agent import SweAgentImporter
from isotrace.formats.tau2 import Tau2Importer
from isotrace.formats.tau_bench import TauBenchImporter
from isotrace.formats.vcr import VcrImporter
from isotrace.ledger import seal, verify
from isotrace.models import TraceRecord

IMPORTERS: dict[str, Any] = {
    one.name: one
    for one in (
        TauBenchImporter(),
        Tau2Importer(),
        MiniSweAgentImporter(),
        SweAgentImporter(),
        VcrImporter(),
        InspectImporter(),
    )
}
FORMATS = list(IMPORTERS)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(
        ["assistant", "user", "tool", "exit", "call_agent0001", "Error", "$iso:id", "0001-01-01", "{}"]
    )
)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "id", "$iso:id", "tool_calls"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
MANY = settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def samples(tau_bench_run, tau2_file, mini_file, swe_agent_file, inspect_log, cassette) -> dict[str, Any]:
    return {
        "tau-bench": [tau_bench_run, tau_bench_run],
        "tau2-bench": tau2_file,
        "mini-swe-agent": mini_file,
        "vcr": cassette,
        "swe-agent": swe_agent_file,
        "inspect": inspect_log,
    }


def outcome(name: str, data: bytes) -> list[Any]:
    """What an importer makes of the bytes; every good run is sealed and read back."""
    found: list[Any] = []
    try:
        found.extend(IMPORTERS[name].read(io.BytesIO(data), where="f.json", tenant_id="default"))
    except ImportFormatError as error:
        found.append(error)
    for item in found:
        if isinstance(item, ImportFormatError):
            assert (item.where, type(item.pointer)) == ("f.json", str)
            continue
        assert isinstance(item, ImportedRun)
        assert item.seed is not None
        ledger = seal(item.events, item.seed).ledger
        verify(ledger)
        record = ledger.record()
        assert TraceRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record
    return found


def places(node: Any) -> list[tuple[Any, Any]]:
    """Every container and key or index in a JSON value."""
    found: list[tuple[Any, Any]] = []
    for key, child in node.items() if isinstance(node, dict) else enumerate(node):
        found.append((node, key))
        if isinstance(child, dict | list):
            found.extend(places(child))
    return found


@pytest.mark.parametrize("name", FORMATS)
@MANY
@given(data=st.data())
def test_any_value_replaced_removed_or_repeated(samples, name, data):
    source = json.loads(json.dumps(samples[name]))
    for _ in range(data.draw(st.integers(1, 3))):
        found = places(source)
        if not found:
            break
        node, key = data.draw(st.sampled_from(found))
        action = data.draw(st.sampled_from(["replace", "remove", "repeat"]))
        if action == "replace":
            node[key] = data.draw(JSON)
        elif action == "remove":
            del node[key]
        elif isinstance(node, list):
            node.insert(key, node[key])
    outcome(name, json.dumps(source).encode())


@pytest.mark.parametrize("name", FORMATS)
@MANY
@given(data=st.data())
def test_any_byte_changed_or_cut(samples, name, data):
    raw = bytearray(json.dumps(samples[name]).encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    if data.draw(st.booleans()):
        raw[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del raw[at:]
        # The cut is always told.
        assert isinstance(outcome(name, bytes(raw))[-1], ImportFormatError)
    outcome(name, bytes(raw))


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=150, deadline=None)
@given(
    value=JSON | st.lists(JSON, max_size=3) | st.fixed_dictionaries({"messages": JSON, "simulations": JSON})
)
def test_any_json_at_all(name, value):
    outcome(name, json.dumps(value).encode())


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=100))
def test_any_bytes_at_all(name, data):
    assert all(isinstance(item, ImportFormatError) for item in outcome(name, data)) or data.strip() == b"[]"


@pytest.mark.parametrize("name", FORMATS)
def test_depth_and_length_without_content(name):
    for source in (
        b"[" * 1_000_000,
        b'{"simulations":' * 100_000,
        b'[{"traj":' + b"[" * 200_000,
        b'"' + b"x" * 100,
    ):
        assert [type(item) for item in outcome(name, source)] == [ImportFormatError]
