"""Checked golden runs as JUnit XML, which continuous integration shows as tests."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from xml.sax.saxutils import escape, quoteattr

from isotrace.operations import Checked, CheckReport
from isotrace.report.safe import visible, visible_lines

# What XML 1.0 has no way to say, beyond what `visible` replaces.
_NO_XML = re.compile("[\ufffe\uffff]")


def junit_xml(report: CheckReport, *, started: datetime, hostname: str | None = None) -> str:
    """One test suite with a test case for each golden run.

    What diverged is a failure, what could not be checked an error, and what can't be told is skipped.
    `started` is the time of the check.
    """
    seconds = sum(one.seconds for one in report.checked)
    counts = {
        "tests": len(report.checked),
        "failures": report.count(1),
        "errors": report.count(2),
        "skipped": report.count(125),
        "time": f"{seconds:.3f}",
    }
    suite = {
        "name": "isotrace check",
        **counts,
        "timestamp": started.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        "hostname": hostname or socket.gethostname(),
    }
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        f"<testsuites{_attributes({'name': 'isotrace', **counts})}>",
        f"  <testsuite{_attributes(suite)}>",
        *(line for one in report.checked for line in _case(one)),
        "  </testsuite>",
        "</testsuites>",
        "",
    ]
    return "\n".join(lines)


_ELEMENTS = {1: "failure", 2: "error", 125: "skipped"}


def _case(one: Checked) -> list[str]:
    folder = one.path.parent.as_posix().strip("/.").replace("/", ".")
    attributes = {
        "classname": folder or "goldens",
        "name": one.path.name.removesuffix(".golden"),
        "time": f"{one.seconds:.3f}",
    }
    element = _ELEMENTS.get(one.exit_code)
    if element is None:
        return [f"    <testcase{_attributes(attributes)}/>"]
    kind = type(one.error).__name__ if one.error is not None else "INCONCLUSIVE"
    if one.error is None and one.first is not None:
        kind = one.first.code.value
    reason = one.reason or "it can't be told whether the run is the recorded one"
    said = (
        {"message": visible(reason)} if element == "skipped" else {"message": visible(reason), "type": kind}
    )
    return [
        f"    <testcase{_attributes(attributes)}>",
        f"      <{element}{_attributes(said)}>{_text(one, reason)}</{element}>",
        "    </testcase>",
    ]


def _text(one: Checked, reason: str) -> str:
    lines = [str(one.path), *visible_lines(reason)]
    if one.replayed is not None and (cause := one.replayed.data["cause"]) is not None:
        lines.append(f"{cause['why']}: {cause['message']}")
    if one.candidate is not None:
        lines.append(f"isotrace accept {one.path}")
    return escape(_clean("\n".join("\n".join(visible_lines(line)) for line in lines)))


def _attributes(values: Mapping[str, object]) -> str:
    return "".join(f" {name}={quoteattr(_clean(visible(str(value))))}" for name, value in values.items())


def _clean(text: str) -> str:
    return _NO_XML.sub(lambda match: f"<U+{ord(match[0]):04X}>", text)
