"""A clock that the tests of leases may set."""

import pytest

from tests.support.clock import Clock

pytest.register_assert_rewrite("tests.coordinator.leases.model")  # so that its asserts say what they compared


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The application's clock, which stands still from here on."""
    clock = Clock()
    monkeypatch.setattr("shared.protocol.datetime", clock)
    return clock
