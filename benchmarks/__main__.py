"""`python -m benchmarks [--only NAME]… [--json] [--folder DIR]`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.measuring import Figure
from benchmarks.table import machine, render

BENCHMARKS = {
    "hot-path": ("hot_path", "measure"),
    "sealing": ("sealing", "measure"),
    "listing": ("listing", "measure"),
    "replay": ("replaying", "measure"),
    "compare": ("comparing", "compared"),
    "align": ("comparing", "aligned"),
    "capture": ("capturing", "measure"),
    "behaviours": ("behaviours", "measure"),
    "disk": ("disk", "measure"),
    "start-up": ("startup", "measure"),
}
"""Name on the command line: module and function. A module is loaded when it is its turn."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; 1 if a target was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What isotrace costs.")
    parser.add_argument(
        "--only", action="append", choices=BENCHMARKS, help="measure this only; may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--folder", type=Path, help="where files are written; decides which disk is measured")
    options = parser.parse_args(arguments)
    figures: list[Figure] = []
    for name in options.only or BENCHMARKS:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="isotrace-benchmark-", dir=options.folder) as folder:
            figures += _function(name)(Path(folder))
    if options.json:
        print(json.dumps({"machine": machine(), "figures": [one.to_dict() for one in figures]}, indent=2))
    else:
        print(render(figures))
    return int(any(figure.passed is False for figure in figures))


def _function(name: str) -> Callable[[Path], list[Figure]]:
    module, function = BENCHMARKS[name]
    chosen: Callable[[Path], list[Figure]] = getattr(import_module(f"benchmarks.{module}"), function)
    return chosen


if __name__ == "__main__":
    sys.exit(main())
