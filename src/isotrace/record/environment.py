"""What of the surroundings can change an agent's behaviour: a fingerprint kept with each run."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from functools import cache
from typing import Any


@cache
def _packages() -> str:
    """SHA-256 over the names of all installed distributions with their versions.

    The names of the `*.dist-info` folders say both; reading the metadata itself would take a
    hundred times as long.
    """
    found: set[str] = set()
    for folder in sys.path:
        try:
            with os.scandir(folder or ".") as entries:
                found.update(
                    entry.name for entry in entries if entry.name.endswith((".dist-info", ".egg-info"))
                )
        except OSError:
            continue
    return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()


def fingerprint() -> dict[str, Any]:
    """Python, platform, hash seed and installed packages, as plain values."""
    return {
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "platform": sys.platform,
        "hash_seed": os.environ.get("PYTHONHASHSEED", "random"),
        "packages": _packages(),
    }
