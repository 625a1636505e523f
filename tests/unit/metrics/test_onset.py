"""What is memorized when, against counting by hand, on random histories and on awkward ones."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memgrid.metrics.onset import (
    AWAY,
    SHARES,
    History,
    class_rows,
    first_seen,
    flows,
    interval_text,
    last_class,
    onsets,
    quantile_step,
    step_rows,
)


@st.composite
def histories(draw):
    many, steps, rows = draw(st.integers(1, 3)), draw(st.integers(1, 6)), draw(st.integers(0, 7))
    classes = [[draw(st.integers(AWAY, many - 1)) for _ in range(rows)] for _ in range(steps)]
    at = sorted(draw(st.sets(st.integers(0, 10**6), min_size=steps, max_size=steps)))
    table = np.array(classes, np.int8).reshape(steps, rows)
    return History(tuple(at), tuple(f"step{step}" for step in at), table, tuple("ABC"[:many]))


def onset_by_hand(column):
    """The first step from which on no step is without it."""
    return next((at for at in range(len(column)) if all(place != AWAY for place in column[at:])), len(column))


@settings(max_examples=150)
@given(histories())
def test_onsets_classes_and_flows_equal_counting_by_hand(history):
    columns = history.classes.T.tolist()
    steps = len(history.steps)
    seen = [[at for at in range(steps) if column[at] != AWAY] for column in columns]
    assert onsets(history.memorized).tolist() == [onset_by_hand(column) for column in columns]
    assert first_seen(history.memorized).tolist() == [places[0] if places else steps for places in seen]
    assert last_class(history.classes).tolist() == [
        column[places[-1]] if places else AWAY for column, places in zip(columns, seen, strict=True)
    ]
    many = len(history.titles)
    for at, matrix in enumerate(flows(history)):
        for before in range(many + 1):
            for after in range(many + 1):
                ends = [before if before < many else AWAY, after if after < many else AWAY]
                assert matrix[before, after] == sum(
                    column[at : at + 2] == ends for column, places in zip(columns, seen, strict=True) if places
                )


@settings(max_examples=150)
@given(histories())
def test_rows_of_steps_and_classes_equal_counting_by_hand(history):
    columns, steps = history.classes.T.tolist(), len(history.steps)
    final = last_class(history.classes).tolist()

    def of(title, place):
        """Whether a class, or any, is meant."""
        return place != AWAY and (title == "all" or history.titles[place] == title)

    for row in step_rows(history).iter_rows(named=True):
        at, title = history.steps.index(row["step"]), row["class"]
        assert row["checkpoint"] == history.names[at]
        assert row["memorized"] == sum(of(title, column[at]) for column in columns)
        own = [column for column, place in zip(columns, final, strict=True) if of(title, place) and column[-1] != AWAY]
        assert row["onset"] == sum(onset_by_hand(column) == at for column in own)
        assert row["held"] == (pytest.approx(100 * sum(onset_by_hand(column) <= at for column in own) / len(own)) if own else None)
        if at == 0:
            assert (row["new"], row["forgotten"], row["forgotten_share"]) == (None, None, None)
            continue
        was = [column for column in columns if of(title, column[at - 1])]
        lost = [column for column in was if column[at] == AWAY]
        assert row["new"] == sum(of(title, column[at]) and column[at - 1] == AWAY for column in columns)
        assert row["forgotten"] == len(lost)
        assert row["forgotten_share"] == (pytest.approx(100 * len(lost) / len(was)) if was else None)
    for row in class_rows(history).iter_rows(named=True):
        ever = [column for column, place in zip(columns, final, strict=True) if of(row["class"], place)]
        last = [column for column in ever if column[-1] != AWAY]
        back = [column for column in last if any(place != AWAY for place in column[: onset_by_hand(column)])]
        assert (row["ever"], row["last"], row["forgotten"], row["interrupted"]) == (len(ever), len(last), len(ever) - len(last), len(back))
        for share in SHARES:
            by = next((at for at in range(steps) if last and sum(onset_by_hand(c) <= at for c in last) >= share * len(last)), None)
            assert row[f"onset_{share:.0%}"] == interval_text(history.steps, by)


@settings(max_examples=100)
@given(histories())
def test_what_comes_and_goes_adds_up(history):
    """At every step: memorized = before + new - forgotten; onsets of all steps are all that is memorized in the end."""
    rows = step_rows(history).filter(**{"class": "all"}).to_dicts()
    for before, now in itertools.pairwise(rows):
        assert now["memorized"] == before["memorized"] + now["new"] - now["forgotten"]
    assert sum(row["onset"] for row in rows) == rows[-1]["memorized"]
    whole, *classes = class_rows(history).to_dicts()
    for name in ("ever", "last", "forgotten", "interrupted"):
        assert whole[name] == sum(row[name] for row in classes)
    for matrix, following in itertools.pairwise(flows(history)):
        assert matrix.sum(0).tolist() == following.sum(1).tolist()


def test_a_step_is_an_interval_of_what_was_run():
    assert [interval_text((5, 1000, 20_000), place) for place in (0, 1, 2, None)] == ["by 5", "5–1,000", "1,000–20,000", "–"]
    assert quantile_step(np.array([], int), 0.5) is None
    assert [quantile_step(np.array([3, 0, 1, 1]), share) for share in (0.25, 0.5, 0.75, 0.9, 1.0)] == [0, 1, 1, 3, 3]
