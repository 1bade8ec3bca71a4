"""Held against golden runs: offline, in seconds. `pytest --isotrace=record` asks the model, once."""

import pytest

from refunds.agent import answer


@pytest.mark.isotrace
def test_a_kettle_is_refunded_in_full():
    said = answer("My kettle W-1042 leaks. I want my money back.")
    assert "49.90" in said


@pytest.mark.isotrace
def test_a_toaster_is_too_old():
    said = answer("Please refund my toaster, W-0007.")
    assert "30 days" in said
