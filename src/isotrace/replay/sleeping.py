"""`time.sleep` in replayed code: what it waited for on record has passed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from isotrace.record.context import live_branch
from isotrace.record.patches import patch
from isotrace.replay.player import Player


def no_waiting() -> Callable[[], None]:
    """Lets `time.sleep` in the agent's own code only yield while it is replayed; gives the way back."""
    return patch(time, "sleep", _sleeping)


def _sleeping(plain: Callable[..., None]) -> Callable[..., None]:
    def sleep(seconds: Any, /) -> None:
        branch = live_branch()
        # Anything that is no number of seconds fails as it does.
        served = branch is not None and isinstance(branch.driver, Player)
        plain(0 if served and isinstance(seconds, int | float) and seconds >= 0 else seconds)

    return sleep
