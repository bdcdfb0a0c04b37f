"""Long steps show how far they are: by a bar on a terminal, by a line per minute in a log, never where we are silenced."""

import logging

import pytest

from convergent import progress
from convergent.progress import Pace, took, track


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand, in seconds."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_per_minute_and_none_at_the_end(clock, caplog, capsys):
    caplog.set_level(logging.INFO)
    for _ in track(range(10), "reading layers"):
        clock[0] += 25
    assert caplog.messages == ["reading layers: 3 of 10", "reading layers: 6 of 10", "reading layers: 9 of 10"]
    caplog.clear()
    for _ in track(iter(range(3)), "so many", None):
        clock[0] += 60
    assert caplog.messages == ["so many: 1", "so many: 2", "so many: 3"]
    assert capsys.readouterr().out == ""


def test_something_is_due_after_its_seconds_and_not_at_once(clock):
    pace = Pace(10)
    assert [at for at in (0, 5, 10, 15, 19, 21, 22, 40) for clock[0] in [at] if pace.due()] == [10, 21, 40]


def test_a_duration_is_reported_in_seconds_or_minutes(clock):
    clock[0] = 6000
    assert [took(6000 - seconds) for seconds in (0.4, 99, 101, 5400)] == ["0 s", "99 s", "2 min", "90 min"]


def test_who_silences_the_package_sees_no_bar(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    logger = logging.getLogger("convergent")
    monkeypatch.setattr(logger, "level", logging.WARNING)
    assert list(track([1, 2], "aligning")) == [1, 2]
    assert "aligning" not in capsys.readouterr().out
    monkeypatch.setattr(logger, "level", logging.INFO)
    assert list(track([1, 2], "aligning")) == [1, 2]
    assert "aligning" in capsys.readouterr().out
