"""Degrees of memorization by way of `memgrid.runs`, from labels that are made up."""

import pytest
from degrees_maker import labelled, made_up, without
from painting import left_out
from runs_maker import Run, finish

import memgrid

KINDS = ("extraction", "prefix", "copies")


def test_tables_and_drawings_are_those_of_the_report(tmp_path):
    finish(Run(tmp_path))
    labelled(tmp_path, made_up())
    runs = memgrid.runs(tmp_path)
    assert set(runs.extraction()["class"]) == {"all", "Non-Memo", "Guess", "Recall"}
    assert runs.prefix()["prefix"].max() == 64
    assert runs.copies().height == 6
    drawn = {name: runs.draw(name) for name in KINDS}
    assert [len(drawing.png) for drawing in drawn.values()] == [1, 1, 1]
    assert len({drawing.png for drawing in drawn.values()}) == 3


def test_another_taxonomy_has_other_classes(tmp_path):
    finish(Run(tmp_path))
    labelled(tmp_path, made_up())
    runs = memgrid.runs(tmp_path)
    assert "Recite" in set(runs.prefix("prashanth")["class"])
    assert runs.draw("prefix", taxonomies=("rasy", "prashanth")).png != runs.draw("prefix").png


@pytest.mark.parametrize(
    ("lost", "missing", "words"),
    [
        (("degrees", "reference-ref"), KINDS, "taxonomy=extractable"),
        (("duplicates",), ("copies",), "-m taxonomy=extractable,recite stages=[label]"),
    ],
)
def test_what_is_missing_is_a_sentence_with_its_command(tmp_path, monkeypatch, lost, missing, words):
    monkeypatch.setattr(memgrid.Run, "command", lambda _, *words: " ".join(words))  # the settings of a run that is made up are not whole
    finish(Run(tmp_path))
    labelled(tmp_path, without(made_up(), *lost))
    runs = memgrid.runs(tmp_path)
    for name in KINDS:
        with left_out(True):
            drawing = runs.draw(name)
        assert bool(getattr(runs, name)().height) == (name not in missing)
        assert (drawing.missing is not None) == (name in missing)
        assert drawing.missing is None or ("no labels say" in drawing.missing and words in drawing.missing)
