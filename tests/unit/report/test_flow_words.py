"""What `flow=` is given, and the flow itself, against counting by hand."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs_maker import Run, finish, make_labels

from memgrid.errors import UserError
from memgrid.report.flows.sides import head_of, side_of
from memgrid.report.flows.table import every_flow, flow_table
from memgrid.report.flows.word import Asked, asked, pair_of
from memgrid.report.read import read_runs
from memgrid.report.rows import named

NAMES = st.text("abcdefghijklmnopqrstuvwxyz_0123456789", min_size=1)
VALUES = {
    "delta": st.integers(0, 10**9),
    "rho": st.floats(0, 1, exclude_min=True),
    "rouge": st.sampled_from(("both", "l", "3")),
    "p": st.floats(allow_nan=False),
}


@given(NAMES, st.fixed_dictionaries({}, optional=VALUES))
def test_what_is_typed_is_what_is_read(name, thresholds):
    wanted = Asked(name, thresholds)
    assert asked(wanted.text()) == wanted
    assert pair_of(f"{wanted.text()},rasy") == (wanted.text(), "rasy")


@given(st.text("ab@=,5.-xdeltrhoug ", max_size=24))
def test_anything_typed_is_read_or_refused_in_one_sentence(word):
    refusal, sides = "", ()
    try:
        sides = pair_of(word)
    except UserError as error:
        refusal = str(error)
    if sides:
        assert ",".join(sides) == word
        assert len(sides) == 2
        assert all(asked(side).name for side in sides)
    else:
        assert "\n" not in refusal
        assert any(f"flow={part}" in refusal for part in (word, *word.split(",")))


@pytest.mark.parametrize(
    ("word", "refusal"),
    [
        ("rasy", "flow=rasy does not name two taxonomies: write .*such as flow=prashanth@delta=5,rasy"),
        ("a,b,c", "flow=a,b,c does not name two taxonomies"),
        (",rasy", "flow= names no taxonomy"),
        ("prashanth@,rasy", "flow=prashanth@ has '' where a threshold and its value belong"),
        ("prashanth@delta,rasy", "flow=prashanth@delta has 'delta' where a threshold and its value belong"),
        ("prashanth@=5,rasy", "has '=5' where a threshold"),
        ("prashanth@delta=5@delta=6,rasy", "gives delta twice: give it once"),
        ("prashanth@delta=few,rasy", "gives delta the value 'few': give it a whole number"),
        ("prashanth@delta=-1,rasy", "delta=-1 is not a number of duplicates: it must be 0 or more"),
        ("prashanth,rasy@rho=nan", "gives rho the value 'nan': give it a number"),
        ("prashanth,rasy@rho=2", "rho=2.0 is not a ROUGE threshold: it must be above 0 and at most 1"),
        ("prashanth,rasy@rouge=4", "rouge=4 is unknown: use both or l or 3"),
    ],
)
def test_refusals(word, refusal):
    with pytest.raises(UserError, match=refusal):
        pair_of(word)


@pytest.fixture
def runs(tmp_path):
    finish(Run(tmp_path, taxonomy="prashanth", delta=50))
    finish(Run(tmp_path, rho=0.3))
    return named(read_runs(tmp_path)[0])


@pytest.mark.parametrize(
    ("word", "refusal"),
    [
        ("rasi", r"flow=rasi is no known taxonomy \(did you mean rasy\?\)"),
        ("prashanth@dleta=5", r"the unknown threshold dleta \(did you mean delta\?\): it reads delta"),
        ("rasy@delta=5", r"flow=rasy@delta=5 would change nothing: rasy does not read delta, leave it out \(it reads rho, rouge\)"),
        ("extractable@q=0.1", "the unknown threshold q: it reads p"),
    ],
)
def test_a_threshold_that_a_taxonomy_does_not_read(word, refusal, runs):
    with pytest.raises(UserError, match=refusal):
        side_of(word, runs)


def test_what_is_not_said_is_as_in_the_runs(runs):
    assert head_of(side_of("prashanth", runs)) == "prashanth (δ=50)"
    assert head_of(side_of("prashanth@delta=5", runs)) == "prashanth (δ=5)"
    assert head_of(side_of("rasy", runs)) == "rasy (ρ=0.3)"
    assert head_of(side_of("rasy@rouge=l@rho=0.7", runs)) == "rasy (ρ=0.7, ROUGE-L)"
    assert head_of(side_of("extractable@p=0.1", runs)) == "extractable (p=0.1)"


@pytest.mark.parametrize(("delta", "rho"), [(5, 0.3), (1000, 0.6)])
def test_every_ribbon_is_counted(delta, rho, runs, tmp_path):
    folder = make_labels(tmp_path, rows=500)
    pair = (f"prashanth@delta={delta}", f"rasy@rho={rho}")
    (flow,) = every_flow(tmp_path, runs, pair)
    table = flow_table([flow], pair)
    labels = {group: pl.read_parquet(folder / f"{group}.parquet").to_dicts() for group in ("memorized", "duplicates", "templates", "rouge")}
    expected = {}
    for memorized, duplicates, templates, rouge in zip(*labels.values(), strict=True):
        if memorized["memorized"]:
            template = templates["is_repeating"] or templates["is_incrementing"]
            left = "Recite" if duplicates["duplicates"] > delta else "Reconstruct" if template else "Recollect"
            right = "Guess" if template or max(rouge["rouge_l"], rouge["rouge_3"]) >= rho else "Recall"
            expected[left, right] = expected.get((left, right), 0) + 1
    assert {(row["from"], row["to"]): row["count"] for row in table.to_dicts()} == expected
    assert table.group_by("from").agg(pl.col("share").sum())["share"].to_list() == pytest.approx([100] * table["from"].n_unique())
