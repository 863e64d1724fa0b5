"""What every request may be the reason for is not logged for every request."""

from __future__ import annotations

import pytest

from shapes.http.api import complaints
from shapes.http.api.complaints import MOST_TEXTS, SECONDS, Complaints


def test_the_same_is_said_once_in_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(complaints.time, "monotonic", lambda: now)
    said = Complaints()
    for text in ("a", "a", "b", "a"):
        said.warn(text)
    assert caplog.messages == ["a", "b"]
    now += SECONDS
    said.warn("a")
    assert caplog.messages == ["a", "b", "a"]


def test_not_everything_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    said = Complaints()
    for number in range(MOST_TEXTS + 1):
        said.warn(str(number))
    said.warn("0")
    assert caplog.messages.count("0") == 2
