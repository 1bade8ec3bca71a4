"""Telling people that recording went wrong, without disturbing the agent."""

from __future__ import annotations

import logging
import warnings

from isotrace.errors import RecordingWarning


def warn(text: str) -> None:
    """Issues a `RecordingWarning`. Where warnings are turned into errors it is logged instead: the
    agent goes on in any case."""
    try:
        warnings.warn(RecordingWarning(text), stacklevel=3)
    except RecordingWarning:
        logging.getLogger("isotrace").error(text)
