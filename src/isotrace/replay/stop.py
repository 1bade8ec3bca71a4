"""What ends the agent's code in a replay."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from isotrace.compare.divergence import Divergence


class ReplayStop(BaseException):
    """Ends the agent's code where it parts from the record, or where the record ends.

    Not an `Exception`, so that an agent which survives every error does not survive this one.
    """


Stop = Callable[[Divergence], NoReturn]
"""Stops the replay with this divergence. The first one stands; what follows from it is not reported."""
