"""Watching a queue."""

import pytest

from memgrid.launch import base
from memgrid.launch.base import Watch


class Clock:
    """Time that a test moves."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(base.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def look(watch, clock, results, seconds=60.0):
    clock.now += seconds
    return watch.ended(results)


def test_a_job_ends_with_its_result_or_when_it_has_left_the_queue_for_a_while(clock, tmp_path):
    queue = {"1_0", "1_1", "1_2"}
    watch = Watch(lambda: queue)
    results = {name: tmp_path / name for name in sorted(queue)}
    assert look(watch, clock, results) == []
    (tmp_path / "1_1").touch()
    assert look(watch, clock, results) == ["1_1"]
    del results["1_1"]
    queue.remove("1_2")
    assert look(watch, clock, results) == []  # its result may still be on its way
    assert look(watch, clock, results) == ["1_2"]


def test_a_job_that_comes_back_into_the_queue_is_not_lost(clock, tmp_path):
    queue = {"1"}
    watch = Watch(lambda: queue)
    queue.clear()
    assert look(watch, clock, {"1": tmp_path / "1"}) == []
    queue.add("1")
    assert look(watch, clock, {"1": tmp_path / "1"}) == []
    queue.clear()
    assert look(watch, clock, {"1": tmp_path / "1"}) == []
    assert look(watch, clock, {"1": tmp_path / "1"}) == ["1"]


def test_a_queue_that_does_not_answer_loses_nothing(clock, tmp_path):
    watch = Watch(lambda: None)
    assert [look(watch, clock, {"1": tmp_path / "1"}) for _ in range(5)] == [[]] * 5


def test_the_queue_is_asked_less_often_as_the_sweep_grows_old(clock, tmp_path):
    asked = []
    watch = Watch(lambda: asked.append(clock.now) or {"1"})
    for _ in range(3600):
        look(watch, clock, {"1": tmp_path / "1"}, seconds=1)
    assert 120 < len(asked) < 200
